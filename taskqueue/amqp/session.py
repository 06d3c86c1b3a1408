"""A blocking conversation with the broker, for programs that do one thing after another: client and operator's command.

1. `session.open()` turns the loop until there is a channel to publish on, or raises.
2. `outbox.publish(queue, properties, body, confirmed)` declares the queue, sends, and returns while at most 1,000
   messages have no confirm. What was lost with a connection is published again.
3. `outbox.settle()` waits until all are confirmed; `confirmed()` was called for each, in order.
4. `session.close()`.

An error that a callback raises comes out of the call that waits. The loop is turned here, and nowhere else in such a
program. It must never know what a message means.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from taskqueue.amqp import Connection, Declarer, Published, Publisher
from taskqueue.config.settings import AmqpSettings
from taskqueue.errors import BrokerRefused, BrokerUnavailable, WorkitemRefused
from taskqueue.foundation.loop import Loop
from taskqueue.protocol.properties import Properties
from taskqueue.protocol.queues import Queue

_CLOSE_S = 5.0
"""Seconds to wait for the broker at the end, at most: everything is confirmed by then, so there is nothing to lose."""
_WINDOW = 1000
"""Messages of an `Outbox` without a confirm at a time; above it `publish` waits."""


def _nothing() -> None:
    pass


class Session:
    """A connection that comes back by itself, and a loop that is turned while somebody waits.

    `timeout_s`: how long a call waits for the broker, in seconds, before it raises `BrokerUnavailable`. `safe_point()`
    is called whenever nothing is half done: it may raise, to end a wait.
    """

    def __init__(
        self,
        amqp: AmqpSettings,
        name: str,
        *,
        timeout_s: float,
        safe_point: Callable[[], None] = _nothing,
        connect: Callable[..., Connection] = Connection,
    ) -> None:
        self.amqp = amqp
        self.timeout_s = timeout_s
        self.loop = Loop()
        self._faults: list[Exception] = []
        """Errors that callbacks raised, and no call has raised yet."""
        self.connection = connect(self.loop, amqp, name, on_fault=self._faults.append)
        self._condition: Callable[[], object] = lambda: False
        self.loop.before_wait(self._wake_if_true)  # behind the connection's own hook
        self.declarer = Declarer(self.connection)
        self.publisher = Publisher(self.connection)
        self._safe_point = safe_point
        self._open = False

    def open(self, *, patient: bool = True) -> None:
        """Connect, where that has not been done. Where not `patient`, give up when every host was tried once."""
        if not self._open:
            self._open = True
            self.connection.start()
        if not self.wait(lambda: self.publisher.ready or not (patient or self.connection.untried), self.deadline()):
            self.unavailable()
        if not self.publisher.ready:
            kind = BrokerRefused if self.connection.refused else BrokerUnavailable
            raise kind(f"{self.connection.host}: {self.connection.trouble}")

    def close(self) -> None:
        """Close the connection, flushing what was published and acked."""
        if self._open:
            self._open = False
            self._safe_point = _nothing
            closed: list[bool] = []
            self.connection.close(lambda: closed.append(True))
            self.wait(lambda: bool(closed), time.monotonic() + min(self.timeout_s, _CLOSE_S))
            self.loop.close()

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and not closed since."""
        return self._open

    def deadline(self) -> float:
        """The time (monotonic) at which a wait that begins now ends."""
        return time.monotonic() + self.timeout_s

    def wait(self, condition: Callable[[], object], deadline: float | None) -> bool:
        """Turn the loop until `condition()`; False at the deadline.

        Raises `BrokerRefused` where the broker refuses us, and what a callback has raised.
        """
        self._condition = condition
        while True:
            if self._faults:
                error = self._faults[0]
                self._faults.clear()
                raise error
            self._safe_point()
            if condition():
                return True
            if self.connection.refused:
                raise BrokerRefused(f"{self.connection.host}: {self.connection.trouble}")
            left_s = 3600.0 if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                return False
            self.loop.turn(left_s)

    def _wake_if_true(self) -> None:
        """End the turn at once where the awaited condition became true in its hooks, or one of them raised."""
        if self._faults or self._condition():
            self.loop.call_soon(_nothing)

    def unavailable(self) -> None:
        """Raise `BrokerUnavailable` with the reason."""
        connection = self.connection
        why = "it takes no messages (memory or disk alarm)" if connection.blocked else connection.trouble or "no answer"
        raise BrokerUnavailable(f"{connection.host}: {why} for {self.timeout_s:g} s")

    def have(self, queue: Queue, deadline: float) -> None:
        """Declare `queue`; returns when it exists. Raises `BrokerRefused` where it does not exist and may not be
        made."""
        done: list[bool] = []
        refused: list[str] = []
        while not done:
            self.declarer.declare(queue, partial(done.append, True), refused.append)
            if not (
                self.wait(lambda: done or refused or not self.connection.is_up, deadline)
                and self.wait(lambda: self.connection.is_up, deadline)
            ):
                self.unavailable()
            if refused:
                raise BrokerRefused(f"{self.connection.host}: queue {queue.name}: {refused[0]}")

    def delete(self, name: str) -> None:
        """Delete a queue that this program made, if the connection is up."""
        done: list[bool] = []
        if self.connection.is_up:
            self.declarer.delete(name, lambda: done.append(True))
            self.wait(lambda: done or not self.connection.is_up, time.monotonic() + min(self.timeout_s, _CLOSE_S))


