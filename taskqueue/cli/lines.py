"""Lines of standard input as they come, in flat memory, while the connection to the broker is kept alive."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from taskqueue.errors import TaskqueueError
from taskqueue.session import Session

_CHUNK = 1 << 16
LINE_LIMIT = 128 * 1024 * 1024
"""Bytes of a line: more is more than a broker takes by default."""


class Lines:
    """The lines that come from `fd`, without their ends. Ends early, between two lines, once `stop()` is true.

    What is behind the last line end is a line, too, where it is not empty.
    """

    def __init__(self, session: Session, fd: int, stop: Callable[[], bool]) -> None:
        self._session = session
        self._fd = fd
        self._stop = stop
        self._readable = False
        self.count = 0
        """Lines that were given so far."""

    def __iter__(self) -> Iterator[bytes]:
        rest: list[bytes] = []
        size = 0
        with self._watched() as wait:
            while wait() and (chunk := os.read(self._fd, _CHUNK)):
                *whole, last = chunk.split(b"\n")
                if whole:
                    whole[0] = b"".join((*rest, whole[0]))
                    rest, size = [], 0
                rest.append(last)
                size += len(last)
                if size > LINE_LIMIT:
                    raise TaskqueueError(f"line {self.count + len(whole) + 1} is longer than {LINE_LIMIT} bytes")
                for line in whole:
                    if self._stop():
                        return
                    self.count += 1
                    yield line
        last = b"".join(rest)
        if last and not self._stop():
            self.count += 1
            yield last

    @contextmanager
    def _watched(self) -> Iterator[Callable[[], bool]]:
        """Gives what waits until there is something to read; False where it is to stop."""
        loop = self._session.loop
        try:
            loop.add_handler(self._fd, self._on_readable, select.EPOLLIN | select.EPOLLONESHOT)
        except PermissionError:  # a regular file: it is always readable
            loop.remove_handler(self._fd)
            yield lambda: not self._stop()
            return
        try:
            yield self._wait
        finally:
            loop.remove_handler(self._fd)

    def _wait(self) -> bool:
        self._readable = False
        self._session.loop.update_handler(self._fd, select.EPOLLIN | select.EPOLLONESHOT)
        self._session.wait(lambda: self._readable or self._stop(), None)
        return not self._stop()

    def _on_readable(self, fd: int, events: int) -> None:
        self._readable = True
