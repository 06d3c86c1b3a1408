"""How many deliveries a listener wants in hand: enough to keep its workers busy, no more. Pure arithmetic.

Long tasks are not hoarded from other hosts (about one for each that runs at a time), short ones are pipelined until
the round trip to the broker no longer limits (section 3 of the design).
"""

from __future__ import annotations

from taskqueue.config.settings import GroupSettings

LIMIT = 512
_IN_FLIGHT_S = 0.1
"""Beyond what runs, so much work in seconds: well above a round trip, well below what a person would notice."""


def least(settings: GroupSettings) -> int:
    """One for each workitem that runs at a time; or what config pins it to."""
    if settings.prefetch is not None:
        return settings.prefetch
    return max(1, settings.workers * settings.concurrency)


def adapted(settings: GroupSettings, current: int, mean_s: float | None) -> int:
    """The prefetch for workitems that take `mean_s` seconds each; `current` where a change is not worth it."""
    floor = least(settings)
    if settings.prefetch is not None or mean_s is None:
        return current
    wanted = max(floor, min(LIMIT, floor + int(floor * _IN_FLIGHT_S / max(mean_s, 1e-6))))
    return wanted if wanted >= 2 * current or 2 * wanted <= current else current
