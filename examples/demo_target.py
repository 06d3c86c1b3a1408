"""The target of the demonstration's tasks: a small web daemon that fails now and then, and notes what comes.

`POST /hook/46`, with the header `X-Task-Attempt: 1`, is answered 503, for 46 is a multiple of 23. It comes again as
attempt 2, and is answered 204. Everything else is answered 204 at once.
"""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self

ONE_IN = 23
"""Of so many tasks, one fails at first."""


class Arrived(NamedTuple):
    """A request that came, and what it was answered."""

    at: float
    """Seconds, by a clock that only goes forward."""
    task_id: str
    queue: str
    status: int


class Target:
    """Listens on a free port of 127.0.0.1, in a thread for each connection."""

    def __init__(self) -> None:
        self.arrived: list[Arrived] = []
        """Every request, in order."""
        self.done: set[str] = set()
        """The ids of the tasks that were answered 2xx."""
        self._noting = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Of its root, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _note(self, request: Arrived) -> None:
        with self._noting:
            self.arrived.append(request)
            if request.status < 300:
                self.done.add(request.task_id)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        note = self._note

        class Hook(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                at = time.monotonic()
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                number = int(self.path.rpartition("/")[2])
                fails = number % ONE_IN == 0 and self.headers["X-Task-Attempt"] == "1"
                status = 503 if fails else 204
                note(Arrived(at, self.headers["X-Task-Id"], self.headers["X-Queue"], status))
                self.send_response(status)
                if fails:
                    self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Says nothing."""

        return Hook


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
