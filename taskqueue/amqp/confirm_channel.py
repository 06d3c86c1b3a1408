"""One channel with publisher confirms, and the messages that were sent on it and have no answer yet.

1. `send(message)`: the broker numbers the messages of a channel from 1, and so does `pending`.
2. The broker routes it: `Basic.Ack(3, multiple=True)` answers messages 1 to 3, and `answered(3, True)` takes them out.
3. It has no queue for it: `Basic.Return` comes before the ack, and `outcome` says UNROUTABLE in place of CONFIRMED.

It must never open a channel or send a message again: that is `publisher`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import Any

from taskqueue.protocol.properties import Properties

_ANSWERING_LIMIT = 1000
"""Queues remembered as answering; above it all are forgotten, and probed again: reply queues come and go."""


class Published(Enum):
    """The broker's answer to a published message."""

    CONFIRMED = "confirmed"
    UNROUTABLE = "unroutable"
    """No such queue: the broker gave it back."""
    LOST = "lost"
    """The connection ended before the broker answered: it may be in the queue or not."""
    REFUSED = "refused"
    """The broker closes the channel for it (a body over its `max_message_size`), or AMQP cannot carry it. It is in no
    queue, and would be in none however often it were published; `Publisher.refusal` says why."""


@dataclass(eq=False, slots=True)
class Message:
    """A message to be published; `done` gets what became of it, once."""

    routing_key: str
    properties: Properties
    body: bytes
    done: Callable[[Published], None]


class ConfirmChannel:
    """`channel` is pika's, open, in confirm mode."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.pending: dict[int, Message] = {}
        """By the broker's number: messages without an answer."""
        self.answering: set[str] = set()
        """Queues that have answered on this channel: their messages are sent at once."""
        self.probing: set[str] = set()
        """Queues whose first message was sent and has no answer yet."""
        self._last = 0
        """The number of the message that was sent last."""
        self._returned: Counter[tuple[str, str | None]] = Counter()
        """Messages that the broker gave back and has not acked yet; clients may give many the same `message_id`."""

    def send(self, message: Message) -> None:
        """Publish; raises what `frames.publish` and pika raise for what AMQP cannot carry."""
        channel = self.channel
        channel.connection.publish(channel, message.routing_key, message.properties, message.body)
        self._last += 1  # behind it: a message that cannot be encoded was not sent, and the broker does not count it
        self.pending[self._last] = message

    def on_return(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """The broker gave a message back; its ack follows."""
        self._returned[method.routing_key, properties.message_id] += 1

    def answered(self, tag: int, multiple: bool) -> list[Message]:
        """The messages that an ack or nack is for: pending no more."""
        tags = list(takewhile(tag.__ge__, self.pending)) if multiple else [tag]
        return [message for each in tags if (message := self.pending.pop(each, None)) is not None]

    def found_answering(self, queues: set[str]) -> None:
        """These queues have answered on this channel."""
        if len(self.answering) > _ANSWERING_LIMIT:
            self.answering.clear()
        self.probing -= queues
        self.answering |= queues

    def outcome(self, message: Message) -> Published:
        """The outcome of an acked `message`: confirmed, or returned."""
        if self._returned:
            key = (message.routing_key, message.properties.message_id)
            if self._returned[key]:
                self._returned[key] -= 1
                self._returned = +self._returned  # without those at 0
                return Published.UNROUTABLE
        return Published.CONFIRMED
