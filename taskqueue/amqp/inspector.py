"""Looks at queues that exist, and purges and deletes them where an operator says so. It must never create a queue.

1. `counts("worker_x", answered, failed)`: the question waits while another has no answer, then a channel is opened.
2. The broker answers: `answered(Counts(12, 3))`, and the next question is asked on the same channel.
3. There is no such queue: the broker closes the channel. `answered(None)`; the next question opens another.
4. No answer within 10 s, no permission, or no connection any more: `failed(error)`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pika.exceptions

from taskqueue.amqp.connection import Connection
from taskqueue.amqp.connection_user import ConnectionUser
from taskqueue.amqp.reasons import NOT_FOUND, describe
from taskqueue.errors import BrokerRefused, BrokerUnavailable, TaskqueueError
from taskqueue.foundation.loop import Timer
from taskqueue.protocol.queues import Queue

_ANSWER_S = 10.0
"""Seconds to wait for an answer, longer than an election takes: a quorum queue without a leader never answers."""
_STAT_S = 0.2
"""Seconds; counts of (0, 0) that took this long are no answer, and asked for again. RabbitMQ gives a quorum queue 250
ms to be counted, and then reports that it is empty and has no consumers (3.10 to 4.3, rabbit_quorum_queue:stat)."""
_AGAIN_S = 0.1
"""Seconds before a queue that is too busy to be counted is asked again."""


class Counts(NamedTuple):
    """Messages of a queue that no consumer has taken, and its consumers (AMQP 0-9-1, queue.declare-ok)."""

    ready: int
    consumers: int


Answered = Callable[[Any], None]
Failed = Callable[[TaskqueueError], None]


@dataclass(eq=False, slots=True)
class _Question:
    queue: str
    ask: Callable[[Any, Callable[[Any], None]], object]
    """Sends it on a channel (the first argument); the second is called with the broker's frame."""
    read: Callable[[Any], Any]
    answered: Answered
    failed: Failed


class Inspector(ConnectionUser):
    """Each question is answered once: by `answered(value)`, None where there is no such queue, or by `failed(error)`.

    Questions without an answer when the connection is lost have failed with `BrokerUnavailable`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._questions: deque[_Question] = deque()
        self._channel: Any = None
        self._busy = False
        self._deadline: Timer | None = None
        connection.add(self)

    def counts(self, queue: str, answered: Callable[[Counts | None], None], failed: Failed) -> None:
        """Messages and consumers of `queue`. A busy queue is asked again until it answers."""
        loop = self._connection.loop
        until = time.monotonic() + _ANSWER_S
        asked = 0.0

        def send(channel: Any, done: Callable[[Any], None]) -> None:
            nonlocal asked
            asked = time.monotonic()
            channel.queue_declare(queue, passive=True, callback=done)

        def counted(counts: Counts | None) -> None:
            now = time.monotonic()
            if counts != Counts(0, 0) or now - asked < _STAT_S:
                answered(counts)
            elif now < until:
                loop.call_later(_AGAIN_S, ask)
            else:
                failed(BrokerUnavailable(f"{self._connection.host}: queue {queue} is too busy to be counted"))

        def ask() -> None:
            self._ask(queue, send, lambda method: Counts(method.message_count, method.consumer_count), counted, failed)

        ask()

    def declare(self, queue: Queue, answered: Answered, failed: Failed) -> None:
        """Declare `queue`, which the caller knows to exist: nothing is created, and a refusal names the difference."""
        self._ask(
            queue.name,
            lambda channel, done: channel.queue_declare(
                queue.name, durable=True, arguments=dict(queue.arguments) or None, callback=done
            ),
            lambda method: None,
            answered,
            failed,
        )

    def purge(self, queue: str, answered: Callable[[int | None], None], failed: Failed) -> None:
        """Remove all messages of `queue` that no consumer has taken; `answered` gets their number."""
        self._ask(
            queue,
            lambda channel, done: channel.queue_purge(queue, callback=done),
            lambda method: method.message_count,
            answered,
            failed,
        )

    def delete(self, queue: str, answered: Callable[[int | None], None], failed: Failed) -> None:
        """Delete `queue` with all its messages; `answered` gets their number."""
        self._ask(
            queue,
            lambda channel, done: channel.queue_delete(queue, callback=done),
            lambda method: method.message_count,
            answered,
            failed,
        )

    # -- called by the connection

    def up(self) -> None:
        """Ask what waits."""
        self._next()

    def down(self) -> None:
        """Questions without an answer have failed."""
        self._end_deadline()
        self._channel, self._busy = None, False
        questions, self._questions = self._questions, deque()
        for question in questions:
            question.failed(BrokerUnavailable(f"{self._connection.host}: connection lost"))

    # -- one after the other

    def _ask(self, queue: str, ask: Any, read: Any, answered: Answered, failed: Failed) -> None:
        if not self._connection.is_up:
            failed(BrokerUnavailable(f"{self._connection.host}: not connected"))
            return
        self._questions.append(_Question(queue, ask, read, answered, failed))
        self._next()

    def _next(self) -> None:
        if self._busy or not self._questions or not self._connection.is_up:
            return
        self._busy = True
        self._deadline = self._connection.loop.call_later(_ANSWER_S, self._unanswered)
        if self._channel is None:
            self._channel = self._connection.pika.channel(on_open_callback=self._send)
            self._channel.add_on_close_callback(self._closed)
        else:
            self._send(self._channel)

    def _send(self, channel: Any) -> None:
        if channel is self._channel:
            self._questions[0].ask(channel, partial(self._answered, channel))

    def _answered(self, channel: Any, frame: Any) -> None:
        if channel is self._channel:
            question = self._first_out()
            question.answered(question.read(frame.method))
            self._next()

    def _closed(self, channel: Any, error: BaseException) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        if not self._busy or not self._connection.is_up or not self._connection.pika.is_open:
            return
        question = self._first_out()
        if not isinstance(error, pika.exceptions.ChannelClosed):
            question.failed(BrokerUnavailable(f"{self._connection.host}: {describe(error)}"))
        elif error.reply_code == NOT_FOUND:
            question.answered(None)
        else:
            question.failed(BrokerRefused(f"{self._connection.host}: queue {question.queue}: {describe(error)}"))
        self._next()

    def _unanswered(self) -> None:
        self._channel = None  # it waits for the same leader, and is closed with the connection
        question = self._first_out()
        host = self._connection.host
        question.failed(BrokerUnavailable(f"{host}: no answer for queue {question.queue}; has it a leader?"))
        self._next()

    def _first_out(self) -> _Question:
        self._end_deadline()
        self._busy = False
        return self._questions.popleft()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
