"""Publishes on a channel of its own, persistent, mandatory and confirmed; says of each message what became of it.

The first message for a queue goes alone: a quorum queue without a leader makes the channel wait for it (RabbitMQ 3.10:
five seconds, then a nack; of what else was sent on that channel meanwhile, nobody knows). Others are sent when it has
its answer. Where that does not come, or is a no, another channel is tried, and the queue rests for a while; the old
channel is closed when all that was sent on it is answered, so that nothing is published twice.

Where the broker closes the channel for one message it does not say for which: all that had no answer are sent one at a
time, until the one is found that it refuses. What was not confirmed when the connection was lost is reported as lost:
its owner knows whether it still matters.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import takewhile
from typing import Any

import pika.exceptions

from taskqueue.amqp.connection import Connection
from taskqueue.amqp.patience import patience_s
from taskqueue.amqp.wire import describe
from taskqueue.foundation.backoff import Backoff
from taskqueue.foundation.loop import Timer
from taskqueue.protocol.properties import Properties

log = logging.getLogger(__name__)

_BACKOFF = (0.05, 5.0)
"""First and longest wait for another channel, and for a queue that nacks, in seconds."""
_ANSWERS_S = 30.0
"""What a channel that is no longer used has not answered after so long is published again: at least once."""
_MOST_PROVEN = 1000
"""Queues remembered to answer: reply queues come and go."""
_FORBIDDEN = 403
"""Of a whole channel, not of a message: no permission to publish. It is given back when a person has seen to it."""


class Published(Enum):
    """What became of a message."""

    CONFIRMED = "confirmed"
    UNROUTABLE = "unroutable"
    """No such queue: the broker gave it back."""
    LOST = "lost"
    """The connection ended before the broker answered: it may be in the queue or not."""
    REFUSED = "refused"
    """The broker closes the channel for it (a body over its `max_message_size`), or AMQP cannot carry it. It is in no
    queue, and would be in none however often it were published; `Publisher.refusal` says why."""


@dataclass(eq=False, slots=True)
class _Message:
    routing_key: str
    properties: Properties
    body: bytes
    done: Callable[[Published], None]


class _Lane:
    """A channel, and what was sent on it and has no answer."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.pending: dict[int, _Message] = {}
        self.proven: set[str] = set()
        """Queues that have answered on it."""
        self.asked: set[str] = set()
        """Queues whose first message has no answer yet."""
        self._tag = 0
        self._returned: Counter[tuple[str, str | None]] = Counter()
        """Messages that came back and are not confirmed yet; clients may give many the same `message_id`."""

    def send(self, message: _Message) -> None:
        """Publish; raises what `frames.publish` and pika raise for what AMQP cannot carry."""
        channel = self.channel
        channel.connection.publish(channel, message.routing_key, message.properties, message.body)
        self._tag += 1  # behind it: what cannot be encoded was not sent, and not counted by the broker
        self.pending[self._tag] = message

    def on_return(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """The broker gave a message back; its ack follows."""
        self._returned[method.routing_key, properties.message_id] += 1

    def answered(self, tag: int, multiple: bool) -> list[_Message]:
        """The messages that an ack or nack is for: pending no more."""
        tags = list(takewhile(tag.__ge__, self.pending)) if multiple else [tag]
        return [message for each in tags if (message := self.pending.pop(each, None)) is not None]

    def outcome(self, message: _Message) -> Published:
        """What an ack of `message` means."""
        if self._returned:
            key = (message.routing_key, message.properties.message_id)
            if self._returned[key]:
                self._returned[key] -= 1
                self._returned = +self._returned  # without those at 0
                return Published.UNROUTABLE
        return Published.CONFIRMED


class Publisher:
    """Publishes to the default exchange."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lane: _Lane | None = None
        self._opening: Any = None
        self._old: list[_Lane] = []
        """Lanes on which nothing is sent any more, with answers to come."""
        self._held: dict[str, deque[_Message]] = {}
        """By queue: what waits for a channel, for the queue's first answer on it, or for the queue to rest."""
        self._suspects: dict[_Message, None] = {}
        """Of what is held: for one of them the broker closed the channel. Sent one at a time, before all others."""
        self._nacks: dict[str, Backoff] = {}
        self._resting: set[str] = set()
        """Queues that have nacked, and are not asked again for a while."""
        self._answered: list[tuple[_Message, Published, str]] = []
        self.refusal = ""
        """While `done` is told REFUSED: why."""
        self.forbidden = ""
        """We may not publish, in the broker's words; "" once it has taken something. It is tried again for ever."""
        self._backoff = Backoff(*_BACKOFF)
        self._silent = 0
        """So many channels, one after the other, had no answer of a queue."""
        self._retry: Timer | None = None
        connection.add(self)

    @property
    def ready(self) -> bool:
        """Whether there is a channel to publish on."""
        return self._lane is not None

    @property
    def unconfirmed(self) -> int:
        """How many messages have no answer yet."""
        return len(self._unanswered())

    def publish(self, routing_key: str, properties: Properties, body: bytes, done: Callable[[Published], None]) -> None:
        """Publish; `done` is called once, in a later turn, with what became of it.

        `properties.message_id` must be set: a message that the broker returns is known by it.
        """
        message = _Message(routing_key, properties, body, done)
        lane = self._lane
        if lane is not None and routing_key in lane.proven and not self._suspects:
            self._send(lane, message)
        elif self._connection.is_up:
            self._held.setdefault(routing_key, deque()).append(message)
            self._send_held(routing_key)
        else:
            self._answered.append((message, Published.LOST, ""))

    # -- Room

    def up(self) -> None:
        """Called by the connection."""
        self._open()

    def down(self) -> None:
        """Called by the connection: all without an answer is lost."""
        self._answered.extend((message, Published.LOST, "") for message in self._unanswered())
        self._lane = self._opening = None
        self._old.clear()
        self._held.clear()
        self._suspects.clear()
        self._resting.clear()
        self._silent = 0
        if self._retry is not None:
            self._retry.cancel()

    def outcomes(self) -> None:
        """Called by the connection in every turn: tell owners what became of their messages."""
        while self._answered:
            answered, self._answered = self._answered, []
            for message, published, self.refusal in answered:
                message.done(published)

    def deliver(self) -> None:
        """Nothing to do."""

    def flush(self) -> None:
        """Nothing to do: the connection writes."""

    # -- channels

    def _lanes(self) -> list[_Lane]:
        return self._old if self._lane is None else [*self._old, self._lane]

    def _unanswered(self) -> list[_Message]:
        sent = [message for lane in self._lanes() for message in lane.pending.values()]
        return [*sent, *(message for held in self._held.values() for message in held)]

    def _open(self) -> None:
        if self._connection.is_up and self._connection.pika.is_open:
            self._opening = self._connection.pika.channel(on_open_callback=self._opened)
            self._opening.add_on_close_callback(self._closed)

    def _opened(self, channel: Any) -> None:
        lane = _Lane(channel)
        channel.add_on_return_callback(lane.on_return)
        channel.confirm_delivery(partial(self._on_confirm, lane), callback=lambda _frame: self._confirming(lane))

    def _confirming(self, lane: _Lane) -> None:
        self._lane, self._opening = lane, None
        self._connection.pika.acks[lane.channel.channel_number] = partial(self._on_ack, lane)
        self._send_all_held()

    def _closed(self, channel: Any, error: BaseException) -> None:
        """By the broker, by us, or with the connection."""
        lane = next((lane for lane in self._lanes() if lane.channel is channel), None)
        if lane is None and channel is not self._opening:
            return
        unanswered = list(lane.pending.values()) if lane is not None else []
        found = False
        if not isinstance(error, pika.exceptions.ChannelClosedByBroker):
            pass
        elif error.reply_code == _FORBIDDEN:
            self.forbidden = describe(error)
        else:
            if found := len(unanswered) == 1:
                self._answer(unanswered.pop(), Published.REFUSED, describe(error))
            self._suspects |= dict.fromkeys(unanswered)
        if self._connection.pika.is_open:
            log.warning("publishing channel closed: reason=%s; opening another", describe(error))
        if lane in self._old:
            self._old.remove(lane)
        else:
            self._lane = self._opening = None
            wait_s = 0.0 if found else self._backoff.next_s()
            self._retry = self._connection.loop.call_later(wait_s, self._open)
        self._hold(unanswered)

    def _retire(self, lane: _Lane) -> None:
        """Send nothing more on `lane`; open another."""
        self._lane = None
        self._old.append(lane)
        for message in lane.pending.values():  # where the broker closes it for one, this one is alone there
            self._suspects.pop(message, None)
        self._connection.loop.call_later(_ANSWERS_S, partial(self._give_up, lane))
        self._open()

    def _end_if_answered(self, lane: _Lane) -> None:
        if lane in self._old and not lane.pending:
            self._old.remove(lane)
            if lane.channel.is_open:
                lane.channel.close()

    def _give_up(self, lane: _Lane) -> None:
        if lane in self._old:
            unanswered = list(lane.pending.values())
            lane.pending.clear()
            self._end_if_answered(lane)
            self._hold(unanswered)

    # -- what waits

    def _hold(self, messages: Sequence[_Message]) -> None:
        """Publish these, before others, once their queues answer."""
        for message in reversed(messages):
            self._held.setdefault(message.routing_key, deque()).appendleft(message)
        self._send_all_held()

    def _send_all_held(self) -> None:
        for routing_key in list(self._held):
            self._send_held(routing_key)

    def _send_held(self, routing_key: str) -> None:
        lane, held = self._lane, self._held.get(routing_key)
        if lane is None or not held or not self._connection.pika.is_open:
            return
        if self._suspects:
            self._send_suspect(lane)
        elif routing_key in lane.proven:
            del self._held[routing_key]
            for message in held:
                self._send(lane, message)
        elif routing_key not in lane.asked and routing_key not in self._resting:
            self._ask(lane, held.popleft())

    def _send_suspect(self, lane: _Lane) -> None:
        if not lane.pending:
            message = next(iter(self._suspects))
            self._held[message.routing_key].remove(message)
            self._ask(lane, message)

    def _ask(self, lane: _Lane, message: _Message) -> None:
        """Send one message to a queue that may have no leader."""
        if not self._held[message.routing_key]:
            del self._held[message.routing_key]
        lane.asked.add(message.routing_key)
        self._expect(lane, message.routing_key)
        self._send(lane, message)

    def _send(self, lane: _Lane, message: _Message) -> None:
        try:
            lane.send(message)
        except Exception as error:  # of pika's encoders, or of ours: nothing was sent
            self._answer(message, Published.REFUSED, f"{type(error).__name__}: {error}"[:200])
            lane.asked.discard(message.routing_key)
            # No packet will come for it: have the next turn at once.
            self._connection.loop.call_soon(self._send_all_held)

    def _expect(self, lane: _Lane, routing_key: str) -> None:
        self._connection.loop.call_later(patience_s(self._silent), partial(self._check, lane, routing_key))

    def _check(self, lane: _Lane, routing_key: str) -> None:
        if lane is not self._lane or routing_key not in lane.asked:
            return
        if self._connection.blocked:
            self._expect(lane, routing_key)
            return
        log.warning("broker does not answer a publish: queue=%s; has it a leader? trying another channel", routing_key)
        self._silent += 1
        self._retire(lane)

    # -- answers

    def _answer(self, message: _Message, published: Published, why: str = "") -> None:
        self._suspects.pop(message, None)
        self._answered.append((message, published, why))

    def _on_confirm(self, lane: _Lane, frame: Any) -> None:
        """Called by pika."""
        method = frame.method
        if method.NAME == "Basic.Nack":
            self._on_nack(lane, lane.answered(method.delivery_tag, method.multiple))
            self._go_on(lane)
        else:
            self._on_ack(lane, method.delivery_tag, method.multiple)

    def _on_ack(self, lane: _Lane, tag: int, multiple: bool) -> None:
        messages = lane.answered(tag, multiple)
        self._backoff.reset()
        self.forbidden = ""
        for message in messages:
            self._answer(message, lane.outcome(message))
        if lane.asked:
            self._prove(lane, lane.asked.intersection(message.routing_key for message in messages))
        self._go_on(lane)

    def _go_on(self, lane: _Lane) -> None:
        """Something was answered."""
        if lane is not self._lane:
            self._end_if_answered(lane)
        elif self._held and not lane.pending:  # the next suspect, or all that had to wait for the last one
            self._send_all_held()

    def _on_nack(self, lane: _Lane, messages: list[_Message]) -> None:
        routing_keys = {message.routing_key for message in messages}
        for routing_key in routing_keys - self._resting:
            wait_s = self._nacks.setdefault(routing_key, Backoff(*_BACKOFF)).next_s()
            log.warning("broker did not take a message: queue=%s; trying again", routing_key)
            self._resting.add(routing_key)
            self._connection.loop.call_later(wait_s, partial(self._rested, routing_key))
        for message in messages:
            self._suspects.pop(message, None)
        if lane is self._lane:
            self._retire(lane)
        self._hold(messages)

    def _rested(self, routing_key: str) -> None:
        self._resting.discard(routing_key)
        self._send_held(routing_key)

    def _prove(self, lane: _Lane, routing_keys: set[str]) -> None:
        """These queues have answered on `lane`."""
        if len(lane.proven) > _MOST_PROVEN:
            lane.proven.clear()
        lane.asked -= routing_keys
        lane.proven |= routing_keys
        for routing_key in routing_keys:
            self._silent = 0
            self._nacks.pop(routing_key, None)
            self._send_held(routing_key)
