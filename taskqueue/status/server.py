"""The status socket: each connection gets the status document of the pool, as one line of JSON, and is closed.

1. `taskqueue status` connects to `/run/taskqueue/workerpool.sock`.
2. The server accepts, and asks the pool for the document: `ask(answer)`.
3. The pool calls `answer(document)`, at once or when its listeners have reported.
4. The server writes the document and closes the connection; a reader that is too slow is cut off.

Nothing that a reader sends is read: the socket takes no orders. Any process of the group `taskqueue` may connect, so a
reader must never cost the pool more than a descriptor for some seconds.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from taskqueue.errors import DaemonError
from taskqueue.foundation.contained_loop import EventLoop

log = logging.getLogger(__name__)

Answer = Callable[[dict[str, Any]], None]

_PAUSE_S = 1.0
"""Seconds without accepting after accept(2) failed: the waiting connection would wake the loop in each turn."""
_READER_S = 10.0
"""Seconds that a reader may take for the document. The client gives up after five."""


class StatusSocket:
    """Listens on `path` (mode 0660). `ask(answer)` is called for each connection; `answer(document)` sends it."""

    def __init__(self, loop: EventLoop, path: Path, group: int | None, ask: Callable[[Answer], None]) -> None:
        self.path = path
        self._loop = loop
        self._ask = ask
        self._sock = _listening(path, group)
        self._resume()

    def close(self) -> None:
        """Remove the socket."""
        self._loop.remove_handler(self._sock.fileno())
        self._sock.close()
        self.path.unlink(missing_ok=True)

    def _resume(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_handler(self._sock.fileno(), self._on_connect, self._loop.READ)

    def _on_connect(self, fd: int, events: int) -> None:
        try:
            peer, _ = self._sock.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # EMFILE, ENFILE: this process, or the host, has no descriptor left
            log.warning("status not answered: reason=%s next_try_in=%.1fs", error.strerror, _PAUSE_S)
            self._loop.remove_handler(fd)
            self._loop.call_later(_PAUSE_S, self._resume)
            return
        with _contained(peer):
            peer.setblocking(False)
            self._ask(partial(self._answer, peer))

    def _answer(self, peer: socket.socket, document: dict[str, Any]) -> None:
        with _contained(peer):
            left = memoryview(json.dumps(document).encode() + b"\n")

            def write(fd: int, events: int) -> None:
                nonlocal left
                try:
                    left = left[peer.send(left) :]
                except BlockingIOError:
                    return
                except OSError:
                    left = left[:0]  # the reader has gone
                if not left:
                    end()

            def end() -> None:
                deadline.cancel()
                self._loop.remove_handler(peer.fileno())
                peer.close()

            deadline = self._loop.call_later(_READER_S, end)
            self._loop.add_handler(peer.fileno(), write, self._loop.WRITE)


@contextmanager
def _contained(peer: socket.socket) -> Iterator[None]:
    """Run the body for `peer`: an error that nobody expected costs `peer` its answer, and the pool nothing."""
    try:
        yield
    except Exception:
        log.exception("status not answered: unexpected error")
        peer.close()


def _listening(path: Path, group: int | None) -> socket.socket:
    """A socket that listens on `path`, in place of one that a dead pool left; raises `DaemonError` where a pool lives.

    It gets its name last: whoever finds a socket at `path` can connect, and is in the right unix group. The name before
    that is no longer than the last one, as unix(7) allows 107 bytes.
    """
    unnamed = path.with_suffix(".new")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if path.is_socket():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(ConnectionRefusedError):
                probe.connect(str(path))
                raise DaemonError(f"{path}: another taskqueue-workerpool is running")
        unnamed.unlink(missing_ok=True)
        before = os.umask(0o117)
        try:
            sock.bind(str(unnamed))
        finally:
            os.umask(before)
        if group is not None:
            os.chown(unnamed, -1, group)
        sock.setblocking(False)
        sock.listen(128)
        unnamed.rename(path)
    except OSError as error:
        sock.close()
        raise DaemonError(f"{path}: cannot make the status socket: {error.strerror or error}") from None
    except DaemonError:
        sock.close()
        raise
    return sock
