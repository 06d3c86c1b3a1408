"""The deliveries of one channel that are not acked yet, and the fewest frames that ack the settled ones. Pure.

1. Deliveries 1 to 5 arrive; 1, 2 and 4 are settled in one turn.
2. `take()` gives `(2, [4])`: an ack of 2 and all before it, and one of 4 alone, because 3 still runs.
3. 3 and 5 are settled: `take()` gives `(5, [])`.
"""

from __future__ import annotations

from collections import deque


class Acks:
    """`order` and `settled` are filled by the consumer, without a call for each delivery."""

    def __init__(self) -> None:
        self.order: deque[int] = deque()
        """Delivery tags that are not acked, ascending."""
        self.settled: set[int] = set()
        """Those among them that may be acked."""

    @property
    def unsettled(self) -> int:
        """How many deliveries are not settled."""
        return len(self.order) - len(self.settled)

    def take(self) -> tuple[int, list[int]]:
        """Forget what is settled: the tag to ack with all before it (0: none), and the tags to ack alone."""
        order, settled = self.order, self.settled
        multiple = 0
        while order and order[0] in settled:
            multiple = order.popleft()
            settled.discard(multiple)
        alone = list(settled)
        if alone:
            self.order = deque(tag for tag in order if tag not in settled)
            settled.clear()
        return multiple, alone
