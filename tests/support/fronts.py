"""A front inside a test, on a port of its own, and a client of it that says what was sent and what came back."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from taskqueue.config.http_settings import HttpSettings
from taskqueue.config.load import URL_VARIABLE, load
from taskqueue.http.front import Front
from taskqueue.http.listening import close_sockets, open_sockets

NO_BROKER = "amqp://guest:guest@127.0.0.1:1/"


@dataclass
class Reply:
    """An answer."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Client:
    """Sends requests to one front."""

    def __init__(self, session: aiohttp.ClientSession, url: str, front: Front) -> None:
        self.session = session
        self.url = url
        self.front = front

    async def ask(self, method: str, path: str, *, json_body: Any = None, **keywords: Any) -> Reply:
        """One request."""
        if json_body is not None:
            keywords["data"] = json.dumps(json_body).encode()
            keywords["headers"] = {"Content-Type": "application/json", **keywords.get("headers", {})}
        async with self.session.request(method, self.url + path, **keywords) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def get(self, path: str, **keywords: Any) -> Reply:
        """GET."""
        return await self.ask("GET", path, **keywords)

    async def post(self, path: str, json_body: Any = None, **keywords: Any) -> Reply:
        """POST, with JSON where it is given."""
        return await self.ask("POST", path, json_body=json_body, **keywords)

    async def add(self, queue: str = "default", **fields: Any) -> Any:
        """A task that must be taken; gives its document."""
        reply = await self.post(f"/v1/queues/{queue}/tasks", {"url": "http://127.0.0.1:9/", **fields})
        assert reply.status == 201, reply.body
        return reply.json

    async def ended(self, task_id: str, wait_s: int = 20) -> Any:
        """The document of a task, once it has ended."""
        reply = await self.get(f"/v1/tasks/{task_id}", headers={"Prefer": f"wait={wait_s}"})
        assert reply.status == 200, reply.body
        return reply.json


@asynccontextmanager
async def front(book: str, amqp_url: str = NO_BROKER, **settings: Any) -> AsyncIterator[Client]:
    """A front on `book`, and a client; `settings` are fields of `HttpSettings`."""
    made = HttpSettings(book=book, listen=("127.0.0.1:0",))
    made = replace(made, **settings)
    sockets = open_sockets(made.listen)
    running = Front(made, load(environ={URL_VARIABLE: amqp_url}).amqp, sockets)
    try:
        await running.start()
        tcp = next(sock for sock in sockets if sock.family == socket.AF_INET)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield Client(session, f"http://127.0.0.1:{tcp.getsockname()[1]}", running)
        async with asyncio.timeout(20):
            await running.stop(5.0)
    finally:
        close_sockets(sockets)
