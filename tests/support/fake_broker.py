"""Stands in for `operations.broker.Broker` in tests of operations: queues are lists, nothing is waited for.

A test decides how the broker answers each publish (`answers`), and when the connection is cut (`cut_after`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace, TracebackType
from typing import Any, Self

from taskqueue.amqp import Counts, Delivery, Published
from taskqueue.errors import BrokerUnavailable
from taskqueue.operations.reading import Message
from taskqueue.protocol.properties import Properties
from taskqueue.protocol.queues import Queue


def message(message_id: str | None, headers: Mapping[str, Any] | None = None, body: bytes = b"", **more: Any) -> Any:
    """The properties and body of a message, for `FakeBroker.put`."""
    return Properties(message_id=message_id, headers=dict(headers or {}) or None, **more), body


def letter(message_id: str, queue: str = "worker_t", reason: str = "failed", at_s: float = 1000.0) -> Any:
    """A dead letter, as taskqueue makes them."""
    headers = {"x-dead-reason": reason, "x-dead-queue": queue, "x-dead-at": int(at_s * 1000), "x-dead-host": "h"}
    return message(message_id, headers, message_id.encode())


class FakeQueue:
    """What is in one queue, and who consumes it. The source of its deliveries."""

    def __init__(self, name: str, consumers: int = 0) -> None:
        self.queue = Queue(name, {})
        self.consumers = consumers
        self.deliveries: list[Delivery] = []
        self._tags = 0

    def put(self, properties: Properties, body: bytes, *, redelivered: bool = False, fault: str = "") -> None:
        self._tags += 1
        self.deliveries.append(Delivery(self, self._tags, 1, properties, body, redelivered, fault))

    @property
    def ids(self) -> list[str | None]:
        return [each.properties.message_id for each in self.deliveries]

    def holds(self, delivery: Delivery) -> bool:
        return any(each is delivery for each in self.deliveries)

    def settle(self, delivery: Delivery) -> bool:
        held = self.holds(delivery)
        self.deliveries = [each for each in self.deliveries if each is not delivery]
        return held


class FakeReading:
    """The messages of a queue as they were when it began; raises after `cut_after` of them."""

    def __init__(self, queue: FakeQueue | None, cut_after: int | None) -> None:
        self._deliveries = list(queue.deliveries) if queue is not None else []
        self._cut_after = cut_after
        self.closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True

    def __iter__(self) -> Iterator[Message]:
        for number, delivery in enumerate(self._deliveries):
            if number == self._cut_after:
                raise BrokerUnavailable("the connection was cut")
            yield Message(delivery)
        if self._cut_after is not None and self._cut_after >= len(self._deliveries):
            raise BrokerUnavailable("the connection was cut")


class FakePublisher:
    """Records what is published, and answers at the next wait: as `answers` says by id, or with a confirm."""

    def __init__(self) -> None:
        self.published: list[tuple[str, str | None, bytes]] = []
        self.properties: list[Properties] = []
        self.answers: dict[str | None, Published | None] = {}
        """None: the broker never answers."""
        self.refusal = "too large"
        self.most_under_way = 0
        self._waiting: list[tuple[str | None, Callable[[Published], None]]] = []

    def publish(self, queue: str, properties: Properties, body: bytes, outcome: Callable[[Published], None]) -> None:
        self.published.append((queue, properties.message_id, body))
        self.properties.append(properties)
        self._waiting.append((properties.message_id, outcome))
        self.most_under_way = max(self.most_under_way, len(self._waiting))

    def answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        for message_id, outcome in waiting:
            answer = self.answers.get(message_id, Published.CONFIRMED)
            if answer is None:
                self._waiting.append((message_id, outcome))
            else:
                outcome(answer)


class FakeSession:
    """Answers at once; a wait whose fact does not come true is over at once."""

    def __init__(self) -> None:
        self.publisher = FakePublisher()
        self.declared: list[str] = []
        self.forgotten: list[str] = []
        self.waited_until: list[float | None] = []
        self.connection = SimpleNamespace(is_up=True, host="fake:5672", blocked=False)
        self.declarer = SimpleNamespace(knows=self.declared.__contains__, forget=self.forgotten.append)

    def have(self, queue: Queue, deadline: float) -> None:
        self.declared.append(queue.name)

    def deadline(self) -> float:
        return 0.0

    def wait(self, fact: Callable[[], object], deadline: float | None) -> bool:
        self.waited_until.append(deadline)
        if not fact():
            self.publisher.answer()
        return bool(fact())

    def unavailable(self) -> None:
        raise BrokerUnavailable("fake:5672: no answer")


class FakeBroker:
    """Queues by name, made by `queue`."""

    def __init__(self) -> None:
        self.queues: dict[str, FakeQueue] = {}
        self.session = FakeSession()
        self.cuts: list[int | None] = []
        """For each reading to come, after how many messages the connection is cut; None, or the end: never."""
        self.read_queues: list[str] = []
        self.readings: list[FakeReading] = []
        self.renewals: list[Any] = []
        self.differences: dict[str, str] = {}
        self.server = SimpleNamespace(host="fake:5672", product="RabbitMQ", version="4.0.1", cluster_name="c")

    def queue(self, name: str, *messages: Any, consumers: int = 0) -> FakeQueue:
        made = self.queues.setdefault(name, FakeQueue(name, consumers))
        for properties, body in messages:
            made.put(properties, body)
        return made

    def counts(self, queue: str) -> Counts | None:
        found = self.queues.get(queue)
        return None if found is None else Counts(len(found.deliveries), found.consumers)

    def counts_of(self, queues: Iterable[str]) -> dict[str, Counts | None]:
        return {queue: self.counts(queue) for queue in queues}

    def difference(self, queue: Queue) -> str | None:
        return self.differences.get(queue.name)

    def read(self, queue: str, *, follow: bool = False, renew: Any = None) -> FakeReading:
        self.read_queues.append(queue)
        self.renewals.append(renew)
        reading = FakeReading(self.queues.get(queue), self.cuts.pop(0) if self.cuts else None)
        self.readings.append(reading)
        return reading

    def pause(self, seconds: float) -> None:
        """Time passes."""

    def purge(self, queue: str) -> int | None:
        found = self.queues.get(queue)
        if found is None:
            return None
        count, found.deliveries = len(found.deliveries), []
        return count
