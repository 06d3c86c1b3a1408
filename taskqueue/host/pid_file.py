"""A pid file whose lock says whether its daemon lives: flock(2), which the kernel lets go of with the last process.

1. `PidFile(path)` opens, locks and empties the file, while there is a terminal to complain to; another holder is an
   error.
2. The descriptor is inherited by the daemon, across the two forks of detaching, and so is the lock.
3. Entered, it writes the number of the process that runs: `/run/taskqueue/dispatcher.pid` with `1234`.
4. Left, it is removed; where this process may not change the directory, as after giving up root, it is emptied.

A number that is left behind by a killed daemon means nothing: only the lock counts. The directory may be one in which
daemons that are not root have files, too (/run/taskqueue, mode 1775): a symbolic link there is never followed, and a
file that another user has left is opened, not created (fs.protected_regular, see proc(5), would refuse that).
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from taskqueue.errors import DaemonError


class PidFile:
    """The locked pid file at `path`; raises `DaemonError` where another process holds it, or it cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise DaemonError(f"{path.parent}: cannot be made: {error.strerror}") from None
        try:
            self._fd = _locked(path)
        except BlockingIOError:
            raise DaemonError(f"already running: pid {_pid_in(path)} ({path})") from None
        except OSError as error:
            raise DaemonError(f"{path}: cannot be written: {error.strerror}") from None
        self._write("")  # the number that a killed daemon left may be another process's by now

    def fileno(self) -> int:
        """The descriptor that holds the lock; whoever detaches keeps it open."""
        return self._fd

    def __enter__(self) -> Self:
        self._write(f"{os.getpid()}\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            self._write("")
        os.close(self._fd)

    def _write(self, content: str) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, content.encode(), 0)


def _locked(path: Path) -> int:
    """A descriptor of the file at `path`, locked; raises `BlockingIOError` where another process holds it."""
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            with suppress(FileExistsError):  # another process has made it since: the next round opens that
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(fd, path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its daemon removed it between our open and our lock: the next one is a new file


def _is_at(fd: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), path.stat())
    return False


def _pid_in(path: Path) -> str:
    """The number in the file, for a message; its holder may be about to write it."""
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text().strip() or "unknown"
    return "unknown"
