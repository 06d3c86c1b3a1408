"""The blocking session, without a broker: each call returns with an answer, or raises."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import pika.exceptions
import pytest

from recorded_amqp import RecordedChannel, RecordedConnection
from taskqueue.amqp import Connection
from taskqueue.amqp.session import Outbox, Session
from taskqueue.config.load import load
from taskqueue.errors import BrokerRefused, BrokerUnavailable, WorkitemRefused
from taskqueue.foundation.loop import Loop
from taskqueue.protocol.properties import Properties
from taskqueue.protocol.queues import Queue

PLAIN = Queue("plain", {})


class Scripted(RecordedConnection):
    """A connection that is up once `start` was called, and acts by itself in each turn of the session's loop."""

    def __init__(self, loop: Loop, amqp: Any, name: str, *, on_fault: Callable[[Exception], None]) -> None:
        super().__init__()
        self.is_up = False
        self.untried = True
        self.busy = True
        """Whether there is always a packet, so that no turn waits."""
        self.raised = on_fault
        self.script: Callable[[], object] = self.answer_all
        """What the broker does in each turn."""
        loop.before_wait(self._turn)
        self.spin = loop

    def start(self) -> None:
        self.is_up = True
        for user in self.users:
            user.up()

    def close(self, done: Callable[[], None]) -> None:
        done()

    def _turn(self) -> None:
        if self.busy:
            self.spin.call_soon(lambda: None)
        self.script()
        try:
            self.turn()
        except Exception as error:
            self.raised(error)

    def answer_all(self) -> None:
        """Open what is to be opened, answer what is asked, confirm what was published."""
        for channel in self.pika.channels:
            if not channel.is_open and ("close",) not in channel.sent:
                channel.open()
            while channel.answers:
                channel.answer()
            if channel.channel_number in self.pika.acks and channel.bodies:
                channel.ack(len(channel.bodies), multiple=True)


@pytest.fixture
def session() -> Session:
    amqp = load(environ={"TASKQUEUE_AMQP_URL": "amqp://127.0.0.1"}).amqp
    return Session(amqp, "test", timeout_s=0.2, connect=cast(Callable[..., Connection], Scripted))


def scripted(session: Session) -> Scripted:
    return cast(Scripted, session.connection)


def send(outbox: Outbox, body: str, confirmed: Callable[[], object] = lambda: None) -> None:
    outbox.publish(PLAIN, Properties(message_id=body), body.encode(), confirmed)


def test_all_are_confirmed_in_order_and_the_queue_is_declared_first(session: Session) -> None:
    session.open()
    confirmed: list[str] = []
    outbox = Outbox(session, window=3)
    for body in "abcdefgh":
        send(outbox, body, lambda body=body: confirmed.append(body))  # type: ignore[misc]
        assert outbox.unconfirmed <= 3
    outbox.settle()
    assert confirmed == list("abcdefgh") and outbox.unconfirmed == 0
    session.close()
    assert not session.is_open


def test_open_gives_up_when_every_host_was_tried_or_at_the_deadline(session: Session) -> None:
    connection = scripted(session)
    connection.script = lambda: None
    connection.trouble = "connection refused"
    connection.untried = False
    with pytest.raises(BrokerUnavailable, match="recorded:5672: connection refused"):
        session.open(patient=False)
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"for 0.2 s"):
        session.open()
    assert time.monotonic() - began >= 0.2


def test_a_broker_that_refuses_us_ends_every_wait(session: Session) -> None:
    session.open()
    scripted(session).refused = True
    scripted(session).trouble = "wrong password"
    with pytest.raises(BrokerRefused, match="wrong password"):
        session.wait(lambda: False, None)


def test_what_was_lost_with_the_connection_is_published_again(session: Session) -> None:
    session.open()
    connection = scripted(session)
    outbox = Outbox(session)
    confirmed: list[str] = []
    send(outbox, "a", lambda: confirmed.append("a"))
    connection.script = lambda: None
    connection.lose()
    connection.start()
    connection.script = connection.answer_all
    outbox.settle()
    assert confirmed == ["a"]
    assert [b"a"] in [channel.bodies for channel in connection.pika.channels]


def test_a_message_that_is_refused_is_raised_when_all_before_it_are_confirmed(session: Session) -> None:
    session.open()
    outbox = Outbox(session)
    confirmed: list[str] = []
    send(outbox, "a", lambda: confirmed.append("a"))
    send(outbox, "unencodable")
    with pytest.raises(WorkitemRefused, match="unencodable"):
        outbox.settle()
    assert confirmed == ["a"]


def test_without_a_confirm_in_time_the_broker_is_unavailable(session: Session) -> None:
    session.open()
    outbox = Outbox(session)
    send(outbox, "a")
    outbox.settle()
    scripted(session).script = lambda: None
    scripted(session).blocked = True
    send(outbox, "b")
    with pytest.raises(BrokerUnavailable, match="memory or disk alarm"):
        outbox.settle()


def test_an_error_of_a_callback_comes_out_of_the_call_that_waits(session: Session) -> None:
    session.open()
    outbox = Outbox(session)
    confirmed: list[str] = []

    def broken_pipe() -> None:
        raise BrokenPipeError

    send(outbox, "a", broken_pipe)
    send(outbox, "b", lambda: confirmed.append("b"))
    with pytest.raises(BrokenPipeError):
        outbox.settle()
    outbox.settle()
    assert confirmed == ["b"], "the next call goes on"


@pytest.mark.parametrize("raises", [False, True])
def test_what_comes_true_or_raises_in_a_hook_does_not_wait_for_the_next_packet(session: Session, raises: bool) -> None:
    session.open()
    facts: list[bool] = []

    def act() -> None:
        if raises:
            scripted(session).raised(KeyError("fields"))
        facts.append(True)

    scripted(session).busy = False
    scripted(session).script = act
    began = time.monotonic()
    if raises:
        with pytest.raises(KeyError):
            session.wait(lambda: False, began + 10.0)
    else:
        assert session.wait(lambda: facts, began + 10.0)
    assert time.monotonic() - began < 5.0


def test_a_safe_point_may_end_a_wait(session: Session) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    session._safe_point = interrupted
    with pytest.raises(KeyboardInterrupt):
        session.open()


def test_a_refused_declaration_is_raised(session: Session) -> None:
    session.open()
    connection = scripted(session)

    def refuse() -> None:
        for channel in list(connection.pika.channels):
            _refuse(channel, pika.exceptions.ChannelClosedByBroker(404, "queue limit"))

    connection.script = refuse
    with pytest.raises(BrokerRefused, match="queue plain: 404 queue limit"):
        session.have(PLAIN, session.deadline())


def _refuse(channel: RecordedChannel, error: Exception) -> None:
    if not channel.is_open and not channel.sent:
        channel.open()
    if channel.answers:
        channel.answers.clear()
        channel.closed(error)
