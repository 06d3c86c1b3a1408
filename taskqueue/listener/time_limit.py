"""The hard time limit: finds the workers whose workitem exceeds `time_limit`, to be killed.

One timer serves all workers: it is set for the earliest deadline. This module must never kill a worker itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from taskqueue.foundation.loop import Loop, Timer
from taskqueue.listener.worker_process import Worker


class TimeLimit:
    """Calls `on_overdue(worker)` once for each of `workers` that runs a workitem for more than `limit_s` seconds.

    Without effect where `limit_s` is None.
    """

    def __init__(
        self, loop: Loop, limit_s: float | None, workers: Iterable[Worker], on_overdue: Callable[[Worker], None]
    ) -> None:
        self._loop = loop
        self._limit_s = limit_s
        self._workers = workers
        self._on_overdue = on_overdue
        self._timer: Timer | None = None
        self._overdue: set[Worker] = set()
        """Workers that were found overdue: they are being killed, and not reported again."""

    def watch(self) -> None:
        """Set the timer where none is set. Call this when a run was assigned."""
        if self._limit_s is not None and self._timer is None:
            self._check()

    def _check(self) -> None:
        assert self._limit_s is not None
        self._timer = None
        now = time.monotonic()
        deadlines = []
        self._overdue.intersection_update(self._workers)
        for worker in set(self._workers) - self._overdue:
            starts = [run.started for run in worker.running() if run.started is not None]
            if not starts:
                continue
            deadline = min(starts) + self._limit_s
            if deadline <= now:
                self._overdue.add(worker)
                self._on_overdue(worker)
            else:
                deadlines.append(deadline)
        if deadlines:
            self._timer = self._loop.call_later(min(deadlines) - now, self._check)
