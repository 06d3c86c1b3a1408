"""The listener's view of its group's workers: which run goes to whom, what each is running, and who is to blame.

A worker reads one workitem at a time from the kernel's queue to it. Short ones are queued ahead, so that no worker
waits for the listener; since the listener holds the worker's end too, it takes back what was not read as soon as
another worker is idle. What was read and not reported when a worker died is what killed it. This module must never
talk to the broker.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from taskqueue.config.settings import GroupSettings
from taskqueue.errors import LinkError
from taskqueue.foundation.loop import Loop
from taskqueue.link.assignment import REPORT_LIMIT, RESULT_LIMIT, TRACE_LIMIT, Assignment, Report, checked
from taskqueue.link.packets import Link, Packet, adopt
from taskqueue.listener.run import Run
from taskqueue.listener.states import RunState
from taskqueue.protocol.properties import shorten

log = logging.getLogger(__name__)

_AHEAD_S = 0.005
"""A worker gets at most so much work ahead of what it runs, in seconds of the group's mean runtime…"""
_AHEAD_LIMIT = 16
"""…and at most so many workitems."""
_LEAVE_S = 30.0
"""A worker that has taken its last workitem (`max_tasks`) has so long for `teardown`."""


class Worker:
    """One worker process and what it has in hand, oldest first."""

    __slots__ = ("given", "leaving", "link", "other_end", "pid", "ready", "since", "slow")

    def __init__(self, pid: int, link: Link, other_end: Link) -> None:
        self.pid = pid
        self.link = link
        self.other_end = other_end
        self.given: dict[int, Run] = {}
        self.ready = False
        self.leaving = False
        self.slow = False
        """What it runs lasts long: it is given nothing ahead."""
        self.since = time.time()

    @property
    def state(self) -> str:
        """In a word, for people."""
        if self.leaving:
            return "leaving"
        if self.given:
            return "running"
        return "idle" if self.ready else "starting"


class Death(NamedTuple):
    """A worker that is gone, and what it had in hand."""

    pid: int
    exit_code: int
    why: str | None
    """Why this listener had it killed, if it did."""
    ready: bool
    suspects: list[Run]
    """What it had read and not reported."""
    unread: list[Run]


