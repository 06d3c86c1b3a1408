"""Reconnecting: which host of `[amqp] host` is tried next, its connect timeout, and the pause before the try.

1. Three hosts, all new: `a` is tried for 3 s, then at once `b` for 3 s, then at once `c` for 3 s.
2. None has answered: after 0.25 s at most `a` is tried for 10 s, then `b`, then `c`; after 0.5 s `a` again, and so on.
3. `b` answers: `worked()`. When that connection is lost, `c` is tried at once.

Pure: it must never connect, and never reads a clock.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from taskqueue.foundation.backoff import Backoff, Jitter

_TIMEOUT_S = 10.0
"""Seconds to wait for a TCP connection to one host."""
_FIRST_ROUND_TIMEOUT_S = 3.0
"""Seconds, in the first round of several hosts: an unreachable host must not delay the try of the next."""
_BACKOFF = (0.25, 5.0)
"""Seconds, first and longest wait between two rounds of all hosts."""


class Hosts:
    """A round of hosts, for ever. Tell it what became of each try."""

    def __init__(self, hosts: Sequence[tuple[str, int]], jitter: Jitter = random.random) -> None:
        self._hosts = hosts
        self._index = 0
        self._failed = 0
        self.backoff = Backoff(*_BACKOFF, jitter=jitter)
        """Of rounds in which no host worked."""

    @property
    def current(self) -> tuple[str, int]:
        """Name or address, and port, of the host to try; of the one in use while it works."""
        return self._hosts[self._index]

    @property
    def untried(self) -> bool:
        """Whether a host was not tried since one worked last, or since the start."""
        return self._failed < len(self._hosts)

    @property
    def timeout_s(self) -> float:
        """Seconds to wait for a TCP connection to `current`."""
        return _FIRST_ROUND_TIMEOUT_S if 1 < len(self._hosts) > self._failed else _TIMEOUT_S

    def worked(self) -> None:
        """`current` has answered and took us in."""
        self._failed = 0
        self.backoff.reset()

    def failed(self) -> float:
        """`current` has not answered, refused us, or is lost; seconds to wait before the next host, now `current`."""
        self._index = (self._index + 1) % len(self._hosts)
        self._failed += 1
        return self.backoff.next_s() if self._failed % len(self._hosts) == 0 else 0.0
