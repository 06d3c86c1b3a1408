"""Gives back to a queue the messages that a reading did not take, so that looking at a message never ends it.

1. A quorum queue counts how often a message went back: `x-delivery-count`. RabbitMQ 4 drops (or dead-letters) a message
   that went back more than 20 times.
2. A message that went back fewer than `RETURNS_LIMIT` times simply goes back, when the reading's channel is closed.
3. Any other is renewed: a copy with nothing counted is published to the end of its queue, and the original acked once
   the copy is confirmed. While a queue is followed this is put off to the end, or the copy would be read again.
4. `finish` waits until the queue has all of it: RabbitMQ forgets acks that are not processed when the channel closes.

How copies are made is written here once, for all commands.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from taskqueue.amqp import Browser, Counts, Delivery, Published
from taskqueue.amqp.session import Session
from taskqueue.errors import BrokerUnavailable
from taskqueue.protocol.properties import Properties, clean, header, new_id

log = logging.getLogger(__name__)

RETURNS_LIMIT = 10
"""Returns after which a message is renewed: half of RabbitMQ 4's default delivery limit, so that as many readers may
still be killed in the middle before the message is dropped."""
_RENEWALS = 500
"""Copies without a confirm at a time; more would hold their bodies in memory."""
_POLL_S = 0.02
"""Seconds between two questions whether the queue has processed what it was sent."""
_STANDSTILL_S = 2.0
"""Seconds without a change of the queue's counts after which it is not waited for any longer."""
_MANY = 100_000
"""Messages to give back from which a person is warned: RabbitMQ needs seconds for so many, a minute for a million."""
_BUSY_S = 300.0
"""Seconds that a queue may be too busy to answer; then the operation fails."""

Renewal = Callable[[Properties], tuple[str, Properties]]
"""Which queue the copy of a message is put into, and its properties. Another queue than the message's own is for those
where a place at the end would change what becomes of the message."""


class GivingBack:
    """Gives back the messages of `queue`. `count()` counts the queue; `others` consumed it before the reading began.

    `followed`: copies would be delivered to the reading again, so they are made once it has `ended`, or at the end.
    """

    def __init__(
        self,
        session: Session,
        count: Callable[[], Counts | None],
        queue: str,
        renew: Renewal | None,
        *,
        followed: bool,
        others: int,
    ) -> None:
        self._session = session
        self._count = count
        self._queue = queue
        self._renewal = renew or (lambda properties: (queue, properties))
        self._followed = followed
        self._others = others
        self._due: list[Delivery] = []
        """To be renewed at the end."""
        self._renewing = 0
        self.ended = False
        """The channel is closed: everything that was not acked is back."""

    def put_back(self, delivery: Delivery) -> None:
        """Give back one message that was not taken."""
        returned = header(delivery.properties, "x-delivery-count")
        if not isinstance(returned, int) or returned < RETURNS_LIMIT:
            return  # goes back with the channel
        if self._followed and not self.ended:
            self._due.append(delivery)
        else:
            self._renew(delivery)

    def finish(self, browser: Browser) -> None:
        """Give back all that is left in hand; returns when the queue has it, before the channel is closed."""
        for delivery in self._due:
            self._renew(delivery)
        self.wait(lambda: not self._renewing or self.ended, "copies are not confirmed")
        counts = None if self.ended else self._patient_count()
        if counts is not None:
            returned = browser.unsettled
            if returned >= _MANY:
                log.warning("queue %s: the broker takes back %s messages; this may last", self._queue, f"{returned:,}")
            browser.give_back()
            self._see_it_settled(counts.ready + returned)

    def wait(self, fact: Callable[[], object], what: str) -> None:
        """Wait for `fact()`; raises `BrokerUnavailable`, with `what` for its text, where it does not come in time."""
        if not self._session.wait(fact, self._session.deadline()):
            host = self._session.connection.host
            raise BrokerUnavailable(f"{host}: queue {self._queue}: {what} within {self._session.timeout_s:g} s")

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
        self.wait(lambda: self._renewing < _RENEWALS or self.ended, "copies are not confirmed")

    def _renewed(self, delivery: Delivery, published: Published) -> None:
        self._renewing -= 1
        if published is Published.CONFIRMED:
            delivery.settle()

    def _see_it_settled(self, wanted: int) -> None:
        """Wait until the queue has processed our commands: our consumers are gone, and `wanted` messages are ready.

        Others may be faster, or begin to consume: the wait ends where the counts do not change any more.
        """
        last, until = None, 0.0
        while (counts := self._patient_count()) is not None:
            if counts.consumers <= self._others and (self._others or counts.ready >= wanted):
                return
            if counts != last:
                last, until = counts, time.monotonic() + _STANDSTILL_S
            elif time.monotonic() > until:
                return
            self._session.wait(lambda: False, time.monotonic() + _POLL_S)

    def _patient_count(self) -> Counts | None:
        """Counts of a queue that is busy taking back messages. None where there is no such queue any more, or no
        connection."""
        until = time.monotonic() + _BUSY_S
        while True:
            try:
                return self._count() if self._session.connection.is_up else None
            except BrokerUnavailable:
                if time.monotonic() > until:
                    raise
