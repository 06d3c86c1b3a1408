"""A web daemon of a test: notes every request, and answers as the test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass(frozen=True)
class Arrived:
    """A request that came."""

    at: float
    """Unix time."""
    method: str
    path: str
    headers: dict[str, str]
    """Names as they came."""
    body: bytes

    @property
    def task_id(self) -> str:
        """The id of its task."""
        return self.headers["X-Task-Id"]


Answer = tuple[int, dict[str, str], bytes]


class Target:
    """Listens on `port` of 127.0.0.1. `answer(request)` gives (status, headers, body)."""

    def __init__(self, answer: Callable[[Arrived], Answer] | None = None, port: int = 0) -> None:
        self.arrived: list[Arrived] = []
        self.answer = answer or (lambda request: (200, {}, b"ok"))
        self._lock = threading.Lock()
        target = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Arrived(time.time(), self.command, self.path, dict(self.headers.items()), body)
                with target._lock:
                    target.arrived.append(request)
                status, headers, answer = target.answer(request)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _any

            def log_message(self, *arguments: object) -> None:
                """Says nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

        self._server = Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Of its root, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def ids(self) -> list[str]:
        """The task id of each request, in order."""
        return [request.task_id for request in self.arrived]

    def __enter__(self) -> Target:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
