"""The one place where an error that nobody expected is caught: between the loop and what runs on a connection.

1. The loop runs a turn of the connection, in which a consumer's `on_delivery` raises `KeyError('fields')`.
2. The connection catches the error and hands over all outcomes that are left: a workitem that is done is acked.
3. `FaultLog` logs the error once, with its traceback and the callback that raised it.
4. The connection closes, so that the broker delivers again what was not acked, and comes back after its backoff.

Callbacks of pika, of timers and of the connection's users all run through `ContainedLoop`, so the process never ends
for an error in one of them. `KeyboardInterrupt` and `SystemExit` pass. It must never decide what happens after an
error.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from functools import partial

from taskqueue.foundation.loop import Handler, Loop, Timer

log = logging.getLogger(__name__)

Callback = Callable[..., object]


class ContainedLoop:
    """A `Loop` as a connection, its users and pika see it: what a callback raises goes to `caught(error, callback)`."""

    READ, WRITE, ERROR = Loop.READ, Loop.WRITE, Loop.ERROR

    def __init__(self, loop: Loop, caught: Callable[[Exception, Callback], None]) -> None:
        self._loop = loop
        self.caught = caught
        self.update_handler = loop.update_handler
        self.remove_handler = loop.remove_handler
        self.remove_timeout = loop.remove_timeout

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

    def call_soon(self, callback: Callable[[], object]) -> None:
        """As `Loop.call_soon`."""
        self._loop.call_soon(partial(self.run, callback))

    def add_callback(self, callback: Callable[[], object]) -> None:
        """As `Loop.add_callback`."""
        self._loop.add_callback(partial(self.run, callback))


class FaultLog:
    """Logs each unexpected error once, however often it is raised: by its type and the line that raises it."""

    def __init__(self) -> None:
        self._logged: set[tuple[type[Exception], str, int | None]] = set()

    def log(self, error: Exception, callback: Callback) -> None:
        """Log `error`, which `callback` raised, with its traceback; nothing where that was done since `clear`."""
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = (type(error), last.filename, last.lineno)
        if place not in self._logged:
            self._logged.add(place)
            log.error("unexpected error: callback=%s; closing the connection", name_of(callback), exc_info=error)

    def clear(self) -> None:
        """Log everything again."""
        self._logged.clear()


def name_of(callback: Callback) -> str:
    """The name of a function, for people; that of the function inside where it is a `partial`."""
    while isinstance(callback, partial):
        callback = callback.func
    return getattr(callback, "__qualname__", None) or type(callback).__qualname__
