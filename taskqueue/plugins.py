"""Which plugins are installed, read from the metadata of installed distributions alone.

A distribution names its plugins in its `entry_points.txt`, and this module gives the `Plugin` of each worker type:

    [worker.plugins]
    resize = taskqueue_images.resize:Worker.factory

It must never import a plugin: the pool calls it as root. `worker.loading` imports one, as the group's user.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from importlib.metadata import distributions

from taskqueue.workitem import TYPE_PATTERN

log = logging.getLogger(__name__)

GROUP = "worker.plugins"
"""The entry-point group of plugins."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One installed plugin."""

    worker_type: str
    """The name of its entry point."""
    entry_value: str
    """The value of its entry point, `package.module:object`."""
    distribution: str
    """The name of the distribution that brings it."""
    version: str
    fingerprint: int
    """It changes whenever the distribution's version or files change, so that the pool restarts the group. Compare it
    within one process only: Python's `hash` differs between processes."""


def installed() -> dict[str, Plugin]:
    """All installed plugins by worker type, sorted. It never raises for a broken distribution: it logs an error.

    Where two distributions bring the same worker type, the one that comes first on `sys.path` has it.
    """
    importlib.invalidate_caches()
    found: dict[str, Plugin] = {}
    seen: set[str] = set()
    for distribution in distributions():
        name = next(iter(distribution.metadata.get_all("Name") or ()), "")
        if not name or name in seen:  # an earlier directory of sys.path has this distribution
            continue
        seen.add(name)
        try:
            entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
        except Exception as error:  # whatever is wrong with its entry_points.txt, the other plugins can be used
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
