"""Messages that wait to be published, by queue, in order; and the search for the one that the broker refuses.

1. The broker closes a channel with 40 messages under way for one of them, and does not say for which.
2. All 40 wait here again, before all others, and are in `maybe_refused`.
3. They leave one at a time. One is confirmed: its sender takes it out. For one the channel is closed again: that is it.
4. It is reported as refused. The search goes on until `maybe_refused` is empty: another may be refused, too.

It must never send: that is `publisher`'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from taskqueue.amqp.confirm_channel import Message


class Waiting:
    """A line of messages for each queue."""

    def __init__(self) -> None:
        self.lines: dict[str, deque[Message]] = {}
        """By queue; no line is empty."""
        self.maybe_refused: dict[Message, None] = {}
        """For one of these the broker closed the channel: they are sent one at a time, before all others."""

    def __iter__(self) -> Iterator[Message]:
        """All messages that wait."""
        return (message for line in self.lines.values() for message in line)

    def append(self, message: Message) -> None:
        """Let it wait behind the others of its queue."""
        self.lines.setdefault(message.routing_key, deque()).append(message)

    def put_first(self, messages: Sequence[Message]) -> None:
        """Let them wait, in this order, before the others of their queues."""
        for message in reversed(messages):
            self.lines.setdefault(message.routing_key, deque()).appendleft(message)

    def take(self, queue: str) -> Message:
        """The first of `queue`."""
        message = self.lines[queue][0]
        self._remove(message)
        return message

    def take_all(self, queue: str) -> Iterable[Message]:
        """All of `queue`, in order."""
        return self.lines.pop(queue)

    def take_maybe_refused(self) -> Message:
        """The first of `maybe_refused`; it stays there until it has an answer."""
        message = next(iter(self.maybe_refused))
        self._remove(message)
        return message

    def clear(self) -> None:
        """Forget all."""
        self.lines.clear()
        self.maybe_refused.clear()

    def _remove(self, message: Message) -> None:
        line = self.lines[message.routing_key]
        line.remove(message)
        if not line:
            del self.lines[message.routing_key]
