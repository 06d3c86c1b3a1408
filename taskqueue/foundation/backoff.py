"""How many seconds to wait before the next try: doubled after each failure, with jitter.

1. The first try fails: `Backoff(0.25, 5.0).next_s()` gives 0.19 to 0.25 s.
2. The second gives 0.38 to 0.5 s, the sixth and all behind it 3.75 to 5 s.
3. A try works: `reset()`, and the next failure begins at 0.25 s again.

Pure: it must never sleep or read a clock.
"""

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


@dataclass(slots=True)
class Backoff:
    """Counts failed tries and gives the wait before the next; `reset` it when a try worked."""

    first_s: float
    longest_s: float
    jitter: Jitter = random.random
    tries: int = 0

    def next_s(self) -> float:
        """Count one more failed try; seconds to wait before the next."""
        self.tries += 1
        return delay_s(self.tries, first_s=self.first_s, longest_s=self.longest_s, jitter=self.jitter)

    def reset(self) -> None:
        """A try worked: the next failure waits `first_s` again."""
        self.tries = 0
