"""Which plugins are installed, read from entry-point metadata alone.

It must never import a plugin: it runs in the pool, as root. `worker.loading` imports one, as the group's user.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from importlib.metadata import distributions

from taskqueue.workitem import TYPE_PATTERN

log = logging.getLogger(__name__)

GROUP = "worker.plugins"


@dataclass(frozen=True, slots=True)
class Plugin:
    """One installed plugin. `fingerprint` changes whenever what is installed changes; it says nothing to another
    process."""

    worker_type: str
    entry_value: str
    """`package.module:object`, as the entry point says."""
    distribution: str
    version: str
    fingerprint: int


def installed() -> dict[str, Plugin]:
    """All installed plugins by worker type. A name that two distributions claim goes to the first on `sys.path`."""
    importlib.invalidate_caches()
    found: dict[str, Plugin] = {}
    seen: set[str] = set()
    for distribution in distributions():
        name = next(iter(distribution.metadata.get_all("Name") or ()), "")
        if not name or name in seen:  # shadowed by an earlier directory of sys.path
            continue
        seen.add(name)
        try:
            entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
        except Exception as error:  # whatever its entry_points.txt is: the others are none the worse for it
            log.error("distribution left out: name=%s entry_points.txt cannot be read: %r", name, error)
            continue
        for entry in entries:
            if TYPE_PATTERN.fullmatch(entry.name) is None:
                log.error(
                    "plugin left out: name=%r distribution=%s expected=%s", entry.name, name, TYPE_PATTERN.pattern
                )
            elif entry.name in found:
                first = found[entry.name].distribution
                log.error("plugin left out: name=%s distribution=%s claimed_by=%s", entry.name, name, first)
            else:
                stamp = f"{entry.value}\n{distribution.version}\n{distribution.read_text('RECORD') or ''}"
                found[entry.name] = Plugin(entry.name, entry.value, name, distribution.version, hash(stamp))
    return dict(sorted(found.items()))
