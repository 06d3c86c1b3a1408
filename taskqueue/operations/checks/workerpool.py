"""Checks of what this host's workerpool says of itself, and of this host's clock."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from taskqueue import __version__
from taskqueue.errors import PoolUnavailable
from taskqueue.operations.findings import Finding, ok, problem, warning
from taskqueue.operations.wording import last_line
from taskqueue.status.document import Group, Pool

POOL_SERVICE = "python-taskqueue-workerpool"
_TIME_ERROR = 5
"""adjtimex(2) gives it where nothing keeps the clock right."""


def workerpool(pool: Pool | PoolUnavailable, wanted: set[str]) -> Iterator[Finding]:
    """Whether the pool runs, with the groups `wanted` by name, and what keeps those that do not run.

    `pool`: what it says of itself, or why it cannot be asked.
    """
    if isinstance(pool, Pool):
        yield from _of_pool(pool, wanted)
    elif not wanted:
        yield ok("workerpool", "none runs here, and no plugin wants one")
    elif "permission" in str(pool):
        yield warning("workerpool", str(pool), "run taskqueue doctor as root")
    else:
        yield problem("workerpool", str(pool), f"systemctl start {POOL_SERVICE}; journalctl -u {POOL_SERVICE}")


def _of_pool(pool: Pool, names: set[str]) -> Iterator[Finding]:
    reload = f"systemctl reload {POOL_SERVICE}"
    if pool.version != __version__:
        yield warning(
            "workerpool", f"it runs version {pool.version}, installed is {__version__}",
            f"systemctl restart {POOL_SERVICE}",
        )  # fmt: skip
    found = {group.name: group for group in pool.groups}
    for name in sorted(names ^ found.keys()):
        what = "is to run, and the workerpool does not know it" if name in names else "runs, and is no longer wanted"
        yield warning("workerpool", f"{name} {what}", reload)
    for group in pool.groups:
        yield from _of_group(group)
    workers = sum(len(group.workers) for group in pool.groups)
    running = sum(group.state == "running" for group in pool.groups)
    yield ok("workerpool", f"pid {pool.pid}, {running} of {len(pool.groups)} groups run, {workers} workers")


def _of_group(group: Group) -> Iterator[Finding]:
    if group.state in {"backoff", "refused"} or (group.state == "starting" and group.last_error):
        yield problem(
            "workerpool", f"{group.name} does not run ({group.state}): {last_line(group.last_error or '')}",
            f"taskqueue plugins {group.name} shows where; it is tried again by itself",
        )  # fmt: skip
    for generation in group.generations:
        if generation.connected is False and generation.trouble:
            yield problem(
                "workerpool", f"{group.name} is not connected to the broker: {generation.trouble}",
                "see what is said of the connection; it connects by itself",
            )  # fmt: skip


def clock() -> Iterator[Finding]:
    """Whether the kernel takes the clock for right (adjtimex(2))."""
    buffer = ctypes.create_string_buffer(512)  # struct timex; modes 0: only look
    state = ctypes.CDLL(None).adjtimex(buffer)
    if state == _TIME_ERROR:
        yield warning(
            "clock", "nothing keeps this host's clock right; delays and times of results depend on it",
            "install chrony or systemd-timesyncd; timedatectl shows its state",
        )  # fmt: skip
    elif state >= 0:
        yield ok("clock", "synchronised, says the kernel")
