"""What a child process writes to stdout and stderr, line by line to the log.

It never keeps more than one line, and never stops reading: who writes without end neither waits nor fills the log.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskqueue.foundation.loop import Timer
    from taskqueue.foundation.scheduler import Scheduler

LINE_LIMIT = 4096
"""Bytes of a line; a longer one is logged in pieces."""
WINDOW_S = 10.0
WINDOW_LINES = 1000
WINDOW_BYTES = 1 << 20
"""What is logged within so many seconds. A program that says more is not read by people."""
_READ_SIZE = 65_536
_PIPE_LIMIT = 1 << 20
"""Bytes that a pipe holds at most (/proc/sys/fs/pipe-max-size)."""


class Allowance:
    """How much may be logged of what `writers` processes write; `say` tells how much more there was."""

    def __init__(self, loop: Scheduler, say: Callable[[str], None], writers: int = 1) -> None:
        self._loop = loop
        self._say = say
        self._writers = writers
        self._window: Timer | None = None
        self._lines = self._bytes = self._lines_over = self._bytes_over = 0

    @property
    def spent(self) -> bool:
        """Whether nothing more may be logged in this window."""
        return self._lines >= WINDOW_LINES * self._writers or self._bytes >= WINDOW_BYTES * self._writers

    def take(self, size: int) -> bool:
        """Whether a line of `size` bytes may be logged; counts it in any case."""
        if self._window is None:
            self._window = self._loop.call_later(WINDOW_S, self.end)
        if self.spent:
            self.leave_out(1, size)
            return False
        self._lines += 1
        self._bytes += size
        return True

    def leave_out(self, lines: int, size: int) -> None:
        """Count what is not logged."""
        self._lines_over += lines
        self._bytes_over += size

    def end(self) -> None:
        """The window is over, or the process is gone: say what was left out."""
        if self._window is not None:
            self._window.cancel()
            self._window = None
        lines, size = self._lines_over, self._bytes_over
        self._lines = self._bytes = self._lines_over = self._bytes_over = 0
        if size:
            self._say(f"{lines} lines, {size} bytes left out: too many within {WINDOW_S:g} s")


class Output:
    """Reads the end `fd` of a pipe until it ends, and calls `line` for each line of it that `allowance` lets pass."""

    def __init__(self, loop: Scheduler, fd: int, line: Callable[[str], None], allowance: Allowance) -> None:
        self.fd = fd
        self._loop = loop
        self._line = line
        self._allowance = allowance
        self._rest = b""
        os.set_blocking(fd, False)
        loop.add_handler(fd, self._on_readable, loop.READ)

    def close(self) -> None:
        """Read what is there, log what is left, and give the descriptor back."""
        for _ in range(_PIPE_LIMIT // _READ_SIZE):  # and no more, though someone else may go on writing
            if self.fd < 0 or not self._read():
                break
        if self.fd >= 0:
            self._end()

    def _on_readable(self, fd: int, events: int) -> None:
        self._read()

    def _read(self) -> bool:
        try:
            came = os.read(self.fd, _READ_SIZE)
        except BlockingIOError:
            return False
        if not came:
            self._end()
            return False
        if self._allowance.spent:  # without taking it apart: a program can write faster than lines can be made of it
            self._allowance.leave_out(came.count(b"\n"), len(self._rest) + len(came))
            self._rest = b""
            return True
        *lines, self._rest = (self._rest + came).split(b"\n")
        while len(self._rest) > LINE_LIMIT:
            lines.append(self._rest[:LINE_LIMIT])
            self._rest = self._rest[LINE_LIMIT:]
        for line in lines:
            self._emit(line)
        return True

    def _emit(self, line: bytes) -> None:
        for start in range(0, len(line), LINE_LIMIT):
            piece = line[start : start + LINE_LIMIT]
            if not self._allowance.take(len(piece)):
                continue
            text = piece.decode("utf-8", "backslashreplace").rstrip()
            if text:
                self._line(text.encode("unicode_escape").decode() if not text.isprintable() else text)

    def _end(self) -> None:
        if self._rest:
            self._emit(self._rest)
            self._rest = b""
        self._loop.remove_handler(self.fd)
        os.close(self.fd)
        self.fd = -1
