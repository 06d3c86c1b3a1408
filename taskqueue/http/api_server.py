"""The server: takes connections, reads a request whole and within its bounds, and sends what an endpoint answers.

1. aiohttp parses a request line and headers: 8 KiB and 64 KiB at most, else it says 400 or 431 and closes.
2. `gate` and tokens decide whether this client may ask at all, before a byte of the body is read.
3. The body is read, `max_body` at most, with a deadline. A body that is announced as too large is not read.
4. The route's endpoint answers. A `Problem`, wherever it was raised, becomes its document.
5. An error that nobody expected is logged with its traceback, and answered 500: the front goes on.

aiohttp's low-level server is used: it costs half of `web.Application`, and the routes are one table anyway
(`api.routes`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from taskqueue import __version__
from taskqueue.config.http_settings import HttpSettings
from taskqueue.errors import BookUnavailable, Collision, CommitInDoubt
from taskqueue.http.access import Access
from taskqueue.http.api.problems import Problem
from taskqueue.http.api.problems import document as problem_document
from taskqueue.http.api.routes import match
from taskqueue.http.desk import Desk
from taskqueue.http.endpoints.table import ENDPOINTS, body_limit
from taskqueue.http.exchange import Answer, Question
from taskqueue.http.tls import server_context

log = logging.getLogger(__name__)

_BODY_S = 30.0
"""Seconds that a client may take for its body."""
_KEEP_ALIVE_S = 75.0
_CONNECTIONS = 1_024
"""Connections at once; beyond that, a new one is closed at once."""
_RETRY_AFTER = {"Retry-After": "1"}


class ApiServer:
    """Serves one front on its listening sockets."""

    def __init__(self, desk: Desk, access: Access, settings: HttpSettings) -> None:
        self._desk, self._access, self._settings = desk, access, settings
        self._server = web.Server(
            self._handle,
            keepalive_timeout=_KEEP_ALIVE_S,
            access_log=None,
            max_line_size=8 * 1024,
            max_field_size=16 * 1024,
        )
        self._listeners: list[asyncio.Server] = []
        self._stopping = False

    async def start(self, sockets: list[socket.socket]) -> None:
        """Accept on `sockets`, which listen already. Raises `DaemonError` for certificates that cannot be used."""
        loop = asyncio.get_running_loop()
        tls = server_context(self._settings)
        for sock in sockets:
            if sock.family == socket.AF_UNIX:
                self._listeners.append(await loop.create_unix_server(self._protocol, sock=sock))
            else:
                self._listeners.append(await loop.create_server(self._protocol, sock=sock, ssl=tls))

    def configure(self, settings: HttpSettings) -> None:
        """The config was loaded anew."""
        self._settings = settings
        self._desk.configure(settings)
        self._access.configure(settings)

    async def stop(self, patience_s: float) -> None:
        """Accept nothing more, answer what was asked, close all connections."""
        self._stopping = True
        for listener in self._listeners:
            listener.close()
        for connection in self._server.connections:
            connection.close()  # the idle ones at once: else they are waited for
        await self._server.shutdown(patience_s)

    def _protocol(self) -> Any:
        if len(self._server.connections) >= _CONNECTIONS:
            return _Closed()
        return self._server()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            answer = await self._answer(request)
        except Problem as problem:
            answer = self._problem(problem, request)
        except BookUnavailable as error:
            answer = self._problem(Problem("book-unavailable", str(error), headers=_RETRY_AFTER), request)
        except (CommitInDoubt, Collision) as error:
            answer = self._problem(Problem("unknown-outcome", str(error), headers=_RETRY_AFTER), request)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            log.exception("request not answered: method=%s path=%.200s unexpected error", request.method, request.path)
            answer = self._problem(Problem("internal"), request)
        headers = answer.headers
        if answer.content_type is not None:
            headers.setdefault("Content-Type", answer.content_type)
        headers.setdefault("Server", f"taskqueue/{__version__}")
        response = web.Response(status=answer.status, body=answer.body, headers=headers)
        if self._stopping:
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> Answer:
        path, _, query = request.path_qs.partition("?")
        root = self._settings.base_path
        if root:
            if not path.startswith(root + "/"):
                raise Problem("unknown-route", f"Every path of this front begins with {root}/.")
            path = path[len(root) :]
        route, parameters = match(request.method, path)
        who = self._access.check(request, route.scope.value, parameters.get("queue"))
        limit = body_limit(route.name, self._settings)
        body = await _read(request, limit) if request.can_read_body else b""
        question = Question(request.method, path, query, request.headers, body, who, parameters, root)
        return await ENDPOINTS[route.name](self._desk, question)

    def _problem(self, problem: Problem, request: web.BaseRequest) -> Answer:
        path = request.path_qs.partition("?")[0]
        status, headers, body = problem_document(problem, path, self._settings.base_path)
        if problem.slug in {"too-large", "unauthorized", "forbidden", "exposed-without-tokens", "forbidden-origin"}:
            headers["Connection"] = "close"  # its body, if it has one, is not read
        return Answer(status, body, headers)


async def _read(request: web.BaseRequest, limit: int) -> bytes:
    """The body of a request, `limit` bytes at most. Raises `Problem`."""
    too_large = f"The body is larger than the {limit} bytes that are taken here."
    if request.content_length is not None and request.content_length > limit:
        raise Problem("too-large", too_large)
    if request.headers.get("Expect", "").lower() == "100-continue":
        transport = request.transport
        if transport is not None:
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.content.iter_any():
                size += len(chunk)
                if size > limit:
                    raise Problem("too-large", too_large)
                chunks.append(chunk)
    except TimeoutError:
        raise Problem("too-slow", f"The body did not come within {_BODY_S:g} seconds.") from None
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise Problem("malformed-request", f"The body is not well formed: {error}") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class _Closed(asyncio.Protocol):
    """A connection beyond the limit: said in one line, and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        transport.close()
