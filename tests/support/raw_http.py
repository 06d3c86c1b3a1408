"""An HTTP server for tests that says exactly the bytes it is told to, and keeps exactly the bytes that it got.

    with RawServer(lambda request: answer(200, b"ok")) as server:
        …                       # server.url("/x"); server.requests[0].head; server.connections

It runs in a thread with an event loop of its own. A handler gets a `Request`, and returns bytes or is an async
generator of bytes; after `CLOSE` the connection is closed.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Self

CLOSE = b"\0close"
"""A handler's word for: close the connection now."""


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    head: bytes
    """From the method to before the empty line."""
    body: bytes
    connection: int
    """The number of the connection that it came on, from 1."""

    @property
    def lines(self) -> list[str]:
        return self.head.decode("latin-1").split("\r\n")

    @property
    def headers(self) -> list[tuple[str, str]]:
        pairs = (line.partition(": ") for line in self.lines[1:])
        return [(name, value) for name, _, value in pairs]

    def value(self, name: str) -> str | None:
        """Of the header with exactly this name."""
        return dict(self.headers).get(name)


Handler = Callable[[Request], "bytes | AsyncIterator[bytes]"]


def answer(status: int, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """An answer's bytes; `length`: of a Content-Length that lies."""
    lines = [f"HTTP/1.1 {status} X", *headers, f"Content-Length: {len(body) if length is None else length}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class RawServer:
    """One listening socket on loopback."""

    def __init__(self, handler: Handler, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._handler, self._host, self._tls = handler, host, tls
        self.requests: list[Request] = []
        self.connections = 0
        self.written = 0
        """Bytes of answers that a connection took."""

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *raised: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def url(self, path: str = "/", *, host: str | None = None) -> str:
        """A URL of this server; `host` as it is to be written."""
        return f"http{'s' if self._tls else ''}://{host or self._host}:{self.port}{path}"

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        server = await asyncio.start_server(self._connected, self._host, 0, ssl=self._tls, backlog=300)
        self.port: int = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._talk(reader, writer, self.connections)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other end has gone
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
            lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            body = await reader.readexactly(int(lengths[0])) if lengths else b""
            request = Request(head, body, connection)
            self.requests.append(request)
            said = self._handler(request)
            if isinstance(said, bytes):
                said = _once(said)
            async for chunk in said:
                if chunk == CLOSE:
                    return
                writer.write(chunk)
                await writer.drain()
                self.written += len(chunk)


async def _once(said: bytes) -> AsyncIterator[bytes]:
    whole, close, _ = said.partition(CLOSE)
    yield whole
    if close:
        yield CLOSE
