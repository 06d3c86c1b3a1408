"""One worker process as its listener sees it: both ends of its link, and the runs that it was given.

1. Worker 4711 was forked: `starting`. It reports that it is ready: `idle`.
2. Runs 7, 8 and 9 are given to it: `running`. It reads run 7; 8 and 9 lie in the kernel's queue to it, ahead of time.
3. Another worker is idle: `take_unread(2)` reads 8 and 9 from the worker's own end, before the worker does.
4. It reports run 7 and leaves after its last workitem (`max_tasks`), or is retired: `leaving`.
5. It died at step 2: runs 8 and 9 were not read, so run 7 is what killed it: `Death(4711, -9, suspects=[run 7], …)`.

This module must never choose a run or a worker.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import NamedTuple

from taskqueue.errors import LinkError
from taskqueue.link.packets import Link
from taskqueue.listener.run import Run
from taskqueue.listener.states import RunState


class Worker:
    """One worker process, which runs up to `concurrency` workitems at a time."""

    __slots__ = ("_concurrency", "given", "leaving", "link", "other_end", "pid", "ready", "since", "slow")

    def __init__(self, pid: int, link: Link, other_end: Link, concurrency: int) -> None:
        self.pid = pid
        self.link = link
        """The listener's end."""
        self.other_end = other_end
        """The worker's own end, shared with it: who reads a packet first has it."""
        self.given: dict[int, Run] = {}
        """The runs that it was given and has not reported, by number, oldest first."""
        self.ready = False
        self.leaving = False
        """It gets no more: it was retired, has had its last workitem, or has broken the protocol."""
        self.slow = False
        """Its run takes long: nothing is queued behind it."""
        self.since = time.time()
        """When it was forked, Unix time."""
        self._concurrency = concurrency

    @property
    def state(self) -> str:
        """`starting`, `idle`, `running` or `leaving`, for the status document."""
        if self.leaving:
            return "leaving"
        if self.given:
            return "running"
        return "idle" if self.ready else "starting"

    @property
    def ahead(self) -> int:
        """How many runs it was given ahead of those that it runs."""
        return max(0, len(self.given) - self._concurrency)

    def running(self) -> list[Run]:
        """The runs that it runs now: the oldest that it was given."""
        return list(islice(self.given.values(), self._concurrency))

    def begin_next(self, now: float) -> None:
        """Runs before others were taken away or reported: those that follow begin at `now`, monotonic."""
        for run in islice(self.given.values(), self._concurrency):
            if run.started is None:
                run.started = now

    def take_unread(self, limit: int | None = None) -> list[Run]:
        """Take back the runs that it has not read, at most `limit` of them, oldest first."""
        taken: list[Run] = []
        while limit is None or len(taken) < limit:
            try:
                packet = self.other_end.receive()
            except (EOFError, LinkError):
                break
            if packet is None:
                break
            run = self.given.pop(packet.head[0], None)
            if run is None:
                continue  # the worker reported it without having read it
            run.started = None
            run.life.move(RunState.WAITING)
            taken.append(run)
        if taken:
            self.begin_next(time.monotonic())
        return taken


class Death(NamedTuple):
    """A worker that is gone, and the runs that it leaves behind."""

    pid: int
    exit_code: int
    """Negative for a signal, as in `subprocess`."""
    why: str | None
    """Why this listener had it killed, or that it ran out of memory; None where it died by itself."""
    ready: bool
    """Whether it had ever been ready."""
    suspects: list[Run]
    """The runs that it had read and not reported."""
    unread: list[Run]
