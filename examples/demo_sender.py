"""A client of the front, as a program that means it writes one: plain `http.client`, and every task exactly once.

1. `send([Task(7, "JSON")])` posts `{"url": "http://127.0.0.1:40123/hook/7", …}` with `Idempotency-Key: demo-7`.
2. The connection breaks, or the answer is 503. The client cannot know whether the task was stored.
3. It sends the same again, with the same key, until it is answered 2xx. The front gives the first task's id, if there
   is one: `answered[7]`.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import quote, urlencode

from demo_screen import DemoError

CONNECTIONS = 8
BATCH = 25
TRY_AGAIN = (409, 429, 500, 502, 503, 504)
"""Answers after which the same request may have another one: 409 is "the first one of this key is under way"."""
PAUSE_S = 0.05
ANSWER_S = 10.0
"""Seconds that an answer may take."""
LARGE = 1_000_003
"""A prime: what the plugin `primes` has to find the factors of is a multiple."""


class Task(NamedTuple):
    """A task to send: its number, and the shape in which it is sent."""

    number: int
    shape: str

    @property
    def key(self) -> str:
        """The same each time that it is sent."""
        return f"demo-{self.number}"

    @property
    def to_factor(self) -> int:
        """What the plugin gets."""
        return self.number * LARGE


class Request(NamedTuple):
    """What goes to the front, for one task or for a batch of them."""

    tasks: list[Task]
    path: str
    headers: dict[str, str]
    body: str


class Sender:
    """Sends tasks to the front on `port`, whose target is at `url`."""

    def __init__(self, port: int, url: str) -> None:
        self.answered: dict[int, str] = {}
        """Of each task that was answered 2xx, by its number, the id."""
        self.again = 0
        """How many requests were sent again."""
        self._port = port
        self._url = url
        self._todo: SimpleQueue[Request] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._counting = threading.Lock()
        self._stopping = threading.Event()
        self._fault = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()

    # -- for the one who plays

    def send(self, tasks: Iterable[Task]) -> None:
        """Send them one after the other; returns when each was answered 2xx."""
        link = self._link()
        for request in self._requests(tasks):
            self._send(link, request)
        link.close()

    def start(self, tasks: Iterable[Task]) -> None:
        """Begin to send them, over several connections at once."""
        for request in self._requests(tasks):
            self._todo.put(request)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(CONNECTIONS)]
        for thread in self._threads:
            thread.start()

    @property
    def busy(self) -> bool:
        """Whether there are tasks that were not answered 2xx yet."""
        return any(thread.is_alive() for thread in self._threads)

    def check(self) -> None:
        """Raise `DemoError` where the front has refused a task."""
        if self._fault:
            raise DemoError(self._fault)

    def factors(self, task_id: str) -> list[int]:
        """What the plugin `primes` has found, or will within ten seconds; 0 where it has not."""
        link = self._link(2 * ANSWER_S)
        link.request("GET", f"/v1/tasks/{task_id}", headers={"Prefer": "wait=10"})
        document = json.loads(link.getresponse().read())
        link.close()
        result = document.get("result") or {}
        found: list[int] = result.get("value", {}).get("factors", [0])
        return found

    def said(self, task: Task) -> str:
        """What is sent of it, for a person."""
        [request] = self._requests([task])
        match task.shape:
            case "Miyamoto":
                return f"/orders: task.url=…/{task.number}&task.countdown=0.5&number={task.number}"
            case "raw":
                return f"…/default/tasks?url=…/{task.number}: {request.body!r}"
            case "batch":
                return f"…/default/tasks:batch: a line of JSON each, {BATCH} at once"
            case _:
                return f"…{request.path[10:]}: {request.body.replace(f'{self._url}/hook', '…')}"

    # -- the requests

    def _requests(self, tasks: Iterable[Task]) -> Iterable[Request]:
        batch: list[Task] = []
        for task in tasks:
            if task.shape == "batch":
                batch.append(task)
            else:
                yield self._request(task)
            if len(batch) == BATCH:
                yield self._batch(batch)
                batch = []
        if batch:
            yield self._batch(batch)

    def _request(self, task: Task) -> Request:
        url = self._hook(task)
        path, content_type = "/v1/queues/default/tasks", "application/json"
        match task.shape:
            case "Miyamoto":  # its queue is made by the first task
                path, content_type = "/orders", "application/x-www-form-urlencoded"
                body = urlencode({"task.url": url, "task.countdown": 0.5, "number": task.number})
            case "raw":  # any body goes on as it is
                path, content_type = f"{path}?url={quote(url, safe='')}", "text/plain"
                body = f"number {task.number}"
            case "worker type":
                body = json.dumps({"worker_type": "primes", "body": str(task.to_factor)})
            case "rate limited":
                path = "/v1/queues/steady/tasks"
                body = json.dumps({"url": url})
            case _:
                body = json.dumps({"url": url, "json": {"number": task.number}})
        return Request([task], path, {"Content-Type": content_type, "Idempotency-Key": task.key}, body)

    def _batch(self, tasks: list[Task]) -> Request:
        """One request for many; each has a key of its own."""
        lines = [json.dumps({"url": self._hook(task), "idempotency_key": task.key}) for task in tasks]
        headers = {"Content-Type": "application/x-ndjson"}
        return Request(tasks, "/v1/queues/default/tasks:batch", headers, "\n".join(lines))

    def _hook(self, task: Task) -> str:
        return f"{self._url}/hook/{task.number}"

    # -- the connections

    def _link(self, timeout_s: float = ANSWER_S) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_s)

    def _work(self) -> None:
        """One connection's thread: send, until nothing is left."""
        link = self._link()
        try:
            while not self._stopping.is_set():
                self._send(link, self._todo.get_nowait())
        except Empty:
            pass
        except DemoError as error:
            self._fault = str(error)
        finally:
            link.close()

    def _send(self, link: http.client.HTTPConnection, request: Request) -> None:
        """Send it until it is answered 2xx."""
        while not self._stopping.is_set():
            if ids := self._ids(link, request):
                self.answered.update(zip((task.number for task in request.tasks), ids, strict=True))
                return
            with self._counting:
                self.again += 1
            self._stopping.wait(PAUSE_S)

    def _ids(self, link: http.client.HTTPConnection, request: Request) -> list[str]:
        """Send it once; gives the ids of its tasks, or nothing where it has to be sent again."""
        try:
            link.request("POST", request.path, request.body, request.headers)
            answer = link.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            link.close()  # the next request opens it anew
            return []
        if answer.status in TRY_AGAIN:
            return []
        if not 200 <= answer.status < 300:
            raise DemoError(f"the front answered {answer.status} to POST {request.path}: {body!r:.300}")
        document = json.loads(body)
        results = document.get("results", [{"status": answer.status, "task": document}])
        if any(result["status"] in TRY_AGAIN for result in results):
            return []  # those that were stored have their keys
        return [result["task"]["id"] for result in results]
