"""Reads what is in a queue without taking it, message by message, in flat memory.

1. `Reading("taskqueue_dead")` counts the messages that are there and has the broker send them: they are in hand.
2. Each is given to the caller as a `Message`. `take` acks it; `claim` announces that `take` comes later.
3. Whatever was not taken goes back when the reading is closed: `giving_back` has that part.

A message in hand is seen by no other consumer. Reading must never change what becomes of a message.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Self

from taskqueue.amqp import Browser, Counts, Delivery
from taskqueue.amqp.session import Session
from taskqueue.errors import TaskqueueError
from taskqueue.operations.giving_back import GivingBack, Renewal
from taskqueue.protocol.properties import Properties

_SILENCE_S = 0.25
"""Seconds without a message after which the broker is asked whether the queue is empty; a reading that does not follow
ends then."""

Count = Callable[[str], Counts | None]


class Message:
    """One message in hand. It goes back by itself, unless it is taken."""

    __slots__ = ("delivery", "kept")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.kept = False
        """Taken, or claimed: the reading does not put it back."""

    @property
    def properties(self) -> Properties:
        """Its properties. `x-delivery-count` among the headers is the queue's: `clean` them on a republish."""
        return self.delivery.properties

    @property
    def body(self) -> bytes:
        """Its body."""
        return self.delivery.body

    def claim(self) -> None:
        """Announce that `take` comes later, once something else is confirmed, and before the reading is closed."""
        self.kept = True

    def take(self) -> bool:
        """Remove it from its queue; False where the connection was lost meanwhile: it is in the queue again."""
        self.kept = True
        return self.delivery.settle()


class Reading:
    """The messages of `queue`: as many as were there when it began, `limit` at most; with `follow` all that come.

        with broker.read("taskqueue_dead") as reading:
            for message in reading:
                ...

    It gives none where there is no such queue. Raises `BrokerUnavailable` where the connection is lost meanwhile: all
    that was not taken is in its queue again. The broker ends a reading that takes longer than its `consumer_timeout`
    (30 minutes). `renew`: see `Renewal`.
    """

    def __init__(
        self,
        session: Session,
        count: Count,
        queue: str,
        *,
        limit: int | None,
        follow: bool,
        renew: Renewal | None = None,
    ) -> None:
        self.queue = queue
        self._session = session
        self._count = count
        self._follow = follow
        self._arrived: deque[Delivery] = deque()
        self._seen = 0
        self._in_hand: Message | None = None
        self._ended = False
        self._error: TaskqueueError | None = None
        counts = count(queue)
        ready = math.inf if follow else 0 if counts is None else counts.ready
        self._wanted = ready if limit is None else min(ready, limit)
        others = 0 if counts is None else counts.consumers
        self._back = GivingBack(session, partial(count, queue), queue, renew, followed=follow, others=others)
        self._browser = Browser(session.connection, queue, self._wanted, self._arrived.append, self._on_end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is None and self._error is not None:
            raise self._error  # the message that was taken last may be in its queue again

    def __iter__(self) -> Iterator[Message]:
        while self._more():
            self._seen += 1
            self._in_hand = Message(self._arrived.popleft())
            self._browser.looked_at()
            yield self._in_hand
            self._let_go()

    @property
    def expected(self) -> int | None:
        """How many messages it will give, about; None where it follows."""
        return None if self._wanted == math.inf else int(self._wanted)

    def close(self) -> None:
        """Give back all that was not taken; returns when the broker has it.

        A broker under alarm reads no command before the connection ends: it is not waited for.
        """
        if self._session.connection.blocked:
            self._browser.close()
            return
        if not self._ended:
            stopped: list[bool] = []
            self._browser.stop(lambda: stopped.append(True))
            self._back.wait(lambda: stopped or self._ended, "it does not end")
        self._let_go()
        while self._arrived:  # sent, and never looked at: it counts as returned all the same
            self._back.put_back(self._arrived.popleft())
        self._back.finish(self._browser)
        self._browser.close()

    def _let_go(self) -> None:
        message, self._in_hand = self._in_hand, None
        if message is not None and not message.kept:
            self._back.put_back(message.delivery)

    def _more(self) -> bool:
        """Wait for the next message; False where there is none."""
        empty = 0
        while not self._arrived and self._seen < self._wanted:
            if self._error is not None:
                raise self._error
            if self._ended or empty == 2:
                return False
            came = self._session.wait(lambda: self._arrived or self._ended, time.monotonic() + _SILENCE_S)
            if not came and not self._follow:  # others may have taken some of those that were counted
                counts = self._count(self.queue)
                empty = empty + 1 if counts is not None and counts.ready == 0 and counts.consumers else 0
        return self._seen < self._wanted

    def _on_end(self, error: TaskqueueError | None) -> None:
        self._ended = True
        self._error = error
        self._back.ended = True
