"""The status socket: whoever may connect gets one JSON document and the end. It never takes an order."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from taskqueue.errors import DaemonError
from taskqueue.foundation.loop import Loop

log = logging.getLogger(__name__)

Answer = Callable[[dict[str, Any]], None]


class StatusSocket:
    """Listens on `path` (mode 0660). `ask(answer)` is called for each connection; `answer(document)` sends it."""

    def __init__(self, loop: Loop, path: Path, group: int | None, ask: Callable[[Answer], None]) -> None:
        self.path = path
        self._loop = loop
        self._ask = ask
        self._sock = _bound(path, group)
        self._sock.setblocking(False)
        self._sock.listen(128)
        loop.add_handler(self._sock.fileno(), self._on_connect, loop.READ)

    def close(self) -> None:
        """Remove the socket."""
        self._loop.remove_handler(self._sock.fileno())
        self._sock.close()
        self.path.unlink(missing_ok=True)

    def _on_connect(self, fd: int, events: int) -> None:
        with suppress(BlockingIOError, ConnectionError):
            peer, _ = self._sock.accept()
            peer.setblocking(False)
            self._ask(partial(self._answer, peer))

    def _answer(self, peer: socket.socket, document: dict[str, Any]) -> None:
        left = memoryview(json.dumps(document).encode() + b"\n")

        def write(fd: int, events: int) -> None:
            nonlocal left
            try:
                left = left[peer.send(left) :]
            except BlockingIOError:
                return
            except OSError:
                left = left[:0]  # it does not want to know any more
            if not left:
                self._loop.remove_handler(fd)
                peer.close()

        self._loop.add_handler(peer.fileno(), write, self._loop.WRITE)


def _bound(path: Path, group: int | None) -> socket.socket:
    """A listening socket at `path`; takes over what a dead pool left, raises `DaemonError` where one lives."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if path.is_socket():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(ConnectionRefusedError):
                probe.connect(str(path))
                raise DaemonError(f"{path}: another taskqueue-workerpool is running")
            path.unlink()
        before = os.umask(0o117)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        if group is not None:
            os.chown(path, -1, group)
    except OSError as error:
        sock.close()
        raise DaemonError(f"{path}: cannot make the status socket: {error.strerror or error}") from None
    except DaemonError:
        sock.close()
        raise
    return sock
