"""A command on a terminal of its own, as a person runs it: what it shows, keys that are pressed, Ctrl-C."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from waiting import wait_for

CTRL_C = "\x03"
CTRL_D = "\x04"

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


class Terminal:
    """Runs `command` with a pty as its controlling terminal, and its input unless `stdin` is given.

    Standard output and standard error both go to the terminal, as they do for a person.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        env: Mapping[str, str],
        *,
        columns: int = 100,
        rows: int = 40,
        stdin: int | IO[bytes] | None = None,
    ) -> None:
        self._shown = b""
        self._fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.set_blocking(self._fd, False)

        def control() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored in what a shell has started in the background
            fcntl.ioctl(1, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=theirs if stdin is None else stdin,
            stdout=theirs,
            stderr=theirs,
            env={"TERM": "xterm-256color", "LANG": "C.UTF-8", **env},
            cwd="/",
            start_new_session=True,
            preexec_fn=control,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._fd)

    @property
    def raw(self) -> str:
        """All bytes that the terminal got so far, as text."""
        with contextlib.suppress(BlockingIOError, OSError):  # EIO: nobody has it open any more
            while part := os.read(self._fd, 65536):
                self._shown += part
        return self._shown.decode(errors="replace")

    @property
    def text(self) -> str:
        """`raw` without colours and movements of the cursor, lines ended by a line feed."""
        return _ESCAPES.sub("", self.raw).replace("\r\n", "\n").replace("\r", "\n")

    def press(self, keys: str) -> None:
        """Type something."""
        os.write(self._fd, keys.encode())

    def shows(self, pattern: str, deadline_s: float = 20.0) -> re.Match[str]:
        """The first match of `pattern` in `text`, waited for."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self.text, re.MULTILINE)

        match = wait_for(found, deadline_s, f"{pattern!r} on the terminal", otherwise=lambda: self.text)
        assert match is not None
        return match

    def wait(self, deadline_s: float = 20.0) -> int:
        """The exit status, once it has ended."""

        def ended() -> bool:
            _ = self.raw  # a full pty would stop it
            return self.process.poll() is not None

        wait_for(ended, deadline_s, "the command ended", otherwise=lambda: self.text)
        _ = self.raw
        return int(self.process.returncode)
