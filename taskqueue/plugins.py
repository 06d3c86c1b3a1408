"""Which plugins are installed, read from the metadata of installed distributions alone.

A distribution names its plugins in its `entry_points.txt`, and this module gives the `Plugin` of each worker type:

    [worker.plugins]
    resize = taskqueue_images.resize:Worker.factory

An entry point may name extras of its distribution, `webhook = taskqueue.webhook.plugin:Webhook.factory [http]`: where
what they require is not installed, the plugin is left out quietly, as a part of the distribution that nobody chose.

It must never import a plugin: the pool calls it as root. `worker.loading` imports one, as the group's user.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions

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
    named: dict[str, Distribution] = {}
    for distribution in distributions():
        name = next(iter(distribution.metadata.get_all("Name") or ()), "")
        if name:
            named.setdefault(name, distribution)  # that of the first directory of sys.path
    names = {_normal(name) for name in named}
    for name, distribution in named.items():
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
            elif not names.issuperset(_required(entry, distribution.requires or ())):
                log.debug("plugin left out: name=%s distribution=%s extras=%s", entry.name, name, entry.extras)
            elif entry.name in found:
                first = found[entry.name].distribution
                log.error("plugin left out: name=%s distribution=%s claimed_by=%s", entry.name, name, first)
            else:
                stamp = f"{entry.value}\n{distribution.version}\n{distribution.read_text('RECORD') or ''}"
                found[entry.name] = Plugin(entry.name, entry.value, name, distribution.version, hash(stamp))
    return dict(sorted(found.items()))


_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)[^;]*;\s*extra\s*==\s*['\"]([^'\"]+)['\"]\s*")
"""A requirement of an extra, as metadata has it: `pycurl>=7.45.2; extra == "http"`. Others are not looked at, nor is
one with a further condition: to evaluate that needs a library."""


def _required(entry: EntryPoint, requirements: Iterable[str]) -> set[str]:
    """The distributions that the extras of an entry point require. Versions are pip's and apt's business."""
    extras = {_normal(extra) for extra in entry.extras}
    if not extras:
        return set()
    parsed = filter(None, map(_REQUIREMENT.fullmatch, requirements))
    return {_normal(each[1]) for each in parsed if _normal(each[2]) in extras}


def _normal(name: str) -> str:
    """The name of a distribution, or of an extra, in one spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()
