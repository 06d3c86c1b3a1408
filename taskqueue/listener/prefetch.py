"""Controls the prefetch: how many workitems the listener holds, and whether it consumes at all.

1. No worker is ready: the listener does not consume, and other hosts get the work.
2. Three workers are ready: the prefetch is 3, one workitem for each that can run at a time.
3. Workitems take 1 ms: the prefetch grows to 303, so that no worker waits for a round trip to the broker.
4. Workitems take minutes: the prefetch falls back to 3, so that other hosts get the rest.
5. Two long runs are leased: the broker no longer counts them, so the consumer's prefetch is 1.
6. The last worker has died, and none has come within the grace period: the listener stops consuming.

`prefetch = N` in the config pins it. This module must never assign work, and never hand any back.
"""

from __future__ import annotations

from taskqueue.amqp import Consumer
from taskqueue.config.settings import GroupSettings
from taskqueue.foundation.loop import Loop, Timer
from taskqueue.listener.runs import Runs
from taskqueue.listener.workers import Workers

_ADAPT_S = 0.25
"""Seconds between two adaptations of the prefetch; each one may begin or end a consumer at the broker."""
_GRACE_S = 1.0
"""Seconds without a ready worker before consuming stops. All workers may have died at once and be replaced within
milliseconds; and stopping adds one to the delivery count of all that RabbitMQ has on its way to the consumer."""
_PIPELINED_S = 0.1
"""Seconds of work to hold beyond what runs: well above a round trip to the broker, well below what a person notices."""
_ADAPTED_LIMIT = 512
"""Workitems: the prefetch does not grow beyond that by itself, so that a host that dies holds back no more."""
_AMQP_LIMIT = 65_535
"""Workitems: AMQP carries the prefetch in 16 bits (0-9-1, `basic.qos`)."""


class Prefetch:
    """Sets the prefetch of `consumer`, and pauses it; what `runs` hold counts."""

    def __init__(self, loop: Loop, settings: GroupSettings, consumer: Consumer, runs: Runs, workers: Workers) -> None:
        self.wanted = least(settings)
        """Workitems that the listener wants to hold, leased ones included."""
        self._loop = loop
        self._settings = settings
        self._consumer = consumer
        self._runs = runs
        self._workers = workers
        self._adapted = 0.0
        self._grace: Timer | None = None
        consumer.pause()

    def adapt(self, mean_s: float | None, now: float) -> None:
        """Fit the prefetch to workitems that take `mean_s` seconds each; `now` is monotonic."""
        if now - self._adapted > _ADAPT_S:
            self._adapted = now
            self.wanted = adapted(self._settings, self.wanted, mean_s)
            self.apply()

    def shrink(self) -> None:
        """Hold no more than can run at a time."""
        self.wanted = least(self._settings)
        self.apply()

    def apply(self) -> None:
        """Tell the consumer. Call this when a worker came or went, and when a lease was taken, lost or settled."""
        room = self.wanted - self._runs.held_beside(self._consumer)
        if room <= 0:
            self._consumer.pause()
        elif self._workers.ready > 0:
            self._consumer.set_prefetch(room)
            self._consumer.resume()
        elif self._grace is None:
            self._grace = self._loop.call_later(_GRACE_S, self._end_grace)

    def _end_grace(self) -> None:
        self._grace = None
        if self._workers.ready == 0:
            self._consumer.pause()


def least(settings: GroupSettings) -> int:
    """One for each workitem that can run at a time; or the configured `prefetch`."""
    if settings.prefetch is not None:
        return settings.prefetch
    return max(1, min(_AMQP_LIMIT, settings.workers * settings.concurrency))


def adapted(settings: GroupSettings, current: int, mean_s: float | None) -> int:
    """The prefetch for workitems that take `mean_s` seconds each; `current` unless it is wrong by a factor of two."""
    floor = least(settings)
    if settings.prefetch is not None or mean_s is None:
        return current
    wanted = max(floor, min(_ADAPTED_LIMIT, floor + int(floor * _PIPELINED_S / max(mean_s, 1e-6))))
    return wanted if wanted >= 2 * current or 2 * wanted <= current else current
