"""The publisher's policy, without a broker: first messages alone, the search for the one that is refused, losses."""

from __future__ import annotations

from typing import cast

import pika.exceptions
import pytest

from recorded_amqp import RecordedChannel, RecordedConnection
from taskqueue.amqp import Connection, Published, Publisher
from taskqueue.protocol.properties import Properties

TOO_LARGE = pika.exceptions.ChannelClosedByBroker(406, "PRECONDITION_FAILED - message size 3000 is larger")
FORBIDDEN = pika.exceptions.ChannelClosedByBroker(403, "ACCESS_REFUSED")


class Bench:
    """A publisher on a channel that is open; `fates` by body."""

    def __init__(self) -> None:
        self.connection = RecordedConnection()
        self.publisher = Publisher(cast(Connection, self.connection))
        self.channel = self.connection.open()
        self.fates: dict[str, Published] = {}

    def publish(self, *bodies: str, queue: str = "q") -> None:
        for body in bodies:
            properties = Properties(message_id=body)
            self.publisher.publish(queue, properties, body.encode(), lambda fate, body=body: self._done(body, fate))  # type: ignore[misc]

    def _done(self, body: str, fate: Published) -> None:
        assert body not in self.fates, "told once"
        self.fates[body] = fate

    def reopen(self) -> RecordedChannel:
        """Let the wait for another channel end, and open it."""
        self.connection.loop.fire()
        self.channel = self.connection.open()
        return self.channel

    def answering(self) -> None:
        """Have the first message confirmed, so that others are sent at once."""
        self.publish("first")
        self.channel.ack(1)
        self.connection.turn()
        assert self.fates.pop("first") is Published.CONFIRMED


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_first_message_for_a_queue_goes_alone_and_holds_up_no_other_queue(bench: Bench) -> None:
    bench.publish("a", "b", "c")
    bench.publish("d", queue="other")
    assert bench.channel.bodies == [b"a", b"d"]
    bench.channel.ack(1)
    assert bench.channel.bodies == [b"a", b"d", b"b", b"c"], "in order, once it answers"
    bench.channel.ack(4, multiple=True)
    bench.connection.turn()
    assert bench.fates == dict.fromkeys("abcd", Published.CONFIRMED) and bench.publisher.unconfirmed == 0


@pytest.mark.parametrize("refused", ["", "a", "d", "ad", "abcd"])
def test_the_search_finds_every_message_that_the_broker_refuses(bench: Bench, refused: str) -> None:
    bench.answering()
    bench.publish(*"abcd")
    bench.channel.closed(TOO_LARGE)
    sent = bench.reopen()
    while len(bench.fates) < 4:
        (body,) = sent.bodies[-1:]
        if body.decode() in refused:
            sent.closed(TOO_LARGE)
            bench.connection.turn()
            sent = bench.reopen()
        else:
            sent.ack(len(sent.bodies), multiple=True)
            bench.connection.turn()
    assert {body for body, fate in bench.fates.items() if fate is Published.REFUSED} == set(refused)
    assert set(bench.fates.values()) <= {Published.REFUSED, Published.CONFIRMED}


def test_the_search_sends_one_at_a_time_and_before_all_others(bench: Bench) -> None:
    bench.answering()
    bench.publish("a", "b")
    bench.channel.closed(TOO_LARGE)
    bench.publish("later")
    channel = bench.reopen()
    bench.publish("too", queue="other")
    assert channel.bodies == [b"a"]
    channel.ack(1)
    assert channel.bodies == [b"a", b"b"]
    channel.ack(2)
    assert channel.bodies[2:] == [b"later", b"too"]


def test_a_missing_permission_refuses_no_message_and_is_tried_again(bench: Bench) -> None:
    bench.publish("a")
    bench.channel.closed(FORBIDDEN)
    assert bench.publisher.forbidden == "403 ACCESS_REFUSED" and not bench.publisher.ready
    bench.reopen().ack(1)
    bench.connection.turn()
    assert bench.fates == {"a": Published.CONFIRMED} and bench.publisher.forbidden == ""


def test_a_queue_without_an_answer_gets_another_channel_and_nothing_is_published_twice(bench: Bench) -> None:
    bench.publish("a", "b")
    silent = bench.channel
    assert bench.connection.loop.fire() == [1.0]
    other = bench.connection.open()
    bench.publish("c", queue="other")
    assert silent.bodies == [b"a"] and other.bodies == [b"b", b"c"]
    silent.ack(1)
    assert ("close",) in silent.sent, "all that was sent on it is answered"
    other.ack(2, multiple=True)
    bench.connection.turn()
    assert bench.fates == dict.fromkeys("abc", Published.CONFIRMED)


def test_all_without_an_answer_is_lost_with_the_connection_and_a_late_confirm_changes_nothing(bench: Bench) -> None:
    bench.answering()
    bench.publish("a", "b")
    bench.publish("waits", queue="other")
    bench.channel.ack(2)
    bench.connection.lose()
    bench.channel.ack(3)
    bench.publish("late")
    bench.connection.turn()
    lost = dict.fromkeys(["b", "waits", "late"], Published.LOST)
    assert bench.fates == {"a": Published.CONFIRMED, **lost}


def test_a_message_that_cannot_be_encoded_is_refused_and_its_queue_is_not_blocked(bench: Bench) -> None:
    bench.publish("unencodable", "b")
    bench.connection.turn()
    assert bench.fates == {"unencodable": Published.REFUSED} and bench.channel.bodies == [b"b"]


def test_an_owner_that_raises_costs_no_other_its_outcome(bench: Bench) -> None:
    bench.answering()
    bench.publish("a")
    bench.publisher.publish("q", Properties(message_id="bad"), b"bad", lambda fate: 1 // 0)  # type: ignore[arg-type,return-value]
    bench.publish("b", "c")
    bench.channel.ack(5, multiple=True)
    with pytest.raises(ZeroDivisionError):
        bench.connection.turn()
    assert bench.fates == {"a": Published.CONFIRMED}
    bench.connection.turn()
    assert bench.fates == dict.fromkeys("abc", Published.CONFIRMED)
