"""The declarer's policy, without a broker: one at a time, as it is where it differs, postponed without an answer."""

from __future__ import annotations

from typing import cast

import pika.exceptions
import pytest

from recorded_amqp import RecordedConnection
from taskqueue.amqp import Connection, Declarer
from taskqueue.protocol.queues import Queue

A, B = Queue("a", {}), Queue("b", {})
DIFFERS = pika.exceptions.ChannelClosedByBroker(406, "inequivalent arg")
FORBIDDEN = pika.exceptions.ChannelClosedByBroker(403, "ACCESS_REFUSED")
MISSING = pika.exceptions.ChannelClosedByBroker(404, "no queue")
FULL = pika.exceptions.ChannelClosedByBroker(406, "queue limit")


class Bench:
    """A declarer, and what its callers heard."""

    def __init__(self) -> None:
        self.connection = RecordedConnection()
        self.declarer = Declarer(cast(Connection, self.connection))
        self.heard: list[str] = []

    def declare(self, queue: Queue, *, patient: bool = False) -> None:
        name = queue.name
        refused = None if patient else lambda why: self.heard.append(f"{name}: {why}")
        self.declarer.declare(queue, lambda: self.heard.append(name), refused)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_one_after_the_other_on_one_channel_and_at_once_what_is_known(bench: Bench) -> None:
    bench.declare(A)
    bench.declare(B)
    bench.declare(A)
    channel = bench.connection.open()
    assert channel.sent == [("declare", "a", False)] and not bench.heard
    channel.answer()
    assert channel.sent[1:] == [("declare", "b", False)]
    channel.answer()
    bench.declare(B)
    assert bench.heard == ["a", "b", "a", "b"] and len(channel.sent) == 2


@pytest.mark.parametrize("error", [DIFFERS, FORBIDDEN], ids=["differs", "forbidden"])
def test_a_queue_that_is_there_is_used_as_it_is_with_one_warning(
    bench: Bench, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        bench.declare(A)
        bench.connection.open().closed(error)
        channel = bench.connection.open()
        assert channel.sent == [("declare", "a", True)]
        channel.answer()
        bench.connection.lose()
        bench.connection.is_up = True
    assert bench.heard == ["a", "a"] and caplog.text.count("queue used as it is: queue=a") == 1


def test_where_it_is_not_there_either_the_first_refusal_is_reported_and_the_next_goes_on(bench: Bench) -> None:
    bench.declare(A)
    bench.declare(B)
    bench.connection.open().closed(FULL)
    bench.connection.open().closed(MISSING)
    bench.connection.open().answer()
    assert bench.heard == ["a: 406 queue limit", "b"]


def test_without_anyone_to_hear_a_refusal_it_is_tried_again_with_backoff(bench: Bench) -> None:
    bench.declare(A, patient=True)
    for _ in range(3):
        bench.connection.open().closed(MISSING)
        assert not bench.heard
        (delay,) = bench.connection.loop.fire()
        assert 0 < delay <= 1.0
    bench.connection.open().answer()
    assert bench.heard == ["a"]


def test_a_queue_without_an_answer_is_postponed_and_holds_up_no_other(bench: Bench) -> None:
    bench.declare(A)
    bench.declare(B)
    silent = bench.connection.open()
    assert bench.connection.loop.fire() == [10.0]
    other = bench.connection.open()
    other.answer()
    assert bench.heard == ["b"] and other is not silent
    silent.answer()
    assert not bench.declarer.knows("a"), "an answer that nobody waits for any more"
    bench.connection.loop.fire()
    other.answer()
    assert bench.heard == ["b", "a"]


def test_a_queue_that_is_gone_is_not_declared_at_once(bench: Bench) -> None:
    bench.declare(A)
    channel = bench.connection.open()
    channel.answer()
    bench.declarer.forget("a")
    bench.declare(A)
    assert len(channel.sent) == 1
    (delay,) = bench.connection.loop.fire()
    assert 0.5 < delay <= 1.0 and len(channel.sent) == 2
    channel.answer()
    bench.declarer.forget("a", gone=False)
    bench.declare(A)
    assert len(channel.sent) == 3, "at once, where it is only not known any more"


def test_all_is_forgotten_with_the_connection(bench: Bench) -> None:
    bench.declare(A)
    bench.connection.open().answer()
    bench.declare(B)
    bench.connection.lose()
    assert bench.connection.loop.fire() == [] and not bench.declarer.knows("a") and bench.heard == ["a"]
