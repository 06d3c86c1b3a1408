"""The state of a worker process around a handler, put back after each run."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress


class Surroundings:
    """What `setup` has left around a handler, and the next one finds again: the working directory, the umask, which
    signals are blocked, the recursion limit; and no alarm that is still to come."""

    def __init__(self) -> None:
        self._directory: str | None = None
        with suppress(OSError):
            self._directory = os.getcwd()  # noqa: PTH109 - a Path makes 60 KiB a worker's own
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._depth = sys.getrecursionlimit()

    def restore(self) -> None:
        """After a run."""
        sys.setrecursionlimit(self._depth)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        os.umask(self._umask)
        if self._directory is not None:
            with suppress(OSError):  # the plugin has removed it
                os.chdir(self._directory)
