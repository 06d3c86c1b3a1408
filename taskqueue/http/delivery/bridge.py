"""Our own event loop, with the AMQP rooms in it, inside asyncio.

An epoll descriptor is readable when one of its own is: asyncio watches the loop's, and turns it. What coroutines
publish within one iteration leaves in one write, with the turn of the next. This module must never know AMQP.
"""

from __future__ import annotations

import asyncio

from taskqueue.foundation.loop import Loop


class Bridge:
    """A `Loop` inside the running asyncio loop. `wake` it after a call from outside of the loop's own callbacks."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._outer = asyncio.get_running_loop()
        self._next: asyncio.Handle | None = None
        self._soon = False
        self._outer.add_reader(loop.fileno(), self._turn)
        self.wake()

    def wake(self) -> None:
        """Turn once in the next iteration of asyncio, however often this is called before."""
        if not self._soon:
            self._turn_after(0.0)

    def close(self) -> None:
        """Leave asyncio."""
        self._outer.remove_reader(self.loop.fileno())
        self._turn_after(None)

    def _turn_after(self, wait_s: float | None) -> None:
        if self._next is not None:
            self._next.cancel()
        self._soon = wait_s == 0.0
        if self._soon:
            self._next = self._outer.call_soon(self._turn)
        else:
            self._next = None if wait_s is None else self._outer.call_later(wait_s, self._turn)

    def _turn(self) -> None:
        self._soon = False
        self.loop.turn(0)
        self._turn_after(self.loop.next_due_s())
