"""The front's side of the broker: publishes hand-outs, consumes reports, knows which worker types are served.

1. The connection is up: the queue of the outcomes is declared, and its consumer begins.
2. `publish(worker_type, properties, body, done)`: the worker queue is declared where it is not known; `done(True)` once
   the broker has confirmed.
3. `serves("webhook")`: whether that worker queue has a consumer, as it was within the last second or two.
4. The connection is lost: unconfirmed hand-outs are `done(False)`, and `on_change()` is called, as when it is back.

It must never know a task: the book decides what is published.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from taskqueue.amqp import Connection, Consumer, Declarer, Delivery, Published, Publisher
from taskqueue.amqp.inspector import Counts, Inspector
from taskqueue.config.settings import AmqpSettings
from taskqueue.errors import TaskqueueError
from taskqueue.foundation.loop import Loop
from taskqueue.http.delivery.bridge import Bridge
from taskqueue.http.delivery.served import Served
from taskqueue.protocol import queues
from taskqueue.protocol.properties import Properties

_PREFETCH = 500
"""Reports in hand at once: while the book is away, the others wait in the broker."""
_ASK_S = 1.0
"""Seconds between two questions for the consumers of a worker queue."""


class Broker:
    """`on_report(delivery)` gets each message of the outcomes; settle it with `settle`."""

    def __init__(
        self,
        amqp: AmqpSettings,
        book_id: str,
        *,
        on_report: Callable[[Delivery], None],
        on_change: Callable[[], None],
    ) -> None:
        self._amqp = amqp
        self._on_change = on_change
        self.loop = Loop()
        self.connection = Connection(
            self.loop, amqp, "taskqueue-http", on_up=self._up, on_down=self._down, on_blocked=self._blocked
        )
        self._declarer = Declarer(self.connection)
        self._publisher = Publisher(self.connection)
        self._inspector = Inspector(self.connection)
        self._consumer = Consumer(self.connection, self._declarer, queues.outcomes(book_id), _PREFETCH, on_report)
        self._served = Served()
        self._outcomes_declared = False
        self._outcomes = queues.outcomes(book_id)
        self.bridge = Bridge(self.loop)

    def start(self) -> None:
        """Connect, and again whenever the connection is lost."""
        self.connection.start()
        self._ask()
        self.bridge.wake()

    @property
    def ready(self) -> bool:
        """Whether hand-outs can be published now."""
        return (
            self.connection.is_up and not self.connection.blocked and self._publisher.ready and self._outcomes_declared
        )

    def serves(self, worker_type: str) -> bool:
        """Whether to hand out to `worker_type`: its queue has a consumer. For a type that is new, the answer is False
        until the broker has told; `on_change` is called then."""
        now = time.monotonic()
        if self._served.wants(worker_type, now):
            self._question()
            self.bridge.wake()
        return self._served.serves(worker_type, now)

    def known_to_serve(self, worker_type: str) -> bool | None:
        """As `serves`, and None where the broker has not told yet."""
        self.serves(worker_type)
        return self._served.known(worker_type)

    def heard_of(self, worker_type: str) -> None:
        """A worker of that type has reported: it is served."""
        self._served.told(worker_type, True)

    def publish(self, worker_type: str, properties: Properties, body: bytes, done: Callable[[bool], None]) -> None:
        """Publish to the queue of `worker_type`; `done(whether it is confirmed)`, later."""
        queue = queues.worker(worker_type, self._amqp)

        def send() -> None:
            self._publisher.publish(queue.name, properties, body, answered)

        def answered(published: Published) -> None:
            if published is Published.UNROUTABLE:
                self._declarer.forget(queue.name)
                self._served.told(worker_type, False)
            done(published is Published.CONFIRMED)

        self._declarer.declare(queue, send, lambda why: done(False))
        self.bridge.wake()

    def settle(self, delivery: Delivery) -> None:
        """Ack a report."""
        delivery.settle()
        self.bridge.wake()

    async def close(self) -> None:
        """Let what was published and acked leave, and close the connection."""
        closed = asyncio.Event()
        self.connection.close(closed.set)
        self.bridge.wake()
        await closed.wait()
        self.bridge.close()
        self.loop.close()

    # -- inside

    def _up(self) -> None:
        self._declarer.declare(queues.dead(), lambda: None)
        self._declarer.declare(self._outcomes, self._declared)
        self._question()

    def _declared(self) -> None:
        self._outcomes_declared = True
        self._on_change()

    def _down(self) -> None:
        self._outcomes_declared = False
        self._served.lost()
        self._on_change()

    def _blocked(self, blocked: bool) -> None:
        self._on_change()

    def _ask(self) -> None:
        self._question()
        self.loop.call_later(_ASK_S, self._ask)

    def _question(self) -> None:
        if self.connection.is_up:
            for worker_type in self._served.to_ask(time.monotonic()):
                name = queues.worker(worker_type, self._amqp).name
                told, not_told = partial(self._told, worker_type), partial(self._not_told, worker_type)
                self._inspector.counts(name, told, not_told)

    def _told(self, worker_type: str, counts: Counts | None) -> None:
        if self._served.told(worker_type, counts is not None and counts.consumers > 0):
            self._on_change()

    def _not_told(self, worker_type: str, error: TaskqueueError) -> None:
        self._served.not_told(worker_type)
