"""Declares queues, one at a time, and uses a queue that exists with other arguments as it is.

The life of a declaration of `worker_x`:

1. `declare(queue, done, refused)`. Where it is known to exist on this connection, `done()` is called at once.
2. It waits for the declarations before it, is sent on the declarer's own channel, and the broker answers: `done()`.
3. The broker refuses (406: it exists with other arguments; 403: no permission) and closes the channel. On another
   channel it is declared passively: if it exists, it is used as it is, with one warning, and `done()` is called.
4. It does not exist and cannot be made: `refused("… queue limit …")`, or, without that callback, it is postponed.
5. No answer within 10 s: it is postponed, and no other waits for it.
6. The connection is lost: forgotten. Whoever waits declares anew when the connection is back.

It must never delete a queue but for its owner.
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
from taskqueue.amqp.connection_user import ConnectionUser
from taskqueue.amqp.reasons import FORBIDDEN, PRECONDITION_FAILED, describe
from taskqueue.foundation.backoff import Backoff
from taskqueue.foundation.loop import Timer
from taskqueue.protocol.queues import Queue

log = logging.getLogger(__name__)

Done = Callable[[], None]
Refused = Callable[[str], None]

_ANSWER_S = 10.0
"""Seconds to wait for an answer, longer than an election takes; then the declaration is postponed and blocks no
other."""
_GONE_S = 1.0
"""Seconds before a queue that was deleted is declared again. RabbitMQ cancels the consumers of a deleted quorum queue
within milliseconds. If the queue is re-declared before, RabbitMQ 3.10 moves the consumers to it without notice and
drops its first deliveries: they hang, unacked, for as long as the connection lives."""
_KNOWN_LIMIT = 10_000
"""Names remembered as existing, for clients invent worker types; a name that was forgotten is declared again, which
changes nothing."""
_BACKOFF = (0.25, 5.0)
"""Seconds, first and longest wait of a postponed declaration."""


@dataclass(eq=False, slots=True)
class _Declaration:
    queue: Queue
    done: Done
    refused: Refused | None
    backoff: Backoff = field(default_factory=lambda: Backoff(*_BACKOFF))
    timer: Timer | None = None


class Declarer(ConnectionUser):
    """Remembers what exists for as long as the connection lives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[str, None] = {}
        self._wanted: deque[_Declaration] = deque()
        self._channel: Any = None
        self._passive = False
        """Whether the first of `_wanted` was refused, and is declared passively: it may exist with other arguments."""
        self._refusal = ""
        self._busy = False
        self._warned: set[str] = set()
        self._deadline: Timer | None = None
        self._gone: dict[str, float] = {}
        """Queues that were deleted, and until when (monotonic) they are not declared again."""
        self._postponed: set[_Declaration] = set()
        """Declarations that wait for a timer, on this connection only."""
        connection.add(self)

    def declare(self, queue: Queue, done: Done, refused: Refused | None = None) -> None:
        """Call `done` once `queue` exists: at once where it is known to. Forgotten when the connection is lost.

        Where it does not exist and the broker refuses to make it (no permission, the vhost's `max-queues`), call
        `refused(why)`; without that, try again for ever. The others do not wait for it.
        """
        if queue.name in self._known:
            done()
            return
        declaration = _Declaration(queue, done, refused)
        wait_s = self._gone.get(queue.name, 0.0) - time.monotonic()
        if wait_s > 0:
            self._try_later(declaration, wait_s)
            return
        self._wanted.append(declaration)
        self._next()

    def forget(self, name: str, *, gone: bool = True) -> None:
        """Declare a known queue again when it is needed next; not at once where it is `gone` (a publish was returned, a
        consumer was cancelled)."""
        if gone and name in self._known:
            self._gone[name] = time.monotonic() + _GONE_S
        self._known.pop(name, None)

    def knows(self, name: str) -> bool:
        """Whether `name` was declared on this connection."""
        return name in self._known

    def delete(self, name: str, done: Done) -> None:
        """Delete a queue that the caller made; `done` once it is gone. Not called where the connection is lost."""
        self.forget(name, gone=False)
        self._connection.pika.channel(
            on_open_callback=lambda channel: channel.queue_delete(name, callback=lambda _frame: done())
        )

    # -- called by the connection

    def up(self) -> None:
        """Declare what waits."""
        self._next()

    def down(self) -> None:
        """Forget all."""
        self._end_deadline()
        self._channel = None
        self._passive = self._busy = False
        for declaration in self._postponed:
            assert declaration.timer is not None
            declaration.timer.cancel()
        self._postponed.clear()
        self._gone.clear()
        self._known.clear()
        self._wanted.clear()

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
        if channel is not self._channel:
            return
        self._end_deadline()
        self._channel, self._busy = None, False
        if not self._connection.is_up or not self._connection.pika.is_open or not self._wanted:
            return
        if not self._passive:
            self._refusal = describe(error)
            if isinstance(error, pika.exceptions.ChannelClosed) and error.reply_code in {
                FORBIDDEN,
                PRECONDITION_FAILED,
            }:
                self._passive = True
                self._next()
                return
        log.error("queue cannot be declared: queue=%s reason=%s", self._wanted[0].queue.name, self._refusal)
        for declaration in self._first_out():
            if declaration.refused is not None:
                declaration.refused(self._refusal)
            else:
                self._try_later(declaration, declaration.backoff.next_s())
        self._next()

    def _unanswered(self) -> None:
        """RabbitMQ never answers for a quorum queue without a leader."""
        name = self._wanted[0].queue.name
        log.error("broker does not answer for a queue: queue=%s; has it a leader? trying again", name)
        self._channel = self._deadline = None
        self._busy = False
        for declaration in self._first_out():
            self._try_later(declaration, declaration.backoff.next_s())
        self._next()

    def _first_out(self) -> list[_Declaration]:
        """Take out the first, and all others for the same queue."""
        name = self._wanted[0].queue.name
        first = [declaration for declaration in self._wanted if declaration.queue.name == name]
        self._wanted = deque(declaration for declaration in self._wanted if declaration.queue.name != name)
        self._passive = False
        return first

    def _try_later(self, declaration: _Declaration, wait_s: float) -> None:
        self._postponed.add(declaration)
        declaration.timer = self._connection.loop.call_later(wait_s, partial(self._again, declaration))

    def _again(self, declaration: _Declaration) -> None:
        self._postponed.discard(declaration)
        self._wanted.append(declaration)
        self._next()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
