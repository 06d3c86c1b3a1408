"""The one event loop of every process: file descriptors, timers, signals and child deaths, in one epoll.

One turn, with the example of a dispatcher that has a message to pass on:

1. The hooks run: the connection hands over the deliveries that the last turn read, and gathers what they lead to.
2. The loop waits for descriptors and timers. It does not wait where a callback is left over.
3. The handlers of the descriptors run: pika reads deliveries and confirms.
4. The timers that are due run.
5. What was passed to `call_soon` runs: the connection writes everything that it gathered, in one write.

A callback that raises ends the turn: whoever owns a part contains its errors (`amqp/containment.py` does). Another
event loop can run this one inside itself: it watches `fileno()`, calls `turn(0)` when that is readable, and calls it
again `next_due_s()` seconds later. `on_signal` must not be used there: signals are that loop's.

The loop has the shape that pika's `SelectConnection` takes as `custom_ioloop` (pika calls it `AbstractSelectorIOLoop`).
It must never know pika: the pool and the template, which never speak AMQP, use the same loop.
"""

from __future__ import annotations

import gc
import heapq
import logging
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count

log = logging.getLogger(__name__)

Handler = Callable[[int, int], object]
"""Called with the file descriptor and the events that happened."""

_LONGEST_WAIT_S = 3600.0
"""Seconds that one turn of `start` waits at most: an idle process wakes up once an hour."""
_YOUNG, _OLDER, _OLD = 10_000, 10, 10
"""Allocations, and collections of the generation before: thresholds of the garbage collector. With Python's own (700)
it would scan the messages in hand many times for each message."""


class Timer:
    """A call at a time of the monotonic clock; `cancel` it, or pass it to `Loop.remove_timeout`."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callable[[], object]) -> None:
        self.due = due
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Do not call it; harmless where it was called already."""
        self.callback = None


class Loop:
    """An epoll loop. Not thread-safe but for `add_callback`, as pika requires."""

    READ = select.EPOLLIN
    WRITE = select.EPOLLOUT
    ERROR = select.EPOLLERR | select.EPOLLHUP

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._soon: deque[Callable[[], object]] = deque()
        self._hooks: list[Callable[[], object]] = []
        self._hooks_due = True
        """Whether something has run that the hooks have not followed yet."""
        self._running = False
        self._signals: dict[int, Callable[[], object]] = {}
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.add_handler(self._wake_r, self._on_wake, self.READ)

    # -- file descriptors

    def add_handler(self, fd: int, handler: Handler, events: int) -> None:
        """Call `handler(fd, events)` when one of `events` happens."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def update_handler(self, fd: int, events: int) -> None:
        """Wait for `events` of `fd` from now on."""
        self._epoll.modify(fd, events)

    def remove_handler(self, fd: int) -> None:
        """Forget `fd`; call it before the descriptor is closed."""
        if self._handlers.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:  # closed already: epoll forgot it by itself
                log.debug("descriptor was closed before it was removed: fd=%d", fd)

    # -- timers and callbacks

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once after `delay` seconds."""
        timer = Timer(time.monotonic() + max(delay, 0.0), callback)
        heapq.heappush(self._timers, (timer.due, next(self._order), timer))
        return timer

    def remove_timeout(self, timeout_handle: Timer) -> None:
        """Cancel a timer of `call_later` (pika's name for it)."""
        timeout_handle.cancel()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call `callback` in the loop's thread, in the next turn, which begins at once. The only thread-safe method."""
        self._soon.append(callback)
        self._wake()

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call `callback` at the end of this turn, or of the next where it is called between turns. Not thread-safe."""
        self._soon.append(callback)

    def before_wait(self, hook: Callable[[], object]) -> None:
        """Call `hook` in every turn, after all callbacks and before the loop waits."""
        self._hooks.append(hook)

    def remove_hook(self, hook: Callable[[], object]) -> None:
        """Undo `before_wait`."""
        self._hooks.remove(hook)

    # -- signals

    def on_signal(self, signum: int, callback: Callable[[], object]) -> None:
        """Call `callback` in the loop after each `signum`. The signal handler itself only writes to the wake-up
        pipe."""
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        self._signals[signum] = callback
        signal.signal(signum, _recorded_by_wakeup_fd)
        signal.siginterrupt(signum, False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})

    # -- inside another event loop

    def fileno(self) -> int:
        """The descriptor that is readable while a handler of this loop has something to do."""
        return self._epoll.fileno()

    def next_due_s(self) -> float | None:
        """Seconds until the next `turn` is needed although `fileno()` is not readable; None where there is no need.

        0.0 after a turn in which anything ran: the hooks have not seen yet what it brought.
        """
        if self._hooks_due:
            return 0.0
        wait_s = self._wait_s(float("inf"))
        return None if wait_s == float("inf") else wait_s

    # -- running

    def start(self) -> None:
        """Run until `stop`."""
        self._running = True
        while self._running:
            self.turn(_LONGEST_WAIT_S)

    def stop(self) -> None:
        """Leave `start` after this turn."""
        self._running = False
        self._wake()

    def turn(self, wait_s: float) -> None:
        """One turn: hooks, then at most `wait_s` seconds of waiting, then what happened. Raises what a callback
        raises."""
        for hook in tuple(self._hooks):
            hook()
        happened = self._epoll.poll(self._wait_s(wait_s))
        self._hooks_due = bool(happened or self._soon)
        for fd, events in happened:
            handler = self._handlers.get(fd)
            if handler is None:  # removed by an earlier handler of this turn
                continue
            if events & self.ERROR:
                events |= self.READ  # a handler that only reads sees the end of the file
            handler(fd, events)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                self._hooks_due = True
                callback()
        for _ in range(len(self._soon)):
            self._soon.popleft()()

    def close(self) -> None:
        """Close the loop's descriptors. A forked child calls it, too: the parent's loop is not changed by that."""
        if signal.getsignal(signal.SIGTERM) is _recorded_by_wakeup_fd or self._signals:
            signal.set_wakeup_fd(-1)
        self._epoll.close()
        os.close(self._wake_r)
        os.close(self._wake_w)

    def _wait_s(self, wait_s: float) -> float:
        if self._soon:
            return 0.0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if self._timers:
            return max(0.0, min(wait_s, self._timers[0][0] - time.monotonic()))
        return wait_s

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full: the loop wakes up anyway
            os.write(self._wake_w, b"\0")

    def _on_wake(self, fd: int, events: int) -> None:
        try:
            received = set(os.read(fd, 4096))
        except BlockingIOError:
            return
        for signum in sorted(received):
            callback = self._signals.get(signum)
            if callback is not None:
                callback()


def settle_in() -> None:
    """Tune the garbage collector for a process that only passes messages on from now on.

    The objects that exist stay for the life of the process, so they are not scanned again; new cycles are looked for
    seldom. Never call it where a plugin's code runs: plugins may rely on Python's settings.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _OLDER, _OLD)


def _recorded_by_wakeup_fd(signum: int, frame: object) -> None:
    """Does nothing: the interpreter has written `signum` to the wake-up pipe by now, and the loop acts on it."""
