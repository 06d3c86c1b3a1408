"""A loop whose clock a test turns by hand: what a unit hands to it is kept, and called when the test says so."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from taskqueue.foundation.loop import Handler, Loop, Timer


class Clockwork:
    """Stands for `Loop`. `now` is its time in seconds; nothing happens but in `advance`, `ready` and `signal`."""

    READ = Loop.READ
    WRITE = Loop.WRITE

    def __init__(self) -> None:
        self.now = 0.0
        self.handlers: dict[int, Handler] = {}
        self.signals: dict[int, Callable[[], object]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def add_handler(self, fd: int, handler: Handler, events: int) -> None:
        """Keep `handler` for `ready`; like epoll it takes no descriptor twice."""
        assert fd not in self.handlers
        self.handlers[fd] = handler

    def remove_handler(self, fd: int) -> None:
        """Forget `fd`."""
        self.handlers.pop(fd, None)

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Keep `callback` for `advance`."""
        timer = Timer(self.now + delay, callback)
        self._timers.append((timer.due, next(self._order), timer))
        return timer

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Keep `callback` for the next `advance`."""
        self.call_later(0.0, callback)

    def on_signal(self, signum: int, callback: Callable[[], object]) -> None:
        """Keep `callback` for `signal`."""
        self.signals[signum] = callback

    @property
    def due(self) -> list[float]:
        """Seconds from now until each timer that was not cancelled, the next one first."""
        return sorted(timer.due - self.now for _, _, timer in self._timers if timer.callback is not None)

    def advance(self, seconds: float = 0.0) -> None:
        """Turn the clock on, and call what becomes due, in order; also what is called soon by it."""
        until = self.now + seconds
        while ready := [entry for entry in self._timers if entry[0] <= until]:
            first = min(ready)
            self._timers.remove(first)
            self.now = max(self.now, first[0])
            callback, first[2].callback = first[2].callback, None
            if callback is not None:
                callback()
        self.now = until

    def ready(self) -> None:
        """Call every handler that there is, as if something happened at its descriptor."""
        for fd, handler in list(self.handlers.items()):
            if self.handlers.get(fd) is handler:
                handler(fd, self.READ | self.WRITE)

    def signal(self, signum: int) -> None:
        """Call what was asked for on `signum`."""
        self.signals[signum]()
