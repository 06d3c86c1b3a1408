"""The second act of the demo: a thousand tasks over HTTP, in every shape, while their front is killed.

A `Target` is the web daemon that gets the tasks: it answers 503 now and then, so that there is something to retry. An
`Enqueuer` sends tasks as a careful client does: each with an Idempotency-Key, again and again until it is answered. Of
each answer 2xx the id is written down; at the end each of these ids must have come to the target. Both are plain
`http.server` and `http.client`: any web daemon and any HTTP client will do.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, urlencode

CLIENTS = 6
BATCH = 10
PATIENCE_S = 30.0
RATE, BURST, STEADY = 50, 10, 100
"""Tasks a second of the queue `steady`, those that it may start at once, and how many it gets."""


class Target:
    """A web daemon on a port of its own, in threads; every tenth request is answered 503."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        """Requests that were answered 200, by the task's id."""
        self.refused = 0
        self.steady: list[float] = []
        """When each first request of a task of the queue `steady` came, on the monotonic clock."""
        self._count = 0
        self._lock = threading.Lock()
        target = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 8192  # an answer leaves in one packet

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                first = self.headers["X-Task-Attempt"] == "1"
                status = target.note(self.headers["X-Task-Id"], steady=first and self.headers["X-Queue"] == "steady")
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Says nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/worker"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def note(self, task_id: str, *, steady: bool) -> int:
        """A request came; gives the status of its answer."""
        with self._lock:
            self._count += 1
            if steady:
                self.steady.append(time.monotonic())
            if self._count % 10 == 0:
                self.refused += 1
                return 503
            self.answered[task_id] += 1
            return 200

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


Request = tuple[str, bytes, dict[str, str]]
"""(path, body, headers)."""


def requests(count: int, url: str) -> Iterator[Request]:
    """Requests that enqueue `count` tasks for `url` or for the plugin `primes`, in all shapes by turns."""
    made = 0
    while made < count - STEADY:
        for request, tasks in _shapes(made, url):
            yield request
            made += tasks
    for _ in range(count - made):
        yield _json("/v1/queues/steady/tasks", {"url": url})


def _shapes(number: int, url: str) -> Sequence[tuple[Request, int]]:
    form = urlencode({"task.url": url, "number": number}).encode()
    return (
        (("/demo", form, {"Content-Type": "application/x-www-form-urlencoded"}), 1),
        (_json("/demo", {"url": url, "params": {"number": number}}), 1),
        (_json("/v1/queues/demo/tasks", {"url": url, "json": {"number": number}, "delay": "200ms"}), 1),
        ((f"/v1/queues/demo/tasks?url={quote(url, safe='')}", b"\0any bytes\xff", {"Content-Type": "image/png"}), 1),
        (_json("/v1/queues/demo/tasks", {"worker_type": "primes", "body": str(number + 2)}), 1),
        (_json("/v1/queues/demo/tasks:batch", [
            {"url": url, "json": {"number": number + more}, "idempotency_key": f"{number}-{more}"}
            for more in range(BATCH)
        ]), BATCH),
    )  # fmt: skip


def _json(path: str, document: Any) -> Request:
    return path, json.dumps(document).encode(), {"Content-Type": "application/json"}


class Enqueuer:
    """Sends requests to the front at `port`, from several threads, and keeps the account."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.ids: list[str] = []
        """Of each task that was answered 2xx."""
        self.again = 0
        """How often a request was sent again, since it had no answer."""
        self.failed: list[str] = []
        self._lock = threading.Lock()

    def send(self, all_requests: Iterator[Request], progress: Callable[[int], None]) -> None:
        """Send all; returns when each is answered. `progress(tasks)` is called from time to time, in this thread."""
        numbered = enumerate(all_requests)
        threads = [threading.Thread(target=self._client, args=(numbered,), daemon=True) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.02)
                progress(len(self.ids))

    def _client(self, numbered: Iterator[tuple[int, Request]]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        while True:
            with self._lock:
                number, request = next(numbered, (-1, None))
            if request is None:
                break
            self._until_answered(connection, number, request)
        connection.close()

    def _until_answered(self, connection: http.client.HTTPConnection, number: int, request: Request) -> None:
        path, body, headers = request
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                connection.request("POST", path, body, {**headers, "Idempotency-Key": f"demo-{number}"})
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException):  # the front is gone: nobody knows whether it took the task
                connection.close()
                answer = None
            if answer is not None and answer.status < 300:
                with self._lock:
                    self.ids += _ids(json.loads(text))
                return
            if answer is not None and answer.status < 500:
                break
            self.again += 1
            time.sleep(0.05)
        self.failed.append(f"{path}: {'no answer' if answer is None else text[:200].decode('utf-8', 'replace')}")


def _ids(document: dict[str, Any]) -> list[str]:
    if "results" in document:
        return [each["task"]["id"] for each in document["results"]]
    return [document["id"]]


class Front:
    """Asks a front."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str) -> Any:
        """The document at `path`; None where the front does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def ready(self) -> bool | None:
        """True once it takes tasks and has its broker, None before."""
        found = self.get("/health/ready")
        return True if found and found["book"] == found["broker"] == "up" else None

    def unfinished(self) -> int:
        """How many tasks have not ended."""
        queues = self.get("/v1/queues") or {"queues": [{"tasks": {"ready": 1}}]}
        states = ("ready", "scheduled", "running", "retrying")
        return sum(queue["tasks"].get(state, 0) for queue in queues["queues"] for state in states)

    def state(self, task_id: str) -> str:
        """The state of a task."""
        return str((self.get(f"/v1/tasks/{task_id}") or {}).get("state"))


def measured_rate(at: Sequence[float]) -> float:
    """Requests a second, of those after the first burst."""
    later = sorted(at)[BURST:]
    return (len(later) - 1) / max(later[-1] - later[0], 1e-9) if len(later) > 1 else 0.0
