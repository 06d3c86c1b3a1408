"""Fairness between origins: one that is slow may not take all slots of a worker. Pure.

A worker has 200 slots. An origin that has 50 requests in flight, a quarter, gets another only while 50 slots stay
free for others beside it; otherwise its hand-outs are given back and come again. The worker
knows nothing of what waits elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Slots:
    """The requests of one worker that are in flight."""

    def __init__(self, slots: int) -> None:
        """`slots`: how many workitems the worker runs at a time, `concurrency`."""
        self._slots = slots
        self._share = max(1, slots // 4)
        self._in_flight: Counter[str] = Counter()
        self._all = 0

    def has_room(self, origin: str) -> bool:
        """Whether another request to `origin` leaves others their share."""
        free_beside_it = self._slots - self._all - 1
        return self._in_flight[origin] < self._share or free_beside_it >= self._share

    @contextmanager
    def taken(self, origin: str) -> Iterator[None]:
        """One slot, while the request is in flight."""
        self._in_flight[origin] += 1
        self._all += 1
        try:
            yield
        finally:
            self._all -= 1
            self._in_flight[origin] -= 1
            if not self._in_flight[origin]:
                del self._in_flight[origin]
