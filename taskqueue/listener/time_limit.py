"""The hard time limit: says which worker has run a workitem for too long. One timer, for whoever is due next."""

from __future__ import annotations

import time
from collections.abc import Callable

from taskqueue.foundation.loop import Loop, Timer
from taskqueue.listener.workers import Worker, Workers


class TimeLimit:
    """Calls `overdue(worker)` for each worker that runs longer than `limit_s` seconds; nothing where that is None."""

    def __init__(self, loop: Loop, limit_s: float | None, workers: Workers, overdue: Callable[[Worker], None]) -> None:
        self._loop = loop
        self._limit_s = limit_s
        self._workers = workers
        self._overdue = overdue
        self._timer: Timer | None = None
        self._told: set[Worker] = set()
        """Workers that are overdue and were said to be: they are being killed."""

    def watch(self) -> None:
        """Something may run now."""
        if self._limit_s is not None and self._timer is None:
            self._check()

    def _check(self) -> None:
        assert self._limit_s is not None
        self._timer = None
        now = time.monotonic()
        dues = []
        self._told.intersection_update(self._workers)
        for worker in set(self._workers) - self._told:
            starts = [run.started for run in self._workers.running(worker) if run.started is not None]
            if not starts:
                continue
            due = min(starts) + self._limit_s
            if due <= now:
                self._told.add(worker)
                self._overdue(worker)
            else:
                dues.append(due)
        if dues:
            self._timer = self._loop.call_later(min(dues) - now, self._check)
