"""The output of child processes: each line that one writes to stdout or stderr becomes a line of the log.

A process that writes without end is neither held up nor does it fill the log: its pipe is always read, no more than one
line is kept, and an `Allowance` bounds the lines that are logged. This module must never act on what it reads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskqueue.foundation.contained_loop import EventLoop
    from taskqueue.foundation.loop import Timer

LINE_LIMIT = 4096
"""Bytes of a line; a longer one is logged in pieces."""
WINDOW_S = 10.0
"""Seconds of a window, at whose end the count of lines begins anew."""
WINDOW_LINES = 1000
"""Lines that one process may log in a window; more than that nobody reads, so they are counted and left out."""
WINDOW_BYTES = 1 << 20
"""Bytes that one process may log in a window; likewise."""
_READ_SIZE = 65_536
"""Bytes of one read."""
_PIPE_LIMIT = 1 << 20
"""Bytes that a pipe can hold (/proc/sys/fs/pipe-max-size): what is read of a process that has ended."""


class Allowance:
    """The lines that `writers` processes may log in a window. `report` is called at its end with the number of lines
    and bytes that were left out, as a text, where there were any."""

    def __init__(self, loop: EventLoop, report: Callable[[str], None], writers: int = 1) -> None:
        self._loop = loop
        self._report = report
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
        """Count lines, and their bytes, that are not logged."""
        self._lines_over += lines
        self._bytes_over += size

    def end(self) -> None:
        """End the window, because it is over or the process is gone, and report what was left out."""
        if self._window is not None:
            self._window.cancel()
            self._window = None
        lines, size = self._lines_over, self._bytes_over
        self._lines = self._bytes = self._lines_over = self._bytes_over = 0
        if size:
            self._report(f"{lines} lines, {size} bytes left out: too many within {WINDOW_S:g} s")


class Output:
    """Reads `fd`, the end of a pipe, and calls `line(text)` for each line that `allowance` permits. It closes `fd` when
    the last writer is gone, or in `close`."""

    def __init__(self, loop: EventLoop, fd: int, line: Callable[[str], None], allowance: Allowance) -> None:
        self.fd = fd
        self._loop = loop
        self._line = line
        self._allowance = allowance
        self._rest = b""
        os.set_blocking(fd, False)
        loop.add_handler(fd, self._on_readable, loop.READ)

    def close(self) -> None:
        """Log what is left in the pipe, and close it."""
        for _ in range(_PIPE_LIMIT // _READ_SIZE):  # and no more: another process may hold the other end, and write on
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
        if self._allowance.spent:  # count line breaks, which is faster than a program can write; splitting is not
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
