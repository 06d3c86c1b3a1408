"""How many hand-outs of a worker type may be under way: back-pressure, so that no queue of the broker fills. Pure.

1. Nobody has reported yet: a small window of 32, to find out.
2. Reports tell how many slots each host's listener has: 200 and 200. The window is twice that, 800.
3. A hand-out comes back late: the slots were busy for longer than it was valid. The window is halved, down to a slot
   for each worker; it grows back by a slot with each outcome.
"""

from __future__ import annotations

_FIRST = 32
_PER_SLOT = 2
_HEARD_S = 90.0
"""Seconds for which a host's slots count after its last report: one that runs long tasks tells each minute."""


class Window:
    """The window of one worker type. `now` is on the monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._slots: dict[str, tuple[int, float]] = {}
        self._size = float(_FIRST)
        self._shrunk_at = 0.0

    @property
    def size(self) -> int:
        """Hand-outs that may be under way."""
        return max(1, int(self._size))

    def heard(self, host: str, slots: int, now: float) -> None:
        """A report of a listener on `host` with `slots` slots."""
        known = self._slots.get(host)
        self._slots[host] = (slots, now)
        most = self._most(now)
        if known is None or known[0] != slots:
            self._size = max(self._size, float(most)) if not self._shrunk_at else min(self._size, float(most))
        self._size = min(self._size + 1.0, float(most))

    def late(self, now: float) -> None:
        """A hand-out came back late. All that were under way with it come back together: that counts once."""
        if now - self._shrunk_at > 1.0:
            self._shrunk_at = now
            self._size = max(1.0, self._size / 2)

    def _most(self, now: float) -> int:
        for host, (_slots, heard) in list(self._slots.items()):
            if now - heard > _HEARD_S:
                del self._slots[host]
        return max(1, _PER_SLOT * sum(slots for slots, _heard in self._slots.values()))
