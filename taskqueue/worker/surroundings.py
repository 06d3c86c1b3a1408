"""The state of a worker process that one handler changes and the next one would find, put back after each attempt.

It must never touch what a plugin keeps on purpose: its modules, its threads, its environment.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress


class Surroundings:
    """The working directory, umask, blocked signals and recursion limit as `setup` has left them.

    `restore` puts all of them back, and stops an alarm that is still to come.
    """

    def __init__(self) -> None:
        self._directory: str | None = None
        with suppress(OSError):
            self._directory = os.getcwd()  # noqa: PTH109 - a Path costs each worker 60 KiB
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._depth = sys.getrecursionlimit()

    def restore(self) -> None:
        """Put all of it back; call it after each attempt."""
        sys.setrecursionlimit(self._depth)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        os.umask(self._umask)
        if self._directory is not None:
            with suppress(OSError):  # the plugin has removed it
                os.chdir(self._directory)