class Workers:
    """All workers of the group. The callbacks are the listener's; they are called in the loop."""

    def __init__(
        self,
        loop: Loop,
        settings: GroupSettings,
        *,
        on_ready: Callable[[Worker], None],
        on_failed: Callable[[Worker, str], None],
        on_report: Callable[[Run, Report, bytes], None],
        on_unread: Callable[[list[Run]], None],
        on_nonsense: Callable[[Worker, str], None],
    ) -> None:
        self._loop = loop
        self._concurrency = settings.concurrency
        self._on_ready, self._on_failed, self._on_report = on_ready, on_failed, on_report
        self._on_unread, self._on_nonsense = on_unread, on_nonsense
        self._all: dict[int, Worker] = {}
        self._free: dict[int, Worker] = {}
        """Ready workers with less in hand than they run at a time, in the order in which they became free."""
        self.mean_s: float | None = None
        """Mean runtime of the last workitems, in seconds, weighted to the newest; None before the first."""

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    @property
    def ready(self) -> int:
        """How many workers can be given work."""
        return sum(worker.ready and not worker.leaving for worker in self._all.values())

    def running(self, worker: Worker) -> list[Run]:
        """What `worker` runs now: the first of what it was given."""
        return list(islice(worker.given.values(), self._concurrency))

    def describe(self) -> list[dict[str, Any]]:
        """Each worker, what it runs and since when (Unix time), for people."""
        boot = time.time() - time.monotonic()
        return [
            {
                "pid": worker.pid,
                "state": worker.state,
                "since": worker.since,
                "tasks": [
                    {"id": run.message_id, "attempt": run.attempt, "since": boot + (run.started or time.monotonic())}
                    for run in self.running(worker)
                ],
            }
            for worker in self._all.values()
        ]

    # -- coming and going

    def add(self, pid: int, fds: tuple[int, ...]) -> None:
        """A worker was forked; `fds` are both ends of its link."""
        ours, theirs = fds
        worker = Worker(pid, adopt(ours, REPORT_LIMIT), adopt(theirs))
        self._all[pid] = worker
        self._loop.add_handler(ours, partial(self._on_readable, worker), self._loop.READ)

    def gone(self, pid: int, exit_code: int, why: str | None) -> Death | None:
        """A worker died: hear what it said last, and say what it left behind."""
        worker = self._all.get(pid)
        if worker is None:
            return None
        worker.leaving = True
        self._free.pop(pid, None)
        self._on_readable(worker, worker.link.fileno(), 0)
        unread = self._take_unread(worker, limit=None)
        suspects = list(worker.given.values())
        self._drop(worker)
        return Death(pid, exit_code, why, worker.ready, suspects, unread)

    def all_gone(self) -> list[Death]:
        """The template died, and with it every worker."""
        return [death for pid in list(self._all) if (death := self.gone(pid, -9, "template died"))]

    def retire(self) -> None:
        """Let every worker find the end of its link behind what it has in hand."""
        for worker in self._all.values():
            worker.leaving = True
            worker.link.shutdown_write()
        self._free.clear()

    def _drop(self, worker: Worker) -> None:
        self._loop.remove_handler(worker.link.fileno())
        worker.link.close()
        worker.other_end.close()
        del self._all[worker.pid]
        self._free.pop(worker.pid, None)

    # -- work out

    def take(self, run: Run) -> bool:
        """Give `run` to a worker that is free, or ahead to one that will soon be; False where there is none."""
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
                self._free.pop(worker.pid, None)  # the kernel's queue is full: free again with its next report
                return False
        except LinkError as error:
            worker.leaving = True
            self._free.pop(worker.pid, None)
            self._on_nonsense(worker, str(error))
            return False
        run.life.move(RunState.HANDED)
        if len(worker.given) < self._concurrency:
            run.started = time.monotonic()
        worker.given[run.number] = run
        if len(worker.given) >= self._concurrency or run.alone:
            self._free.pop(worker.pid, None)
        return True

    def _pick(self, run: Run) -> Worker | None:
        if run.alone:
            return next((worker for worker in self._free.values() if not worker.given), None)
        if self._free:
            return next(iter(self._free.values()))
        fewest = self._concurrency + self._ahead()
        if fewest == self._concurrency:
            return None
        least: Worker | None = None
        for worker in self._all.values():
            if worker.ready and not worker.leaving and not worker.slow and len(worker.given) < fewest:
                fewest, least = len(worker.given), worker
        return None if least is None or any(given.alone for given in least.given.values()) else least

    def _ahead(self) -> int:
        if self.mean_s is None:
            return 0
        return min(_AHEAD_LIMIT, int(_AHEAD_S / max(self.mean_s, 1e-6)))

    # -- work back

    def steal(self) -> list[Run]:
        """Where a worker is free: half of what the one with the longest queue has not read yet; oldest first."""
        if not self._free:
            return []
        busiest = max(self._all.values(), key=lambda worker: len(worker.given), default=None)
        if busiest is None:
            return []
        ahead = len(busiest.given) - self._concurrency
        return self._take_unread(busiest, limit=(ahead + 1) // 2) if ahead > 0 else []

    @property
    def ahead(self) -> int:
        """How many workitems workers were given ahead of what they run."""
        return sum(max(0, len(worker.given) - self._concurrency) for worker in self._all.values())

    def recall(self, longer_s: float) -> list[Run]:
        """What workers were given ahead, and have not read because what they run has lasted longer than that."""
        now = time.monotonic()
        taken: list[Run] = []
        for worker in self._all.values():
            oldest = next(iter(worker.given.values()), None)
            if oldest is not None and oldest.started is not None and now - oldest.started >= longer_s:
                worker.slow = True
                taken += self._take_unread(worker, limit=None)
        return taken

    def unread(self) -> list[Run]:
        """Take back all that no worker has read."""
        return [run for worker in self._all.values() for run in self._take_unread(worker, limit=None)]

    def _take_unread(self, worker: Worker, limit: int | None) -> list[Run]:
        taken: list[Run] = []
        while limit is None or len(taken) < limit:
            try:
                packet = worker.other_end.receive()
            except (EOFError, LinkError):
                break
            if packet is None:
                break
            run = worker.given.pop(packet.head[0])
            run.started = None
            run.life.move(RunState.WAITING)
            taken.append(run)
        if taken and len(worker.given) < self._concurrency and worker.ready and not worker.leaving:
            self._free[worker.pid] = worker  # it had not even read the first
        return taken

    # -- reports

    def _on_readable(self, worker: Worker, fd: int, events: int) -> None:
        try:
            while (packet := worker.link.receive()) is not None:
                self._heard(worker, packet)
        except EOFError:  # never by its death: we hold its end too
            self._on_nonsense(worker, "it has shut its end")
        except (LinkError, TypeError, ValueError, KeyError) as error:
            self._on_nonsense(worker, f"{type(error).__name__}: {error}")

    def _heard(self, worker: Worker, packet: Packet) -> None:
        if packet.fds:
            for fd in packet.fds:
                os.close(fd)
            raise ValueError("descriptors")
        match packet.head:
            case ["done", *fields]:
                report = checked(Report(*fields))
                if len(packet.body) > RESULT_LIMIT:
                    raise ValueError("a result that is too large")
                run = worker.given.pop(report.tag)
                self._after(worker, run, report)
                self._on_report(run, report, packet.body)
            case ["ready"] if not worker.ready:
                worker.ready = True
                if not worker.leaving:
                    self._free[worker.pid] = worker
                self._on_ready(worker)
            case ["failed", str(trace)] if not worker.ready:
                self._on_failed(worker, shorten(trace, TRACE_LIMIT))
            case _:
                raise ValueError("unknown packet")

    def _after(self, worker: Worker, run: Run, report: Report) -> None:
        worker.slow = False
        seconds = report.runtime_ms / 1000
        self.mean_s = seconds if self.mean_s is None else self.mean_s + (seconds - self.mean_s) * 0.1
        now = time.monotonic()
        for following in islice(worker.given.values(), self._concurrency):
            if following.started is None:
                following.started = now
        if report.last:
            worker.leaving = True
            self._free.pop(worker.pid, None)
            self._on_unread(self._take_unread(worker, limit=None))
            self._loop.call_later(_LEAVE_S, partial(self._must_have_left, worker))
        elif len(worker.given) < self._concurrency and not worker.leaving:
            self._free[worker.pid] = worker

    def _must_have_left(self, worker: Worker) -> None:
        if self._all.get(worker.pid) is worker:
            self._on_nonsense(worker, f"it has not ended {_LEAVE_S:g} s after its last workitem")
