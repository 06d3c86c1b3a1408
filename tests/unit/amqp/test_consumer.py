"""The consumer's policy, without a broker: acks in few frames, prefetch, the two rounds of a cancel."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from recorded_amqp import RecordedChannel, RecordedConnection
from taskqueue.amqp import Connection, Consumer, Declarer, Delivery
from taskqueue.amqp.acks import Acks
from taskqueue.amqp.frames import Message
from taskqueue.protocol.properties import Properties
from taskqueue.protocol.queues import Queue


class Bench:
    """A consumer with prefetch 10 that the broker has confirmed."""

    def __init__(self, prefetch: int = 10) -> None:
        self.connection = RecordedConnection()
        self.declarer = Declarer(cast(Connection, self.connection))
        self.came: list[Delivery] = []
        self.lost = 0
        self.consumer = Consumer(
            cast(Connection, self.connection), self.declarer, Queue("q", {}), prefetch, self.came.append, self._on_lost
        )
        self.connection.open().answer()
        self.channel: RecordedChannel = self.connection.open()
        self.confirm()

    def _on_lost(self) -> None:
        self.lost += 1

    def confirm(self) -> None:
        """Answer what was asked last, and forget what was sent so far."""
        self.channel.answer()
        self.channel.sent.clear()

    def deliver(self, *tags: int, consumer: str = "taskqueue-1-1") -> list[Delivery]:
        for tag in tags:
            self.connection.pika.deliveries[2](Message(consumer, tag, False, Properties(), b""))
        self.connection.turn()
        return self.came[-len(tags) :]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("settled", "expected"),
    [
        ([[1, 2, 4], [3, 5]], [(2, [4]), (5, [])]),
        ([[5], [4], [1, 2, 3]], [(0, [5]), (0, [4]), (3, [])]),
        ([[3, 2], [1], [4, 5]], [(0, [2, 3]), (1, []), (5, [])]),
        ([[], [1, 2, 3, 4, 5]], [(0, []), (5, [])]),
    ],
    ids=str,
)
def test_acks_in_as_few_frames_as_may_be(settled: list[list[int]], expected: list[tuple[int, list[int]]]) -> None:
    acks = Acks()
    acks.order.extend(range(1, 6))
    left = 5
    for tags, frames in zip(settled, expected, strict=True):
        acks.settled.update(tags)
        left -= len(tags)
        assert acks.unsettled == left
        multiple, alone = acks.take()
        assert (multiple, sorted(alone)) == frames and acks.unsettled == left
    assert not acks.order and not acks.settled


def test_what_is_settled_in_a_turn_is_acked_at_its_end(bench: Bench) -> None:
    first, second, third = bench.deliver(1, 2, 3)
    assert first.settle() and third.settle() and not bench.channel.sent
    bench.connection.turn()
    assert bench.channel.sent == [("ack", 1, True), ("ack", 3, False)] and bench.consumer.unsettled == 1
    bench.connection.lose()
    assert not second.held and not second.settle() and bench.lost == 1


@pytest.mark.parametrize(
    ("prefetch", "sent"),
    [
        (40, [("qos", 30), ("consume", "q", "taskqueue-1-2")]),
        (12, []),
        (5, [("Basic.Cancel", "taskqueue-1-1"), ("qos", 2), ("consume", "q", "taskqueue-1-2")]),
        (3, [("Basic.Cancel", "taskqueue-1-1")]),
    ],
)
def test_a_change_of_prefetch_counts_what_is_in_hand(bench: Bench, prefetch: int, sent: list[tuple[object]]) -> None:
    bench.deliver(1, 2, 3)
    bench.consumer.set_prefetch(prefetch)
    assert bench.channel.sent == sent


def test_nothing_changes_before_the_broker_has_confirmed_a_consumer(bench: Bench) -> None:
    bench.consumer.set_prefetch(40)
    bench.channel.sent.clear()
    bench.consumer.pause()
    assert not bench.channel.sent and not bench.consumer.consuming
    bench.channel.answer()
    assert bench.channel.sent == [("Basic.Cancel", "taskqueue-1-1"), ("Basic.Cancel", "taskqueue-1-2")]


@pytest.mark.parametrize("prefetch", [65_535, 65_536, 10**6])
def test_a_prefetch_above_16_bits_is_what_they_hold(prefetch: int) -> None:
    bench = Bench()
    bench.consumer.set_prefetch(prefetch)
    bench.channel.answer()
    granted = sum(call[1] for call in bench.channel.sent if call[0] == "qos")
    assert granted == 65_535 - 10 and bench.consumer.consuming


def test_a_cancel_is_done_after_two_rounds_and_what_arrived_between_them(bench: Bench) -> None:
    ended: list[int] = []
    bench.consumer.cancel(lambda: ended.append(len(bench.came)))
    bench.channel.answer()
    bench.connection.pika.deliveries[2](Message("taskqueue-1-1", 1, False, Properties(), b""))
    assert not ended
    bench.channel.answer()
    assert ended == [1] and bench.came[0].settle()


def test_a_consumer_that_the_broker_ends_comes_back_and_keeps_its_deliveries(bench: Bench) -> None:
    (delivery,) = bench.deliver(1)
    bench.channel.on_cancel(SimpleNamespace(method=SimpleNamespace(consumer_tag="taskqueue-1-1")))
    assert not bench.consumer.consuming and delivery.held
    bench.connection.loop.fire()  # its backoff
    bench.connection.loop.fire()  # the queue is gone: not declared at once
    bench.connection.pika.channels[0].answer()
    assert bench.channel.sent[-2:] == [("qos", 9), ("consume", "q", "taskqueue-1-2")]


def test_an_unanswered_consumer_is_given_up_only_with_no_delivery_in_hand() -> None:
    bench = Bench()
    bench.consumer.set_prefetch(40)
    (delivery,) = bench.deliver(1)
    bench.connection.loop.fire()
    assert bench.lost == 0, "it would be run twice"
    delivery.settle()
    bench.connection.turn()
    bench.connection.loop.fire()
    assert bench.lost == 1 and len(bench.connection.pika.channels) == 3
    bench.channel.answer()
    assert ("close",) in bench.channel.sent, "the answer came after all, when nobody waited for it"


def test_a_delivery_that_raises_leaves_those_behind_it(bench: Bench) -> None:
    bench.consumer._on_delivery = lambda delivery: bench.came.append(delivery) or 1 // (delivery.tag - 2)  # type: ignore[assignment,func-returns-value]
    with pytest.raises(ZeroDivisionError):
        bench.deliver(1, 2, 3)
    assert [delivery.tag for delivery in bench.came] == [1, 2]
    bench.connection.turn()
    assert [delivery.tag for delivery in bench.came] == [1, 2, 3]
