"""What the connection does about an error that nobody expected, without a broker: it is not even started."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from taskqueue.amqp.connection import Connection
from taskqueue.amqp.connection_user import ConnectionUser
from taskqueue.amqp.containment import ConnectionLoop, FaultLog
from taskqueue.config.load import load
from taskqueue.config.settings import AmqpSettings
from taskqueue.foundation.contained_loop import name_of
from taskqueue.foundation.loop import Loop

Caught = pytest.LogCaptureFixture


def settings() -> AmqpSettings:
    return replace(load(environ={"TASKQUEUE_AMQP_URL": "amqp://127.0.0.1"}).amqp, hosts=(("127.0.0.1", 1),))


class User(ConnectionUser):
    """Records its calls; has outcomes to report, of which 0 raises."""

    def __init__(self, calls: list[str], name: str, outcomes: list[int] | None = None) -> None:
        self.calls = calls
        self.name = name
        self.left = outcomes or []
        self.bad_delivery = False

    def up(self) -> None:
        self.calls.append(f"{self.name} up")

    def down(self) -> None:
        self.calls.append(f"{self.name} down")
        if self.bad_delivery:
            raise KeyError("down")

    def outcomes(self) -> None:
        while self.left:
            number = self.left.pop(0)
            1 // number
            self.calls.append(f"{self.name} outcome {number}")

    def deliver(self) -> None:
        if self.bad_delivery:
            raise KeyError("deliver")

    def flush(self) -> None:
        self.calls.append(f"{self.name} flush")


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.mark.parametrize("numbers", [[0, 2, 3], [2, 0, 3], [0, 0, 2, 0, 3]], ids=str)
def test_an_error_in_a_batch_of_outcomes_loses_no_other_and_acks_still_leave(
    loop: Loop, numbers: list[int], caplog: Caught
) -> None:
    calls: list[str] = []
    connection = Connection(loop, settings(), "test")
    connection.add(User(calls, "a", numbers))
    connection.add(User(calls, "b", [5]))
    loop.turn(0)
    assert calls == ["a outcome 2", "a outcome 3", "b outcome 5", "a flush", "b flush"]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1, "one line for one line of code"
    assert "callback=Connection._turn" in errors[0].getMessage() and "ZeroDivisionError" in str(errors[0].exc_text)
    assert connection.trouble == "unexpected error: ZeroDivisionError: integer division or modulo by zero"


def test_it_is_connected_again_after_its_backoff(loop: Loop) -> None:
    calls: list[str] = []
    connection = Connection(loop, settings(), "test")
    user = User(calls, "a")
    connection.add(user)
    user.bad_delivery = True
    loop.turn(0)
    user.bad_delivery = False
    wait_s = loop.next_due_s()
    while wait_s == 0.0:
        loop.turn(0)
        wait_s = loop.next_due_s()
    assert wait_s is not None and 0.1 < wait_s <= 0.25


def test_an_error_while_it_is_lost_reaches_every_other_user(loop: Loop, caplog: Caught) -> None:
    calls: list[str] = []
    connection = Connection(loop, settings(), "test", on_down=lambda: calls.append("on_down"))
    first = User(calls, "a")
    connection.add(first)
    connection.add(User(calls, "b"))
    connection.is_up = True  # as if it were open
    first.bad_delivery = True
    loop.turn(0)
    assert calls[-3:] == ["a down", "b down", "on_down"] and not connection.is_up
    assert caplog.text.count("KeyError: 'deliver'") == caplog.text.count("KeyError: 'down'") == 1


def test_a_timer_of_a_user_that_raises_does_not_end_the_loop(loop: Loop, caplog: Caught) -> None:
    connection = Connection(loop, settings(), "test")
    connection.loop.call_later(0.0, lambda: [][1])
    connection.loop.call_soon(lambda: {}[1])
    connection.loop.add_callback(lambda: 1 // 0)
    for _ in range(3):
        loop.turn(0.01)
    assert [name in caplog.text for name in ("IndexError", "KeyError", "ZeroDivisionError")] == [True] * 3


def test_whoever_waits_for_the_answer_gets_the_error_and_keeps_the_connection(loop: Loop, caplog: Caught) -> None:
    calls: list[str] = []
    faults: list[Exception] = []
    connection = Connection(loop, settings(), "test", on_fault=faults.append)
    connection.add(User(calls, "a", [2, 0, 3]))
    connection.is_up = True  # as if it were open
    loop.turn(0)
    assert [type(fault) for fault in faults] == [ZeroDivisionError] and calls[:2] == ["a outcome 2", "a outcome 3"]
    assert connection.is_up and not caplog.records


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_is_not_contained(loop: Loop, error: type[BaseException]) -> None:
    def end() -> None:
        raise error

    Connection(loop, settings(), "test").loop.call_soon(end)
    with pytest.raises(error):
        loop.turn(0)


def test_each_error_is_logged_once_until_it_is_cleared(caplog: Caught) -> None:
    faults = FaultLog()
    contained = ConnectionLoop(Loop(), faults.log)

    def divide(by: int) -> float:
        return 1 / by

    for _ in range(3):
        assert not contained.run(partial(divide, 0))
    assert len(caplog.records) == 1 and "divide" in caplog.text
    assert not contained.run(partial(divide), "text") and len(caplog.records) == 2, "another error of the same line"
    faults.clear()
    contained.run(divide, 0)
    assert len(caplog.records) == 3


def test_names_of_callbacks() -> None:
    assert name_of(partial(partial(Connection.start, None))) == "Connection.start"  # type: ignore[arg-type]
    assert name_of(User([], "a").flush) == "User.flush"
