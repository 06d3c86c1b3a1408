"""Which worker types are served, as far as the broker has told: whether their queue has a consumer. Pure.

1. A task for worker type `resize` is due: `wants("resize", now)`. Nobody has told of it: `to_ask` gives it, and the
   broker is asked.
2. The broker answers within some milliseconds: 2 consumers. `serves` is True, and the broker is asked again each
   second, for as long as somebody wants to know.
3. The broker is busy and does not answer: after half a second the type counts as served. A hand-out that nobody takes
   is handed out anew after its time; a task that waits for a count would wait for nothing.
4. A report of one of its workers says more than a count: `told("resize", True)`.
"""

from __future__ import annotations

from collections.abc import Iterator

_UNANSWERED_S = 0.5
_FORGET_S = 300.0
"""Seconds after which a worker type that nobody wants to know of is not asked for any more."""


class Served:
    """What is known of each worker type. `now` is on the monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}
        self._wanted: dict[str, float] = {}
        """When somebody last wanted to know."""
        self._asked: dict[str, float] = {}
        """Questions without an answer, and since when."""

    def wants(self, worker_type: str, now: float) -> bool:
        """Somebody wants to know of a type; gives whether that is news, so that it must be asked at once."""
        new = worker_type not in self._wanted
        self._wanted[worker_type] = now
        return new

    def known(self, worker_type: str) -> bool | None:
        """What the broker has told; None where it has not."""
        return self._known.get(worker_type)

    def serves(self, worker_type: str, now: float) -> bool:
        """Whether to hand out to a type."""
        known = self._known.get(worker_type)
        if known is None:
            return now - self._asked.get(worker_type, now) >= _UNANSWERED_S
        return known

    def to_ask(self, now: float) -> Iterator[str]:
        """The types that are to be asked for now: none twice before its answer."""
        for worker_type, wanted in list(self._wanted.items()):
            if now - wanted > _FORGET_S:
                del self._wanted[worker_type]
                self._known.pop(worker_type, None)
            elif worker_type not in self._asked:
                self._asked[worker_type] = now
                yield worker_type

    def told(self, worker_type: str, serves: bool) -> bool:
        """There is an answer; gives whether it changes anything."""
        self._asked.pop(worker_type, None)
        changed = self._known.get(worker_type) is not serves
        self._known[worker_type] = serves
        return changed

    def not_told(self, worker_type: str) -> None:
        """The question has failed: what was known holds until the next one."""
        self._asked.pop(worker_type, None)

    def lost(self) -> None:
        """The broker is gone: nothing is known any more."""
        self._known.clear()
        self._asked.clear()