@dataclass(eq=False, slots=True)
class _Sent:
    queues: Sequence[Queue]
    properties: Properties
    body: bytes
    confirmed: Callable[[], object]
    done: bool = False
    refusal: str = ""


class Outbox:
    """Publishes many messages, many at a time, in flat memory; those lost with a connection are published again.

    `confirmed()` is called for each message, in the order of publishing, once the broker has it.
    """

    def __init__(self, session: Session, window: int = _WINDOW) -> None:
        self._session = session
        self._window = window
        self._order: deque[_Sent] = deque()
        self._lost: list[_Sent] = []

    @property
    def unconfirmed(self) -> int:
        """How many were published and not reported as confirmed."""
        return len(self._order)

    def publish(
        self,
        queue: Queue,
        properties: Properties,
        body: bytes,
        confirmed: Callable[[], object],
        *,
        needs: Queue | None = None,
    ) -> None:
        """Publish to `queue`, declaring it (and the queue that the message `needs`) where that has not been done.

        Returns while at most the window has no confirm. Raises `WorkitemRefused` where the broker does not take one:
        all before it are confirmed, those behind it may be. Raises `BrokerUnavailable` where no confirm came in time,
        `BrokerRefused` where we have no right to publish.
        """
        sent = _Sent([queue] if needs is None else [queue, needs], properties, body, confirmed)
        self._have(sent.queues, self._session.deadline())
        self._order.append(sent)
        self._send(sent)
        self.settle(self._window)

    def settle(self, left: int = 0) -> None:
        """Wait until at most `left` messages have no confirm."""
        session = self._session
        deadline = session.deadline()
        while self._order and (len(self._order) > left or self._order[0].refusal):
            before = len(self._order)
            if self._order[0].refusal:
                raise WorkitemRefused(self._order[0].refusal)
            if not session.wait(partial(self._moved, before), deadline):
                session.unavailable()
            if len(self._order) < before:
                deadline = session.deadline()
            if self._lost and session.wait(lambda: session.publisher.ready, deadline):
                again, self._lost[:] = self._lost[:], []
                for sent in again:
                    self._have(sent.queues, deadline)
                    self._send(sent)

    def _moved(self, before: int) -> bool:
        if forbidden := self._session.publisher.forbidden:
            raise BrokerRefused(f"{self._session.connection.host}: no permission to publish: {forbidden}")
        return bool(self._lost) or len(self._order) < before or bool(self._order[0].refusal)

    def _have(self, queues: Sequence[Queue], deadline: float) -> None:
        for queue in queues:
            if not self._session.declarer.knows(queue.name):
                self._session.have(queue, deadline)

    def _send(self, sent: _Sent) -> None:
        self._session.publisher.publish(sent.queues[0].name, sent.properties, sent.body, partial(self._answered, sent))

    def _answered(self, sent: _Sent, published: Published) -> None:
        if published is Published.REFUSED:
            sent.refusal = f"workitem {sent.properties.message_id}: {self._session.publisher.refusal}"
        elif published is Published.CONFIRMED:
            sent.done = True
        else:
            if published is Published.UNROUTABLE:
                self._session.declarer.forget(sent.queues[0].name)
            self._lost.append(sent)
        while self._order and self._order[0].done:
            self._order.popleft().confirmed()
