"""The part of the event loop that most objects need: calls when a descriptor is ready, and calls at a later time.

`Loop` is one; another may stand before it, as `pool.containment` does. It must never hold more than its users call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from taskqueue.foundation.loop import Handler, Timer


class Scheduler(Protocol):
    """Each method does what the method of `Loop` with the same name does."""

    READ: int
    WRITE: int

    def add_handler(self, fd: int, handler: Handler, events: int) -> None:
        """Call `handler(fd, events)` when one of `events` happens."""

    def remove_handler(self, fd: int) -> None:
        """Forget `fd`."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once after `delay` seconds."""
