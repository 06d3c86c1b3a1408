"""The processes below the pool, as Linux has them: which of them died, and orphans that are to be killed.

A worker is the template's child. Where the template dies first, Linux makes the pool the worker's parent, because the
pool is a subreaper (prctl(2)). It must never decide which child is wanted: the pool says which ones it knows.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection

from taskqueue.host import kernel

log = logging.getLogger(__name__)


class Children:
    """The children of this process."""

    def adopt_orphans(self) -> None:
        """Become the parent of descendants whose own parent dies."""
        kernel.adopt_orphans()

    def reap(self) -> list[tuple[int, int]]:
        """(pid, exit code) of every child that has died since the last call; negative for a signal."""
        return kernel.reap()

    def kill_all_but(self, known: Collection[int]) -> None:
        """SIGKILL to each child whose pid is not in `known`: the workers that a dead template has left behind."""
        for pid in kernel.children(os.getpid()).difference(known):
            log.warning("orphan killed: pid=%d", pid)
            kernel.kill(pid)
