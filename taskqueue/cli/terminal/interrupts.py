"""Ctrl-C that leaves nothing half done: the first takes effect at the next safe point, the second at once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from taskqueue.foundation.loop import Loop


class Interrupts:
    """While it watches, the first SIGINT only sets `came` and wakes the loop; `safe_point` raises `KeyboardInterrupt`.

    A command that ends in good order by itself sets `deferred` and looks at `came`. A second SIGINT always raises, from
    wherever the program is.
    """

    def __init__(self) -> None:
        self.came = False
        self.deferred = False
        self.at_once = False
        """A person is being asked a question: the first Ctrl-C raises, too."""
        self._raised = False
        self._before: Callable[..., Any] | int | None = None

    def watch(self, loop: Loop) -> None:
        """Begin; `loop` is woken by the signal."""
        self._before = signal.getsignal(signal.SIGINT)
        loop.on_signal(signal.SIGINT, lambda: None)  # its wake-up descriptor: no signal slips in before a wait
        signal.signal(signal.SIGINT, self._interrupted)

    def end(self) -> None:
        """Undo `watch`."""
        if self._before is not None:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, self._before)

    def safe_point(self) -> None:
        """Raise `KeyboardInterrupt`, once, where it came and is not `deferred`."""
        if self.came and not self.deferred and not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    def _interrupted(self, signum: int, frame: FrameType | None) -> None:
        if self.came or self.at_once:
            self._raised = True
            raise KeyboardInterrupt
        self.came = True
