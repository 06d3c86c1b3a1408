"""Stand-ins for what surrounds the parts of a listener: broker and loop. Unit tests hand them in and look at them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from types import SimpleNamespace
from typing import Any

from taskqueue.amqp import Delivery, Published
from taskqueue.config.settings import AmqpSettings, GroupSettings
from taskqueue.listener.run import Run, begin
from taskqueue.listener.states import RunState
from taskqueue.protocol.properties import Properties
from taskqueue.protocol.queues import Queue

AMQP = AmqpSettings(
    hosts=(("localhost", 5672),), user="guest", passwd="guest", vhost="/", heartbeat_s=60, ssl=False, ca_file=None,
    cert_file=None, key_file=None, queue_type="quorum", ingress_queue_type="classic",
)  # fmt: skip

_GROUP = GroupSettings(
    worker_type="w", instance=None, workers=1, user=None, results_routing_key="results", report_results=True,
    max_retries=0, retry_delay_s=1.0, retry_max_delay_s=60.0, max_crashes=3, soft_time_limit_s=None,
    time_limit_s=None, max_tasks=None, max_memory_bytes=None, prefetch=None, concurrency=1, preload=True,
    own={},
)  # fmt: skip


def group(**changes: Any) -> GroupSettings:
    """The defaults of a group, with `changes`."""
    return replace(_GROUP, **changes)


class Source:
    """A consumer, which the test has deliver; `acked` are the ids of what was settled."""

    def __init__(self, queue: str = "worker_w") -> None:
        self.queue = Queue(queue, {})
        self.acked: list[str | None] = []
        self._epoch = 1
        self._tags = count(1)

    def holds(self, delivery: Delivery) -> bool:
        """As `Consumer.holds`."""
        return delivery.epoch == self._epoch

    def settle(self, delivery: Delivery) -> bool:
        """As `Consumer.settle`."""
        if self.holds(delivery):
            self.acked.append(delivery.properties.message_id)
        return self.holds(delivery)

    def lose(self) -> None:
        """The channel is closed: the broker has all deliveries back."""
        self._epoch += 1

    def delivery(
        self,
        message_id: str = "m",
        body: bytes = b"body",
        headers: Mapping[str, Any] | None = None,
        *,
        redelivered: bool = False,
        fault: str = "",
        **properties: Any,
    ) -> Delivery:
        """A delivery of this consumer."""
        made = Properties(message_id=message_id, headers=headers, **properties)
        return Delivery(self, next(self._tags), self._epoch, made, body, redelivered, fault)

    def run(self, message_id: str = "m", *, state: RunState = RunState.WAITING, **keywords: Any) -> Run:
        """The run of a delivery, in a state."""
        run = begin(self.delivery(message_id, **keywords))
        if state is not RunState.WAITING:
            run.life.move(state)
        return run


@dataclass
class Sent:
    """A message that was published, until the test answers it."""

    queue: str
    properties: Properties
    body: bytes
    answer: Callable[[Published], None]

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers, or none."""
        return self.properties.headers or {}


class RecordingPublisher:
    """Keeps what is published in `sent`."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.refusal = "too large"

    def publish(self, queue: str, properties: Properties, body: bytes, done: Callable[[Published], None]) -> None:
        """As `Publisher.publish`."""
        self.sent.append(Sent(queue, properties, body, done))

    def take(self) -> list[Sent]:
        """What was published since the last call."""
        sent, self.sent = self.sent, []
        return sent

    def answer(self, published: Published = Published.CONFIRMED) -> list[Sent]:
        """Answer all that was published, in its order; gives it."""
        sent = self.take()
        for each in sent:
            each.answer(published)
        return sent


class RecordingDeclarer:
    """Declares at once, and keeps what."""

    def __init__(self) -> None:
        self.declared: list[str] = []
        self.forgotten: list[str] = []
        self.deleted: list[str] = []

    def declare(self, queue: Queue, done: Callable[[], None]) -> None:
        """As `Declarer.declare`."""
        self.declared.append(queue.name)
        done()

    def knows(self, name: str) -> bool:
        """As `Declarer.knows`."""
        return name in self.declared

    def forget(self, name: str) -> None:
        """As `Declarer.forget`."""
        self.forgotten.append(name)

    def delete(self, name: str, done: Callable[[], None]) -> None:
        """As `Declarer.delete`."""
        self.deleted.append(name)
        done()


class RecordingConsumer:
    """What it was asked for: `prefetch`, or None while it is paused."""

    def __init__(self) -> None:
        self.prefetch: int | None = None
        self._granted = 1

    def set_prefetch(self, prefetch: int) -> None:
        """As `Consumer.set_prefetch`."""
        self._granted = prefetch

    def pause(self) -> None:
        """As `Consumer.pause`."""
        self.prefetch = None

    def resume(self) -> None:
        """As `Consumer.resume`."""
        self.prefetch = self._granted


class HandTurnedLoop:
    """Timers that fire when the test says so."""

    READ = 1

    def __init__(self) -> None:
        self.timers: list[SimpleNamespace] = []

    def call_later(self, delay: float, callback: Callable[[], object]) -> SimpleNamespace:
        """As `Loop.call_later`."""
        timer = SimpleNamespace(delay=delay, callback=callback)
        timer.cancel = lambda: self.timers.remove(timer)
        self.timers.append(timer)
        return timer

    def fire(self) -> float:
        """The one timer is due: call it, and give its delay in seconds."""
        (timer,), self.timers = self.timers, []
        timer.callback()
        return float(timer.delay)


class StubConnection:
    """A connection that is up or not, as the test says."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.is_up = True
        self.blocked = False
        self.rooms: list[Any] = []

    def add(self, room: Any) -> None:
        """As `Connection.add`."""
        self.rooms.append(room)
