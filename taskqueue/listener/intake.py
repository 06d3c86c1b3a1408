"""How much of its queue a listener takes: as many workitems as it has hands for, none where it has none.

It must never hand out work, and never give any back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from taskqueue.amqp import Consumer
from taskqueue.config.settings import GroupSettings
from taskqueue.foundation.loop import Loop, Timer
from taskqueue.listener import prefetch
from taskqueue.listener.run import Run

_ADAPT_S = 0.25
_GRACE_S = 1.0
"""Without a worker for so long, it takes no more. All may have died at once, to be replaced in milliseconds; and what
RabbitMQ has not sent yet to a consumer that ends, it counts towards the delivery limit."""


class Intake:
    """Pauses `consumer` and sets its prefetch. `runs()` are all that are in hand, `hands()` the workers that serve."""

    def __init__(
        self,
        loop: Loop,
        settings: GroupSettings,
        consumer: Consumer,
        *,
        runs: Callable[[], Iterable[Run]],
        hands: Callable[[], int],
    ) -> None:
        self.prefetch = prefetch.least(settings)
        """Workitems that are wanted in hand."""
        self._loop = loop
        self._settings = settings
        self._consumer = consumer
        self._runs = runs
        self._hands = hands
        self._adapted = 0.0
        self._grace: Timer | None = None
        consumer.pause()

    def adapt(self, mean_s: float | None, now: float) -> None:
        """Workitems take `mean_s` seconds each: want so many that no worker has to wait for the broker."""
        if now - self._adapted > _ADAPT_S:
            self._adapted = now
            self.prefetch = prefetch.adapted(self._settings, self.prefetch, mean_s)
            self.steer()

    def shrink(self) -> None:
        """Want no more than what runs at a time."""
        self.prefetch = prefetch.least(self._settings)
        self.steer()

    def steer(self) -> None:
        """Take what there is room for. What was leased takes room, too, and the broker does not count it."""
        leased = sum(run.delivery.source is not self._consumer and run.delivery.held for run in self._runs())
        room = self.prefetch - leased
        if room <= 0:
            self._consumer.pause()
        elif self._hands() > 0:
            self._consumer.set_prefetch(room)
            self._consumer.resume()
        elif self._grace is None:
            self._grace = self._loop.call_later(_GRACE_S, self._look_for_hands)

    def _look_for_hands(self) -> None:
        self._grace = None
        if self._hands() == 0:
            self._consumer.pause()
