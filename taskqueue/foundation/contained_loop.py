"""A loop as one part of a process has it: an error in a callback of that part ends there, and not the process.

1. `Loop` calls a handler that a group, or a connection, has registered through its `ContainedLoop`.
2. The handler raises `KeyError('counts')`, which nobody has foreseen.
3. `caught(error, callback)` gets it: it logs the error, and ends what cannot be trusted any more.
4. The loop goes on with the next handler.

`KeyboardInterrupt` and `SystemExit` pass. This module must never decide what happens after an error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from taskqueue.foundation.loop import Handler, Loop, Timer

Callback = Callable[..., object]


class EventLoop(Protocol):
    """The part of `Loop` that most objects need; each method does what `Loop`'s of the same name does."""

    READ: int
    WRITE: int

    def add_handler(self, fd: int, handler: Handler, events: int) -> None:
        """Call `handler(fd, events)` when one of `events` happens."""

    def remove_handler(self, fd: int) -> None:
        """Forget `fd`."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once after `delay` seconds."""


class ContainedLoop:
    """An `EventLoop` before another: what a callback raises goes to `caught(error, callback)`."""

    READ, WRITE, ERROR = Loop.READ, Loop.WRITE, Loop.ERROR

    def __init__(self, loop: EventLoop, caught: Callable[[Exception, Callback], None]) -> None:
        self.caught = caught
        self.remove_handler = loop.remove_handler
        self._loop = loop

    def run(self, callback: Callback, *arguments: object) -> bool:
        """Call `callback(*arguments)`; False where it raised."""
        try:
            callback(*arguments)
        except Exception as error:
            self.caught(error, callback)
            return False
        return True

    def add_handler(self, fd: int, handler: Handler, events: int) -> None:
        """As `Loop.add_handler`."""
        self._loop.add_handler(fd, partial(self.run, handler), events)

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """As `Loop.call_later`."""
        return self._loop.call_later(delay, partial(self.run, callback))


def name_of(callback: Callback) -> str:
    """The name of a function, for people; that of the function inside where it is a `partial`."""
    while isinstance(callback, partial):
        callback = callback.func
    return getattr(callback, "__qualname__", None) or type(callback).__qualname__
