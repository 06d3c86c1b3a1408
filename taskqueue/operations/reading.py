"""Reads what is in a queue without taking it, message by message, in flat memory.

All that is not taken goes back, and a quorum queue counts how often: RabbitMQ 4 drops (or dead-letters) what went back
more than 20 times. Looking must never do that, so a message that comes near it is put back as a confirmed copy, with
nothing counted, at the end of its queue. What is copied is written here once, for all commands.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Self

from taskqueue.amqp import Browser, Counts, Delivery, Published
from taskqueue.amqp.session import Session
from taskqueue.errors import BrokerUnavailable, TaskqueueError
from taskqueue.protocol.properties import Properties, clean, header, new_id

log = logging.getLogger(__name__)

RETURNS_LIMIT = 10
"""So often a message may have gone back before it is renewed: half of RabbitMQ 4's default delivery limit, so that as
many readers may still be killed in the middle."""
_RENEWALS = 500
"""Copies without a confirm at a time."""
_SILENCE_S = 0.25
"""Nothing came for so long: is anything left?"""

_GLANCE_S = 0.02
_STANDSTILL_S = 2.0
"""How often to look whether the queue has done what it was told, and how long where nothing moves any more."""
_MANY = 100_000
"""RabbitMQ takes seconds to take back so many, and minutes for a million: a person is told."""
_BUSY_S = 300.0
"""A queue that says nothing for so long is given up."""

Count = Callable[[str], Counts | None]
Renewal = Callable[[Properties], tuple[str, Properties]]
"""Which queue the copy of a message is put into, and what it carries: in another than its own, where being the last
there would change what becomes of it."""


class Message:
    """One message in hand. It goes back by itself, unless it is taken."""

    __slots__ = ("delivery", "kept")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.kept = False
        """Taken, or claimed: not ours to put back."""

    @property
    def properties(self) -> Properties:
        """Its properties. `x-delivery-count` among the headers is the queue's: use `message.clean` on a republish."""
        return self.delivery.properties

    @property
    def body(self) -> bytes:
        """Its body."""
        return self.delivery.body

    def claim(self) -> None:
        """Say that it will be taken, when something else is confirmed: `take` comes later, before the end."""
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
    that was not taken is in its queue again. What is in hand is seen by no other consumer until the reading is closed;
    the broker ends a reading that takes longer than its `consumer_timeout` (30 minutes).
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
        self._renewal = renew or (lambda properties: (queue, properties))
        self._session = session
        self._count = count
        self._follow = follow
        self._arrived: deque[Delivery] = deque()
        self._seen = 0
        self._in_hand: Message | None = None
        self._due: list[Delivery] = []
        """To be renewed at the end: who follows would be sent the copies."""
        self._renewing = 0
        self._ended = False
        self._error: TaskqueueError | None = None
        counts = count(queue)
        self._others = 0 if counts is None else counts.consumers
        ready = math.inf if follow else 0 if counts is None else counts.ready
        self._wanted = ready if limit is None else min(ready, limit)
        self._browser = Browser(session.connection, queue, self._wanted, self._arrived.append, self._on_end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is None and self._error is not None:
            raise self._error  # whatever was taken last may be in its queue again

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

        A broker that takes no messages does not hear of it before the connection ends: it is not waited for.
        """
        if self._session.connection.blocked:
            self._browser.close()
            return
        if not self._ended:
            stopped: list[bool] = []
            self._browser.stop(lambda: stopped.append(True))
            self._wait(lambda: stopped or self._ended, "it does not end")
        self._let_go()
        while self._arrived:  # sent, and never looked at: it counts all the same
            self._put_back(self._arrived.popleft())
        for delivery in self._due:
            self._renew(delivery)
        self._wait(lambda: not self._renewing or self._ended, "copies are not confirmed")
        apart = None if self._ended else self._patient_count()
        if apart is not None:
            returned = self._browser.unsettled
            if returned >= _MANY:
                log.warning("queue %s: the broker takes back %s messages; this may last", self.queue, f"{returned:,}")
            self._browser.give_back()
            self._see_it_settled(apart.ready + returned)
        self._browser.close()

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

    # -- going back

    def _see_it_settled(self, wanted: int) -> None:
        """Wait until the queue has done all that it was told: our consumers are gone, and `wanted` messages are ready.

        Others may be faster, or begin to consume, so it is no longer waited for than something moves.
        """
        last, until, others = None, 0.0, self._others
        while (counts := self._patient_count()) is not None:
            if counts.consumers <= others and (others or counts.ready >= wanted):
                return
            if counts != last:
                last, until = counts, time.monotonic() + _STANDSTILL_S
            elif time.monotonic() > until:
                return
            self._session.wait(lambda: False, time.monotonic() + _GLANCE_S)

    def _patient_count(self) -> Counts | None:
        """Counts of a queue that we keep busy: to take back a million messages takes RabbitMQ a minute. None where
        there is no such queue any more, or no connection."""
        until = time.monotonic() + _BUSY_S
        while True:
            try:
                return self._count(self.queue) if self._session.connection.is_up else None
            except BrokerUnavailable:
                if time.monotonic() > until:
                    raise

    def _let_go(self) -> None:
        message, self._in_hand = self._in_hand, None
        if message is not None and not message.kept:
            self._put_back(message.delivery)

    def _put_back(self, delivery: Delivery) -> None:
        returned = header(delivery.properties, "x-delivery-count")
        if not isinstance(returned, int) or returned < RETURNS_LIMIT:
            return  # with the channel
        if self._follow and not self._ended:
            self._due.append(delivery)
        else:
            self._renew(delivery)

    def _renew(self, delivery: Delivery) -> None:
        """Publish a copy; ack the original once the copy is confirmed."""
        if not delivery.held:
            return
        self._renewing += 1
        properties = delivery.properties
        queue, copy = self._renewal(
            properties._replace(
                headers=clean(properties.headers, own=False) or None, message_id=properties.message_id or new_id()
            )
        )
        self._session.publisher.publish(queue, copy, delivery.body, partial(self._renewed, delivery))
        self._wait(lambda: self._renewing < _RENEWALS or self._ended, "copies are not confirmed")

    def _renewed(self, delivery: Delivery, published: Published) -> None:
        self._renewing -= 1
        if published is Published.CONFIRMED:
            delivery.settle()

    def _wait(self, fact: Callable[[], object], what: str) -> None:
        if not self._session.wait(fact, self._session.deadline()):
            host = self._session.connection.host
            raise BrokerUnavailable(f"{host}: queue {self.queue}: {what} within {self._session.timeout_s:g} s")
