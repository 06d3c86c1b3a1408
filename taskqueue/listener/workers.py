"""The workers of the group, from fork to death, and what they report.

1. The template has forked worker 4711: `add` adopts both ends of its link.
2. It sends `["ready"]`: the template and the listener learn of it, and the scheduler assigns it work.
3. It sends `["done", 7, "success", 12.5, …]`: run 7 ends, and the worker is free for the next.
4. It sends anything else: it has broken the protocol, and the template is ordered to kill it.
5. The template has reaped it: `gone` reads its last reports, and says which runs it leaves behind.

A worker runs plugin code: each packet is checked as if it came from an enemy. This module must never talk to the
broker.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from taskqueue.config.settings import GroupSettings
from taskqueue.errors import LinkError
from taskqueue.foundation.loop import Loop
from taskqueue.link import orders
from taskqueue.link.assignment import REPORT_LIMIT, RESULT_LIMIT, TRACE_LIMIT, Report, checked
from taskqueue.link.packets import Packet, adopt
from taskqueue.listener.peers import Peers
from taskqueue.listener.run import Run
from taskqueue.listener.scheduler import Scheduler
from taskqueue.listener.worker_process import Death, Worker
from taskqueue.protocol.properties import shorten

log = logging.getLogger(__name__)

_LEAVE_S = 30.0
"""Seconds that a worker has for `teardown` after its last workitem (`max_tasks`); then it is killed."""


class Workers:
    """All workers of the group. The callbacks are called in the loop.

    `on_ready()`: one more worker serves. `on_report(run, report, body)`: a run ended. `on_unread(runs)`: a worker
    leaves, and has not read these.
    """

    def __init__(
        self,
        loop: Loop,
        settings: GroupSettings,
        peers: Peers,
        *,
        on_ready: Callable[[], None],
        on_report: Callable[[Run, Report, bytes], None],
        on_unread: Callable[[list[Run]], None],
    ) -> None:
        self.scheduler = Scheduler(settings.concurrency, self._protocol_error)
        self._loop = loop
        self._settings = settings
        self._peers = peers
        self._on_ready, self._on_report, self._on_unread = on_ready, on_report, on_unread
        self._all = self.scheduler.workers
        self._retired = False

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    @property
    def ready(self) -> int:
        """How many workers can be given work."""
        return sum(worker.ready and not worker.leaving for worker in self)

    def slots(self) -> tuple[int, int]:
        """How many runs the ready workers can have at a time, and how many more they could begin now."""
        concurrency = self._settings.concurrency
        left = [concurrency - len(worker.given) for worker in self if worker.ready and not worker.leaving]
        return concurrency * len(left), sum(each for each in left if each > 0)

    def describe(self) -> list[dict[str, Any]]:
        """Each worker for the status document: its runs, and since when they run (Unix time)."""
        boot = time.time() - time.monotonic()
        return [
            {
                "pid": worker.pid,
                "state": worker.state,
                "since": worker.since,
                "tasks": [
                    {"id": run.message_id, "attempt": run.attempt, "since": boot + (run.started or time.monotonic())}
                    for run in worker.running()
                ],
            }
            for worker in self
        ]

    # -- coming and going

    def add(self, pid: int, fds: tuple[int, ...]) -> None:
        """A worker was forked; `fds` are the listener's end of its link, and its own."""
        listeners, workers = fds
        worker = Worker(pid, adopt(listeners, REPORT_LIMIT), adopt(workers), self._settings.concurrency)
        self._all[pid] = worker
        self._loop.add_handler(listeners, partial(self._on_readable, worker), self._loop.READ)
        if self._retired:  # forked before the template read `Retire`
            self._retire(worker)

    def gone(self, pid: int, exit_code: int, why: str | None) -> Death | None:
        """A worker died: read its last reports, and give the runs that it leaves behind. None for an unknown pid."""
        worker = self._all.get(pid)
        if worker is None:
            return None
        self.scheduler.leave(worker)
        self._on_readable(worker, worker.link.fileno(), 0)
        unread = worker.take_unread()
        suspects = list(worker.given.values())
        self._drop(worker)
        return Death(pid, exit_code, why, worker.ready, suspects, unread)

    def all_gone(self) -> list[Death]:
        """The template died, and every worker with it."""
        return [death for pid in list(self._all) if (death := self.gone(pid, -9, "template died"))]

    def retire(self) -> None:
        """Let every worker, and any that is still to come, read the end of its link behind the runs that it has."""
        self._retired = True
        for worker in self:
            self._retire(worker)

    def _retire(self, worker: Worker) -> None:
        self.scheduler.leave(worker)
        worker.link.shutdown_write()

    def _drop(self, worker: Worker) -> None:
        self._loop.remove_handler(worker.link.fileno())
        worker.link.close()
        worker.other_end.close()
        del self._all[worker.pid]

    # -- reports

    def _on_readable(self, worker: Worker, fd: int, events: int) -> None:
        try:
            while (packet := worker.link.receive()) is not None:
                self._received(worker, packet)
        except EOFError:  # never by its death: the listener holds the worker's end too
            self._protocol_error(worker, "it has shut its end")
        except (LinkError, TypeError, ValueError, KeyError) as error:
            self._protocol_error(worker, f"{type(error).__name__}: {error}")

    def _received(self, worker: Worker, packet: Packet) -> None:
        if packet.fds:
            for fd in packet.fds:
                os.close(fd)
            raise ValueError("descriptors")
        match packet.head:
            case ["done", *fields]:
                report = checked(Report(*fields))
                if len(packet.body) > RESULT_LIMIT:
                    raise ValueError("a result that is too large")
                if worker.given[report.tag].started is None:
                    raise ValueError("a report of a run that it has not begun")
                run = worker.given.pop(report.tag)
                self.scheduler.reported(worker, report.runtime_ms, last=report.last)
                if report.last:
                    self._on_unread(worker.take_unread())
                    self._loop.call_later(_LEAVE_S, partial(self._must_have_left, worker))
                self._on_report(run, report, packet.body)
            case ["ready"] if not worker.ready:
                worker.ready = True
                if not worker.leaving:
                    self.scheduler.free[worker.pid] = worker
                self._peers.to_template(orders.WorkerReady(worker.pid))
                self._on_ready()
            case ["failed", str(trace)] if not worker.ready:
                self._peers.to_pool(orders.Failed(shorten(trace, TRACE_LIMIT), self.ready))
            case _:
                raise ValueError("unknown packet")

    def _must_have_left(self, worker: Worker) -> None:
        if self._all.get(worker.pid) is worker:
            self._protocol_error(worker, f"it has not ended {_LEAVE_S:g} s after its last workitem")

    def _protocol_error(self, worker: Worker, error: str) -> None:
        log.error("worker broke the protocol: group=%s pid=%d error=%s", self._settings.name, worker.pid, error)
        self.scheduler.leave(worker)
        self._loop.remove_handler(worker.link.fileno())
        self._peers.to_template(orders.KillWorker(worker.pid, f"killed, since it broke the protocol: {error:.200}"))
