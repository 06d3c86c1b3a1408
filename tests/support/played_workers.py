"""`Deliveries` of a listener, between a broker's side and workers that a unit test plays; there is no process."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from listening import AMQP, RecordingDeclarer, RecordingPublisher, Sent, Source, StubConnection, group
from taskqueue.foundation.loop import Loop
from taskqueue.link import orders, packets
from taskqueue.link.assignment import Assignment, Report
from taskqueue.listener.deliveries import Deliveries


class PlayedWorkers:
    """`Deliveries` of a group with `settings`; each worker is a link whose other end the test reads.

    `now_ms` is the Unix time, in milliseconds, that hand-outs are judged by.
    """

    def __init__(self, **settings: Any) -> None:
        self.loop = Loop()
        self.connection = StubConnection(self.loop)
        self.publisher = RecordingPublisher()
        self.source = Source()
        self.orders: list[orders.Order] = []
        self.now_ms = time.time_ns() // 1_000_000
        peers: Any = SimpleNamespace(to_pool=self.orders.append, to_template=self.orders.append)
        declarer: Any = RecordingDeclarer()
        publisher: Any = self.publisher
        connection: Any = self.connection
        self.deliveries = Deliveries(
            self.loop, group(**settings), AMQP, 60.0, connection, declarer, publisher, peers, lambda: self.now_ms
        )
        self.ends: dict[int, packets.Link] = {}

    def worker(self, pid: int, *, ready: bool = True) -> None:
        """A worker was forked, and is ready."""
        ours, theirs = packets.pair()
        self.ends[pid] = packets.adopt(theirs.sock.dup().detach())
        self.deliveries.workers.add(pid, (ours.sock.detach(), theirs.sock.detach()))
        if ready:
            self.ends[pid].send(["ready"])
            self.loop.turn(0)

    def deliver(self, *ids: str, **keywords: Any) -> None:
        """The broker delivers messages with these ids; `keywords` are those of `Source.delivery`."""
        for message_id in ids:
            self.deliveries.arrived(self.source.delivery(message_id, **keywords))

    def hand_out(
        self, *ids: str, valid_s: float = 10.0, headers: dict[str, Any] | None = None, **keywords: Any
    ) -> None:
        """The broker delivers hand-outs number 3 of these tasks, valid for so long."""
        until = self.now_ms + round(valid_s * 1000)
        own = {"x-handout": 3, "x-handout-until": until, "x-task-attempt": 2, **(headers or {})}
        self.deliver(*ids, headers=own, reply_to="taskqueue_http_b", **keywords)

    def read(self, pid: int) -> Assignment | None:
        """What a worker reads next."""
        packet = self.ends[pid].receive()
        return None if packet is None else Assignment(*packet.head)

    def report(self, pid: int, outcome: str = "success", runtime_ms: float = 1000.0, **more: Any) -> str:
        """A worker reads a workitem and reports it; gives its id."""
        assignment = self.read(pid)
        assert assignment is not None
        report = Report(assignment.tag, outcome, runtime_ms, "text/plain", **more)
        self.ends[pid].send(["done", *report], b"result")
        self.loop.turn(0)
        return assignment.message_id

    def told(self) -> list[Sent]:
        """What was published since, confirmed."""
        return self.publisher.answer()

    @property
    def waiting(self) -> list[str]:
        """The ids of what waits for a worker."""
        return [run.message_id for run in self.deliveries.runs.waiting]

    def close(self) -> None:
        """Close all links."""
        self.deliveries.workers.all_gone()
        for end in self.ends.values():
            end.close()
        self.loop.close()
