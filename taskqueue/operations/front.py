"""Asks a front: one request of its `/v1` after another, over TCP or a unix socket. Nothing here needs a terminal.

    with Front("unix:/run/taskqueue/http.sock") as front:
        front.get("/v1/queues")                       {"queues": […]}
        front.post("/v1/queues/emails:pause")

What a front refuses is a `FrontRefused`, in the words of its problem document. The token is sent, and never shown.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from taskqueue.errors import FrontRefused, FrontUnavailable

_TIMEOUT_S = 30.0
Query = Mapping[str, Any]


class Front:
    """A front at `url`: `http://host:port`, `https://…`, or `unix:/path`. `wait_s`: for an answer, at most."""

    def __init__(self, url: str, token: str | None = None, *, wait_s: float = _TIMEOUT_S) -> None:
        self.url = url
        self._token = token
        self._wait_s = wait_s
        self._connection, self._root = _connection(url, wait_s)

    def __enter__(self) -> Front:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def get(self, path: str, query: Query | None = None, *, headers: Mapping[str, str] | None = None) -> Any:
        """The document at `path`. Raises `FrontRefused` and `FrontUnavailable`."""
        return self.ask("GET", path, query, headers=headers)

    def post(
        self, path: str, body: Any = None, query: Query | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Post `body` as JSON; gives the answer's document."""
        return self.ask("POST", path, query, body=body, headers=headers)

    def ask(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """One request; gives the document of the answer, None where it has none."""
        given = {key: value for key, value in (query or {}).items() if value not in (None, "", [], ())}
        target = self._root + path + (f"?{urlencode(given, doseq=True)}" if given else "")
        sent = {"Accept": "application/json", **(headers or {})}
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        try:
            self._connection.request(method, target, data, sent)
            answer = self._connection.getresponse()
            text = answer.read()
        except ssl.SSLError as error:
            raise FrontUnavailable(f"front {self.url}: TLS: {error.reason or error}") from None
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise FrontUnavailable(f"front {self.url}: {reason}; is taskqueue-http running there?") from None
        document = _document(text)
        if answer.status >= 400:
            raise FrontRefused(answer.status, _reason(document, answer.status, answer.reason))
        return document

    def all(
        self, path: str, key: str, query: Query | None = None, limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every entry of a list, page by page, `limit` at most."""
        left = limit
        cursor: str | None = None
        while left is None or left > 0:
            size = 1000 if left is None else min(left, 1000)
            page = self.get(path, {**(query or {}), "limit": size, "cursor": cursor})
            yield from page[key]
            if left is not None:
                left -= len(page[key])
            cursor = page.get("next")
            if cursor is None:
                return


def part(text: str) -> str:
    """`text` as a part of a path."""
    return quote(text, safe="")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(url: str, timeout_s: float) -> tuple[http.client.HTTPConnection, str]:
    """(a connection that is not open yet, what stands before every path)."""
    if url.startswith("unix:"):
        return _UnixConnection(url.removeprefix("unix:"), timeout_s), ""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in {"http", "https"} or not host:
        raise FrontUnavailable(f"front {url!r}: expected http://host:port, https://host or unix:/path")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=timeout_s), parts.path.rstrip("/")


def _document(text: bytes) -> Any:
    try:
        return json.loads(text) if text.strip() else None
    except ValueError:
        return None


def _reason(document: Any, status: int, reason: str) -> str:
    if isinstance(document, dict) and isinstance(document.get("detail"), str):
        return str(document["detail"])
    return f"{status} {reason}; expected a taskqueue front"
