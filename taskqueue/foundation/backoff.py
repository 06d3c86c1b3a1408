"""Delay mathematics: how long to wait before the next try. Pure; never sleeps, never reads a clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

Jitter = Callable[[], float]
"""Gives a number from 0 to 1; `random.random` except in tests."""


def delay_s(
    tries: int,
    *,
    first_s: float,
    longest_s: float,
    jitter: Jitter = random.random,
) -> float:
    """Seconds to wait after `tries` failed tries (from 1): doubled each time, up to `longest_s`.

    Up to a quarter is taken off at random, so that many hosts that failed together do not come back together;
    never added, so that the longest is a promise.
    """
    if tries < 1:
        return 0.0
    doubled = first_s * 2.0 ** min(tries - 1, 60)
    return min(doubled, longest_s) * (1.0 - 0.25 * jitter())


def patience_s(tries: int) -> float:
    """Seconds to wait for a broker's answer about a queue, after `tries` that had none (from 0), before the next try.

    Asked while a quorum queue elects its leader, RabbitMQ 3.10 answers 5 s later at the soonest, and at once when it is
    asked anew after the election. A broker that is only slow is given time after a few tries.
    """
    return 1.0 if tries < 5 else 10.0


@dataclass(slots=True)
class Backoff:
    """Counts failed tries and says how long to wait. `reset` once it worked."""

    first_s: float
    longest_s: float
    jitter: Jitter = random.random
    tries: int = 0

    def next_s(self) -> float:
        """Count one more failed try; seconds to wait before the next."""
        self.tries += 1
        return delay_s(self.tries, first_s=self.first_s, longest_s=self.longest_s, jitter=self.jitter)

    def reset(self) -> None:
        """It worked: the next failure starts from `first_s` again."""
        self.tries = 0
