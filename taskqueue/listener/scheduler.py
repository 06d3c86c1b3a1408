"""Which worker gets which run: assigns, queues short work ahead, and takes back what stands behind long work.

1. Workers A and B are free. Runs 1 and 2 are assigned to A and B; run 3 finds no worker and waits.
2. Reports show that workitems take 1 ms: runs 3 to 7 are assigned ahead, to the worker with the fewest, so that no
   worker waits for the listener between two workitems.
3. B has reported all of its runs and is free, and nothing waits: `rebalance` takes back half of what A has not read.
4. Run 4 takes minutes: `recall_from_slow` takes back what is queued behind it.
5. The connection is lost: `recall_all` takes back all that no worker has read.

A run that may have crashed a worker is assigned alone; a hand-out, which must begin in time, never ahead. This module
must never publish, settle or blame.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from taskqueue.errors import LinkError
from taskqueue.link.assignment import Assignment
from taskqueue.listener.run import Run
from taskqueue.listener.states import RunState
from taskqueue.listener.worker_process import Worker

_AHEAD_S = 0.005
"""Seconds of work, by the mean runtime, that are queued ahead to a worker: more would wait behind one that is slow."""
_AHEAD_LIMIT = 16
"""Workitems that are queued ahead to a worker at most, however short they are."""
_MEAN_WEIGHT = 0.1
"""Weight of the newest runtime in the mean: a change of the work shows after about ten workitems."""


class Scheduler:
    """Assigns runs to workers, each of which runs `concurrency` at a time.

    `on_protocol_error(worker, error)` is called for a worker that can be sent nothing.
    """

    def __init__(self, concurrency: int, on_protocol_error: Callable[[Worker, str], None]) -> None:
        self.workers: dict[int, Worker] = {}
        """All workers of the group, by pid."""
        self.free: dict[int, Worker] = {}
        """The ready workers that run fewer than `concurrency`, by pid, in the order in which they became free."""
        self.mean_s: float | None = None
        """Mean runtime of the last workitems in seconds, weighted to the newest; None before the first report."""
        self.reported_at = time.monotonic()
        """When the last report came, on the monotonic clock."""
        self._concurrency = concurrency
        self._on_protocol_error = on_protocol_error

    # -- to the workers

    def assign(self, run: Run) -> bool:
        """Send `run` to a worker that is free, or ahead to one that will soon be; False where there is none."""
        worker = self._pick(run)
        if worker is None:
            return False
        assignment = Assignment(
            run.number,
            run.message_id,
            run.attempt,
            run.properties.content_type,
            run.properties.content_encoding,
            run.properties.headers or {},
        )
        try:
            if not worker.link.send(assignment, run.delivery.body):
                self.free.pop(worker.pid, None)  # the kernel's queue is full: free again with its next report
                return False
        except LinkError as error:
            self._on_protocol_error(worker, str(error))
            return False
        run.life.move(RunState.ASSIGNED)
        if len(worker.given) < self._concurrency:
            run.started = time.monotonic()
        worker.given[run.number] = run
        if len(worker.given) >= self._concurrency or run.alone:
            self.free.pop(worker.pid, None)
        return True

    def reported(self, worker: Worker, runtime_ms: float, *, last: bool) -> None:
        """`worker` has reported a run that took `runtime_ms` milliseconds; its `last`, or it may get another."""
        worker.slow = False
        seconds = runtime_ms / 1000
        self.mean_s = seconds if self.mean_s is None else self.mean_s + (seconds - self.mean_s) * _MEAN_WEIGHT
        self.reported_at = time.monotonic()
        if worker.given:
            worker.begin_next(self.reported_at)
        if last:
            self.leave(worker)
        elif len(worker.given) < self._concurrency and not worker.leaving:
            self.free[worker.pid] = worker

    def leave(self, worker: Worker) -> None:
        """Assign nothing more to `worker`."""
        worker.leaving = True
        self.free.pop(worker.pid, None)

    def _pick(self, run: Run) -> Worker | None:
        if run.alone:
            return next((worker for worker in self.free.values() if not worker.given), None)
        if self.free:
            return next(iter(self.free.values()))
        if run.handout is not None:
            return None
        fewest = self._concurrency + self._ahead_limit()
        if fewest == self._concurrency:
            return None
        least: Worker | None = None
        for worker in self.workers.values():
            if worker.ready and not worker.leaving and not worker.slow and len(worker.given) < fewest:
                fewest, least = len(worker.given), worker
        return None if least is None or any(given.alone for given in least.given.values()) else least

    def _ahead_limit(self) -> int:
        if self.mean_s is None:
            return 0
        return min(_AHEAD_LIMIT, int(_AHEAD_S / max(self.mean_s, 1e-6)))

    # -- back from the workers

    @property
    def ahead(self) -> int:
        """How many runs were assigned ahead."""
        return sum(worker.ahead for worker in self.workers.values())

    def rebalance(self) -> list[Run]:
        """Where a worker is free: half of what is queued ahead to the worker with the most, oldest first."""
        if not self.free:
            return []
        busiest = max(self.workers.values(), key=lambda worker: len(worker.given), default=None)
        if busiest is None or not busiest.ahead:
            return []
        return self._recall(busiest, (busiest.ahead + 1) // 2)

    def recall_from_slow(self, longer_s: float) -> list[Run]:
        """All that stands unread behind runs that have lasted `longer_s` seconds; their workers are slow from now."""
        now = time.monotonic()
        recalled: list[Run] = []
        for worker in self.workers.values():
            oldest = next(iter(worker.given.values()), None)
            if oldest is not None and oldest.started is not None and now - oldest.started >= longer_s:
                worker.slow = True
                recalled += self._recall(worker)
        return recalled

    def recall_all(self) -> list[Run]:
        """All that no worker has read."""
        return [run for worker in self.workers.values() for run in self._recall(worker)]

    def _recall(self, worker: Worker, limit: int | None = None) -> list[Run]:
        recalled = worker.take_unread(limit)
        if recalled and len(worker.given) < self._concurrency and worker.ready and not worker.leaving:
            self.free[worker.pid] = worker  # it had not even read the first
        return recalled
