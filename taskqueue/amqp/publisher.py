"""Publishes on a channel of its own, persistent, mandatory and confirmed, and reports what became of each message.

The life of a message to `worker_x`:

1. `publish("worker_x", properties, body, done)`. The first for a queue on a channel goes alone: a quorum queue without
   a leader makes the channel wait for it (RabbitMQ 3.10: five seconds, then a nack), with all else that is sent on it.
2. The broker confirms it: all that waits for `worker_x` is sent, and what comes later is sent at once.
3. In the next turn `done(Published.CONFIRMED)` is called, or UNROUTABLE where there is no such queue.

Where it goes otherwise:

- No answer within a second: another channel is opened. The old one is closed when all that was sent on it has its
  answer, so that nothing is published twice; after 30 s its messages are published again.
- A nack (the queue is full): the queue is tried again after a while.
- The broker closes the channel for one message: the one is searched for (see `waiting`), and gets REFUSED.
- The broker closes the channel because we may not publish: tried again for ever, until an operator grants it.
- The connection is lost: LOST. The owner decides whether it publishes again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pika.exceptions

from taskqueue.amqp.confirm_channel import ConfirmChannel, Message, Published
from taskqueue.amqp.connection import Connection
from taskqueue.amqp.connection_user import ConnectionUser
from taskqueue.amqp.patience import patience_s
from taskqueue.amqp.reasons import FORBIDDEN, describe
from taskqueue.amqp.waiting import Waiting
from taskqueue.foundation.backoff import Backoff
from taskqueue.foundation.loop import Timer
from taskqueue.protocol.properties import Properties

log = logging.getLogger(__name__)

_BACKOFF = (0.05, 5.0)
"""Seconds, first and longest wait before another channel is opened, and before a queue that nacks is tried again."""
_ANSWERS_S = 30.0
"""Seconds that a retired channel has to answer; then its messages are published again: at least once."""


class Publisher(ConnectionUser):
    """Publishes to the default exchange."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel: ConfirmChannel | None = None
        self._opening: Any = None
        self._retired: list[ConfirmChannel] = []
        """Channels on which nothing is sent any more, with answers to come."""
        self._waiting = Waiting()
        """Messages that wait for a channel, for their queue's first answer on it, or for the end of its backoff."""
        self._nacks: dict[str, Backoff] = {}
        self._backing_off: set[str] = set()
        """Queues that have nacked, and are not tried again for a while."""
        self._answered: list[tuple[Message, Published, str]] = []
        self.refusal = ""
        """Why, while `done(Published.REFUSED)` is called."""
        self.forbidden = ""
        """Why we may not publish, in the broker's words; "" once it has taken something."""
        self._backoff = Backoff(*_BACKOFF)
        self._unanswered_channels = 0
        """How many channels, one after the other, a queue has not answered on."""
        self._retry: Timer | None = None
        connection.add(self)

    @property
    def ready(self) -> bool:
        """Whether there is a channel to publish on."""
        return self._channel is not None

    @property
    def unconfirmed(self) -> int:
        """How many messages have no answer yet."""
        return len(self._unanswered())

    def publish(self, routing_key: str, properties: Properties, body: bytes, done: Callable[[Published], None]) -> None:
        """Publish; `done` is called once, in a later turn, with what became of it.

        `properties.message_id` must be set: a message that the broker returns is known by it.
        """
        message = Message(routing_key, properties, body, done)
        channel = self._channel
        if channel is not None and routing_key in channel.answering and not self._waiting.maybe_refused:
            self._send(channel, message)
        elif self._connection.is_up:
            self._waiting.append(message)
            self._send_waiting(routing_key)
        else:
            self._answered.append((message, Published.LOST, ""))

    # -- called by the connection

    def up(self) -> None:
        """Open a channel."""
        self._open()

    def down(self) -> None:
        """Report all messages without an answer as lost."""
        self._answered.extend((message, Published.LOST, "") for message in self._unanswered())
        for channel in self._channels():
            channel.pending.clear()  # an answer may still come while the connection closes
        self._channel = self._opening = None
        self._retired.clear()
        self._waiting.clear()
        self._backing_off.clear()
        self._unanswered_channels = 0
        if self._retry is not None:
            self._retry.cancel()

    def outcomes(self) -> None:
        """Report to owners what became of their messages."""
        while self._answered:
            answered, self._answered = iter(self._answered), []
            try:
                for message, published, self.refusal in answered:
                    message.done(published)
            finally:
                self._answered[:0] = answered  # those behind one whose `done` raised

    # -- channels

    def _channels(self) -> list[ConfirmChannel]:
        return self._retired if self._channel is None else [*self._retired, self._channel]

    def _unanswered(self) -> list[Message]:
        return [*(message for channel in self._channels() for message in channel.pending.values()), *self._waiting]

    def _open(self) -> None:
        if self._connection.is_up and self._connection.pika.is_open:
            self._opening = self._connection.pika.channel(on_open_callback=self._opened)
            self._opening.add_on_close_callback(self._closed)

    def _opened(self, pika_channel: Any) -> None:
        channel = ConfirmChannel(pika_channel)
        pika_channel.add_on_return_callback(channel.on_return)
        pika_channel.confirm_delivery(partial(self._on_confirm, channel), callback=lambda _: self._confirming(channel))

    def _confirming(self, channel: ConfirmChannel) -> None:
        self._channel, self._opening = channel, None
        self._connection.pika.acks[channel.channel.channel_number] = partial(self._on_ack, channel)
        self._send_all_waiting()

    def _closed(self, pika_channel: Any, error: BaseException) -> None:
        """By the broker, by us, or with the connection."""
        channel = next((each for each in self._channels() if each.channel is pika_channel), None)
        if channel is None and pika_channel is not self._opening:
            return
        unanswered = list(channel.pending.values()) if channel is not None else []
        found = False
        if isinstance(error, pika.exceptions.ChannelClosedByBroker):
            if error.reply_code == FORBIDDEN:  # concerns all messages
                self.forbidden = describe(error)
            elif found := len(unanswered) == 1:
                self._answer(unanswered.pop(), Published.REFUSED, describe(error))
            else:
                self._waiting.maybe_refused |= dict.fromkeys(unanswered)
        if self._connection.pika.is_open:
            log.warning("publishing channel closed: reason=%s; opening another", describe(error))
        if channel in self._retired:
            self._retired.remove(channel)
        else:
            self._channel = self._opening = None
            wait_s = 0.0 if found else self._backoff.next_s()
            self._retry = self._connection.loop.call_later(wait_s, self._open)
        self._send_again(unanswered)

    def _retire(self, channel: ConfirmChannel) -> None:
        """Send nothing more on `channel`; open another."""
        self._channel = None
        self._retired.append(channel)
        for message in channel.pending.values():  # where the broker closes it for one, this one is alone there
            self._waiting.maybe_refused.pop(message, None)
        self._connection.loop.call_later(_ANSWERS_S, partial(self._give_up, channel))
        self._open()

    def _close_if_answered(self, channel: ConfirmChannel) -> None:
        if channel in self._retired and not channel.pending:
            self._retired.remove(channel)
            if channel.channel.is_open:
                channel.channel.close()

    def _give_up(self, channel: ConfirmChannel) -> None:
        if channel in self._retired:
            unanswered = list(channel.pending.values())
            channel.pending.clear()
            self._close_if_answered(channel)
            self._send_again(unanswered)

    # -- sending

    def _send_again(self, messages: Sequence[Message]) -> None:
        """Send these, before others, once their queues answer."""
        self._waiting.put_first(messages)
        self._send_all_waiting()

    def _send_all_waiting(self) -> None:
        for routing_key in list(self._waiting.lines):
            self._send_waiting(routing_key)

    def _send_waiting(self, routing_key: str) -> None:
        channel, waiting = self._channel, self._waiting
        if channel is None or routing_key not in waiting.lines or not self._connection.pika.is_open:
            return
        if waiting.maybe_refused:
            if not channel.pending:
                self._probe(channel, waiting.take_maybe_refused())
        elif routing_key in channel.answering:
            for message in waiting.take_all(routing_key):
                self._send(channel, message)
        elif routing_key not in channel.probing and routing_key not in self._backing_off:
            self._probe(channel, waiting.take(routing_key))

    def _probe(self, channel: ConfirmChannel, message: Message) -> None:
        """Send one message to a queue that may have no leader."""
        channel.probing.add(message.routing_key)
        self._expect_answer(channel, message.routing_key)
        self._send(channel, message)

    def _send(self, channel: ConfirmChannel, message: Message) -> None:
        try:
            channel.send(message)
        except Exception as error:  # from an encoder: nothing was sent
            self._answer(message, Published.REFUSED, f"{type(error).__name__}: {error}"[:200])
            channel.probing.discard(message.routing_key)
            self._connection.loop.call_soon(self._send_all_waiting)  # no packet will come for it: turn at once

    def _expect_answer(self, channel: ConfirmChannel, routing_key: str) -> None:
        check = partial(self._check_answer, channel, routing_key)
        self._connection.loop.call_later(patience_s(self._unanswered_channels), check)

    def _check_answer(self, channel: ConfirmChannel, routing_key: str) -> None:
        if channel is not self._channel or routing_key not in channel.probing:
            return
        if self._connection.blocked:
            self._expect_answer(channel, routing_key)
            return
        log.warning("broker does not answer a publish: queue=%s; has it a leader? trying another channel", routing_key)
        self._unanswered_channels += 1
        self._retire(channel)

    # -- answers

    def _answer(self, message: Message, published: Published, why: str = "") -> None:
        self._waiting.maybe_refused.pop(message, None)
        self._answered.append((message, published, why))

    def _on_confirm(self, channel: ConfirmChannel, frame: Any) -> None:
        method = frame.method
        if method.NAME == "Basic.Nack":
            self._on_nack(channel, channel.answered(method.delivery_tag, method.multiple))
            self._close_if_answered(channel)
        else:
            self._on_ack(channel, method.delivery_tag, method.multiple)

    def _on_ack(self, channel: ConfirmChannel, tag: int, multiple: bool) -> None:
        messages = channel.answered(tag, multiple)
        self._backoff.reset()
        self.forbidden = ""
        searching = bool(self._waiting.maybe_refused)
        for message in messages:
            self._answer(message, channel.outcome(message))
        if channel.probing:
            self._found_answering(channel, channel.probing.intersection(message.routing_key for message in messages))
        if channel is not self._channel:
            self._close_if_answered(channel)
        elif searching:  # the next one, or all that had to wait for the end of the search
            self._send_all_waiting()

    def _on_nack(self, channel: ConfirmChannel, messages: list[Message]) -> None:
        routing_keys = {message.routing_key for message in messages}
        for routing_key in routing_keys - self._backing_off:
            wait_s = self._nacks.setdefault(routing_key, Backoff(*_BACKOFF)).next_s()
            log.warning("broker did not take a message: queue=%s; trying again", routing_key)
            self._backing_off.add(routing_key)
            self._connection.loop.call_later(wait_s, partial(self._end_backoff, routing_key))
        for message in messages:
            self._waiting.maybe_refused.pop(message, None)
        if channel is self._channel:
            self._retire(channel)
        self._send_again(messages)

    def _end_backoff(self, routing_key: str) -> None:
        self._backing_off.discard(routing_key)
        self._send_waiting(routing_key)

    def _found_answering(self, channel: ConfirmChannel, routing_keys: set[str]) -> None:
        """These queues have answered on `channel`."""
        channel.found_answering(routing_keys)
        for routing_key in routing_keys:
            self._unanswered_channels = 0
            self._nacks.pop(routing_key, None)
            self._send_waiting(routing_key)
