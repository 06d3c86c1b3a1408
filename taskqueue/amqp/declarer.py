"""Declares queues, one at a time, and makes the best of a queue that exists with other arguments.

A declare that the broker refuses closes its channel, so declaring has a channel of its own. It must never delete a
queue but at its owner's word.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pika.exceptions

from taskqueue.amqp.connection import Connection
from taskqueue.amqp.wire import describe
from taskqueue.foundation.backoff import Backoff
from taskqueue.foundation.loop import Timer
from taskqueue.protocol.queues import Queue

log = logging.getLogger(__name__)

Done = Callable[[], None]
Refused = Callable[[str], None]

_ANSWER_S = 10.0
"""Longer than any election takes; then a queue without an answer waits apart."""
_GONE_S = 1.0
"""RabbitMQ tells the consumers of a deleted quorum queue within milliseconds. If it is there again by then, they are
moved to the new one untold, and its first deliveries to them are dropped (3.10): they hang, unacked, for as long as
the connection lives."""
_KNOWN_LIMIT = 10_000
"""Names that are remembered: clients invent worker types. What was forgotten is declared again, and nothing changes."""


@dataclass(eq=False, slots=True)
class _Wish:
    queue: Queue
    done: Done
    refused: Refused | None
    backoff: Backoff = field(default_factory=lambda: Backoff(0.25, 5.0))
    timer: Timer | None = None


class Declarer:
    """Remembers what exists for as long as the connection lives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[str, None] = {}
        self._wanted: deque[_Wish] = deque()
        self._channel: Any = None
        self._passive = False
        """The first of `_wanted` was refused: does it exist all the same, otherwise than we would declare it?"""
        self._refusal = ""
        self._busy = False
        self._warned: set[str] = set()
        self._deadline: Timer | None = None
        self._gone: dict[str, float] = {}
        """Queues that were deleted, and until when (monotonic) they are not declared again."""
        self._apart: set[_Wish] = set()
        """Declarations that wait for their time, on this connection only."""
        connection.add(self)

    def declare(self, queue: Queue, done: Done, refused: Refused | None = None) -> None:
        """Call `done` once `queue` exists: at once where it is known to. Forgotten when the connection is lost.

        Where it does not exist and the broker refuses to make it (no permission, the vhost's `max-queues`), call
        `refused(why)`; without that, try again for ever. The others do not wait for it.
        """
        if queue.name in self._known:
            done()
            return
        wish = _Wish(queue, done, refused)
        wait_s = self._gone.get(queue.name, 0.0) - time.monotonic()
        if wait_s > 0:
            self._try_later(wish, wait_s)
            return
        self._wanted.append(wish)
        self._next()

    def forget(self, name: str, *, gone: bool = True) -> None:
        """A queue that was known is to be declared again; where it is `gone` (a publish was returned, a consumer was
        cancelled), not at once."""
        if gone and name in self._known:
            self._gone[name] = time.monotonic() + _GONE_S
        self._known.pop(name, None)

    def knows(self, name: str) -> bool:
        """Whether `name` was declared on this connection."""
        return name in self._known

    def delete(self, name: str, done: Done) -> None:
        """Delete a queue of our own making; `done` once it is gone. Not called where the connection is lost."""
        self.forget(name, gone=False)
        self._connection.pika.channel(
            on_open_callback=lambda channel: channel.queue_delete(name, callback=lambda _frame: done())
        )

    # -- Room

    def up(self) -> None:
        """Called by the connection."""
        self._next()

    def down(self) -> None:
        """Called by the connection: whoever waits declares anew when it is back."""
        self._end_deadline()
        self._channel = None
        self._passive = self._busy = False
        for wish in self._apart:
            assert wish.timer is not None
            wish.timer.cancel()
        self._apart.clear()
        self._gone.clear()
        self._known.clear()
        self._wanted.clear()

    def outcomes(self) -> None:
        """Nothing to do in a turn."""

    def deliver(self) -> None:
        """Nothing to do in a turn."""

    def flush(self) -> None:
        """Nothing to do in a turn."""

    # -- one after the other

    def _next(self) -> None:
        if self._busy or not self._connection.is_up:
            return
        self._busy = True  # a loop, no recursion: a whole prefetch may wait for one queue
        while self._wanted and self._wanted[0].queue.name in self._known:
            self._wanted.popleft().done()
        if not self._wanted:
            self._busy = False
        elif self._channel is None:
            self._connection.pika.channel(on_open_callback=self._opened)
        else:
            self._declare(self._wanted[0].queue)

    def _opened(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._refused)
        self._declare(self._wanted[0].queue)

    def _declare(self, queue: Queue) -> None:
        self._channel.queue_declare(
            queue.name,
            passive=self._passive,
            durable=True,
            arguments=dict(queue.arguments) or None,
            callback=partial(self._declared, self._channel),
        )
        self._deadline = self._connection.loop.call_later(_ANSWER_S, self._unanswered)

    def _declared(self, channel: Any, _frame: Any) -> None:
        if channel is not self._channel:
            return  # the answer came after all, when nobody waited for it
        self._end_deadline()
        name = self._wanted[0].queue.name
        if self._passive and name not in self._warned:
            self._warned.add(name)
            log.warning("queue used as it is: queue=%s reason=%s", name, self._refusal)
        self._gone.pop(name, None)
        self._known[name] = None
        if len(self._known) > _KNOWN_LIMIT:
            del self._known[next(iter(self._known))]
        self._busy = self._passive = False
        self._next()

    def _refused(self, channel: Any, error: BaseException) -> None:
        """406: it exists with other arguments; 403: we may not configure. Both are used as they are, if they exist."""
        if channel is not self._channel:
            return
        self._end_deadline()
        self._channel, self._busy = None, False
        if not self._connection.is_up or not self._connection.pika.is_open or not self._wanted:
            return
        if not self._passive:
            self._refusal = describe(error)
            if isinstance(error, pika.exceptions.ChannelClosed) and error.reply_code in {403, 406}:
                self._passive = True
                self._next()
                return
        log.error("queue cannot be declared: queue=%s reason=%s", self._wanted[0].queue.name, self._refusal)
        for wish in self._first_out():
            if wish.refused is not None:
                wish.refused(self._refusal)
            else:
                self._try_later(wish, wish.backoff.next_s())
        self._next()

    def _unanswered(self) -> None:
        """A quorum queue without a leader: RabbitMQ says nothing, for ever. The others must not wait for it."""
        name = self._wanted[0].queue.name
        log.error("broker does not answer for a queue: queue=%s; has it a leader? trying again", name)
        self._channel = self._deadline = None
        self._busy = False
        for wish in self._first_out():
            self._try_later(wish, wish.backoff.next_s())
        self._next()

    def _first_out(self) -> list[_Wish]:
        """The first, and all for the same queue, wait no longer before the others."""
        name = self._wanted[0].queue.name
        first = [wish for wish in self._wanted if wish.queue.name == name]
        self._wanted = deque(wish for wish in self._wanted if wish.queue.name != name)
        self._passive = False
        return first

    def _try_later(self, wish: _Wish, wait_s: float) -> None:
        self._apart.add(wish)
        wish.timer = self._connection.loop.call_later(wait_s, partial(self._again, wish))

    def _again(self, wish: _Wish) -> None:
        self._apart.discard(wish)
        self._wanted.append(wish)
        self._next()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
