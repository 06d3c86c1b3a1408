"""The argument that is standard input itself: its lines as they come, in flat memory.

While no line comes, the connection to the broker is kept alive.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from taskqueue.amqp.session import Session
from taskqueue.errors import TaskqueueError

_CHUNK = 1 << 16
"""Bytes of one read: as many as a pipe holds."""
LINE_LIMIT = 128 * 1024 * 1024
"""Bytes of a line; a longer one is an error, since no broker takes it by default."""


class StdinLines:
    """The lines that come from `fd`, without their ends. Ends early, between two lines, once `stop()` is true.

    Text behind the last line end is a line, too.
    """

    def __init__(self, session: Session, fd: int, stop: Callable[[], bool]) -> None:
        self._session = session
        self._fd = fd
        self._stop = stop
        self._waits = False
        self._came = False

    def __enter__(self) -> Self:
        loop = self._session.loop
        try:
            loop.add_handler(self._fd, self._on_readable, select.EPOLLIN | select.EPOLLONESHOT)
            self._waits = True
        except PermissionError:  # a regular file, which always has something to read
            loop.remove_handler(self._fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._waits:
            self._session.loop.remove_handler(self._fd)

    def __iter__(self) -> Iterator[bytes]:
        rest: list[bytes] = []
        size = number = 0
        while self._readable() and (chunk := os.read(self._fd, _CHUNK)):
            *whole, last = chunk.split(b"\n")
            if whole:
                whole[0] = b"".join((*rest, whole[0]))
                rest, size = [], 0
            for line in whole:
                if self._stop():
                    return
                number += 1
                yield line
            rest.append(last)
            size += len(last)
            if size > LINE_LIMIT:
                raise TaskqueueError(f"line {number + 1} is longer than {LINE_LIMIT} bytes")
        if (line := b"".join(rest)) and not self._stop():
            yield line

    def _readable(self) -> bool:
        """Wait until there is something to read; False where it is to stop."""
        if self._waits:
            self._came = False
            self._session.loop.update_handler(self._fd, select.EPOLLIN | select.EPOLLONESHOT)
            self._session.wait(lambda: self._came or self._stop(), None)
        return not self._stop()

    def _on_readable(self, fd: int, events: int) -> None:
        self._came = True
