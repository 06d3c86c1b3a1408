"""Catches an unexpected error in a callback of a connection: the connection closes and comes back, the process lives.

1. The loop runs a turn of the connection, in which a consumer's `on_delivery` raises `KeyError('fields')`.
2. The connection catches the error and hands over all outcomes that are left: a workitem that is done is acked.
3. `FaultLog` logs the error once, with its traceback and the callback that raised it.
4. The connection closes, so that the broker delivers again what was not acked, and comes back after its backoff.

Callbacks of pika, of timers and of the connection's users all run through `ConnectionLoop`, so the process never ends
for an error in one of them. `KeyboardInterrupt` and `SystemExit` pass. It must never decide what happens after an
error.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from functools import partial

from taskqueue.foundation.contained_loop import Callback, ContainedLoop, name_of
from taskqueue.foundation.loop import Loop

log = logging.getLogger(__name__)


class ConnectionLoop(ContainedLoop):
    """The loop as a connection, its users and pika have it: with all methods that pika asks of an I/O loop."""

    def __init__(self, loop: Loop, caught: Callable[[Exception, Callback], None]) -> None:
        super().__init__(loop, caught)
        self._whole = loop
        self.update_handler = loop.update_handler
        self.remove_timeout = loop.remove_timeout

    def call_soon(self, callback: Callable[[], object]) -> None:
        """As `Loop.call_soon`."""
        self._whole.call_soon(partial(self.run, callback))

    def add_callback(self, callback: Callable[[], object]) -> None:
        """As `Loop.add_callback`."""
        self._whole.add_callback(partial(self.run, callback))


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
