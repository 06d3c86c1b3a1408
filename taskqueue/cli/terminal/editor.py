"""Runs a person's editor on a text, while the connection to the broker is kept alive."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import tempfile
from pathlib import Path

from taskqueue.amqp.session import Session
from taskqueue.errors import TaskqueueError


class Editor:
    """`$VISUAL`, `$EDITOR` or `editor`, on a private file."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "editor")

    def edit(self, text: bytes) -> tuple[bytes, Path]:
        """(what came of `text`, the file that it is in, to be removed). Raises `TaskqueueError` where it fails."""
        fd, name = tempfile.mkstemp(prefix="taskqueue-", suffix=".txt")
        path = Path(name)
        with open(fd, "wb") as file:  # noqa: PTH123 - of the descriptor
            file.write(text)
        try:
            status = self._run(path)
        except OSError as error:
            path.unlink()
            raise TaskqueueError(f"$EDITOR: {self._command[0]}: {error.strerror}") from None
        if status != 0:
            path.unlink()
            raise TaskqueueError(f"$EDITOR: {self._command[0]}: ended with status {status}")
        return path.read_bytes(), path

    def _run(self, path: Path) -> int:
        """Heartbeats are sent while it runs: a person may think for long."""
        loop = self._session.loop
        with subprocess.Popen([*self._command, path]) as process:
            ended = os.pidfd_open(process.pid)
            try:
                loop.add_handler(ended, lambda fd, events: loop.remove_handler(fd), select.EPOLLIN)
                self._session.wait(lambda: process.poll() is not None, None)
            finally:
                loop.remove_handler(ended)
                os.close(ended)
            return process.returncode
