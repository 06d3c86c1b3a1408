"""Asks a front: one request of its `/v1` after another, over TCP or a unix socket. Nothing here needs a terminal.

    with Front("unix:/run/taskqueue/http.sock") as front:
        front.get("/v1/queues")                       {"queues": […]}
        front.post("/v1/queues/emails:pause")

1. Nobody listens there, or what answers is no front: `FrontUnavailable`, with a line that says what to do.
2. The front says no: `FrontRefused`, in the words of its problem document.

The token is sent, and never shown.
"""

from __future__ import annotations

import errno
import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote, urlencode, urlsplit

from taskqueue.errors import FrontRefused, FrontUnavailable

_TIMEOUT_S = 30.0
_CONNECT_S = 5.0
"""Seconds to wait for a connection; a host that drops packets is told soon."""
_IDLE_S = 20.0
"""Seconds after which a connection is not used again: the front, or a proxy, may have closed it."""
TOKEN_VARIABLE = "TASKQUEUE_HTTP_TOKEN"
"""Where the token is; on the command line it would be in `ps`."""
_ADVICE = {
    "unknown-task": "taskqueue tasks list shows those that there are",
    "unknown-queue": "taskqueue queues list shows all",
    "forbidden": "taskqueue http token add NAME --scope … makes one that has it",
}
"""What to do, by the type of a problem."""

Query = Mapping[str, Any]


class _Document(dict[str, Any]):
    """A document of a front: a key that it lacks is no defect of ours, it comes from something else."""

    def __missing__(self, key: str) -> Any:
        raise FrontUnavailable(f"the answer has no {key!r}: what answered is no taskqueue front of this version")


class Front:
    """A front at `url`: `http://host:port`, `https://…`, or `unix:/path`. `root` is its `base_path`, where `url` cannot
    have one. `certificate`: the file of the one certificate that it must show, whatever name is in it. `wait_s`: for an
    answer, at most. Raises `FrontUnavailable` for a `url` that is none."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        root: str = "",
        certificate: str | None = None,
        wait_s: float = _TIMEOUT_S,
    ) -> None:
        self._token = token
        self._certificate = certificate
        self._wait_s = wait_s
        self._connection, path = _connection(url, certificate)
        self.url = url if url.startswith("unix:") or "://" in url else f"http://{url}"
        self._root = path or root
        self._used = 0.0

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
        status, document, reason = self.answer(method, path, query, body=body, headers=headers)
        if status < 300:
            return document
        if status < 400:
            raise FrontUnavailable(f"front {self.url}: it sends to another address ({status}); name that one")
        line = self._refusal(status, document, reason)
        if status in {401, 502, 503, 504}:
            raise FrontUnavailable(f"front {self.url}: {line}")
        raise FrontRefused(status, line)

    def answer(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any, str]:
        """One request; gives (status, the document or None, HTTP's reason). Raises `FrontUnavailable`."""
        given = {key: value for key, value in (query or {}).items() if value not in (None, "", [], ())}
        target = self._root + path + (f"?{urlencode(given, doseq=True)}" if given else "")
        sent = {"Accept": "application/json", **(headers or {})}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        try:
            if self._token is not None:
                sent["Authorization"] = f"Bearer {_ascii(self._token)}"
            self._open()
            self._connection.request(method, target, data, sent)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise FrontUnavailable(f"front {self.url}: {_trouble(error, tls=self.url.startswith('https:'))}") from None
        self._used = time.monotonic()
        document = _document(text)
        if answer.status < 300 and text.strip() and document is None:
            raise FrontUnavailable(f"front {self.url}: what answers there is no taskqueue front; is the port right?")
        return answer.status, document, answer.reason

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

    def _open(self) -> None:
        if self._connection.sock is not None and time.monotonic() - self._used > _IDLE_S:
            self._connection.close()
        if self._connection.sock is None:
            self._connection.timeout = _CONNECT_S
            self._connection.connect()
            opened = cast(socket.socket, self._connection.sock)
            opened.settimeout(self._wait_s)
            if isinstance(opened, ssl.SSLSocket) and self._certificate is not None:
                self._require(opened, self._certificate)

    def _require(self, opened: ssl.SSLSocket, certificate: str) -> None:
        """Nothing is sent to a server that shows another certificate than the file has."""
        try:
            _, _, rest = Path(certificate).read_text("ascii", "replace").partition(ssl.PEM_HEADER)
            wanted = ssl.PEM_cert_to_DER_cert(ssl.PEM_HEADER + rest.partition(ssl.PEM_FOOTER)[0] + ssl.PEM_FOOTER)
        except (OSError, ValueError) as error:
            raise FrontUnavailable(f"front {self.url}: [http] tls_cert {certificate}: {error}") from None
        if opened.getpeercert(binary_form=True) != wanted:
            raise FrontUnavailable(f"front {self.url}: it shows another certificate than {certificate}; restart it")

    def _refusal(self, status: int, document: Any, reason: str) -> str:
        """What the front said, without its JSON pointers, and what to do."""
        if status == 401:
            if self._token is None:
                return f"it wants a token: put one into {TOKEN_VARIABLE} (taskqueue http token add NAME makes one)"
            return (
                f"the token of {TOKEN_VARIABLE} is not known there, or has expired (taskqueue http token list); a new "
                "one is known after two seconds"
            )
        if not isinstance(document, dict) or not isinstance(document.get("detail"), str):
            return f"{status} {reason}; expected a taskqueue front"
        faults = document.get("errors")
        if isinstance(faults, list) and faults and all(isinstance(each, dict) for each in faults):
            return "; ".join(_fault(each) for each in faults)
        detail = str(document["detail"])
        advice = _ADVICE.get(str(document.get("type", "")).rpartition("/")[2])
        return detail if advice is None else f"{detail.rstrip('.')}; {advice}"


def part(text: str) -> str:
    """`text` as a part of a path."""
    return quote(text, safe="")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(url: str, certificate: str | None = None) -> tuple[http.client.HTTPConnection, str]:
    """(a connection that is not open yet, what stands before every path)."""
    if url.startswith("unix:"):
        return _UnixConnection(url.removeprefix("unix:")), ""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise FrontUnavailable(f"front {url.rpartition('@')[2]!r}: {_EXPECTED}") from None
    if parts.username is not None:
        raise FrontUnavailable(
            f"front {parts.netloc.rpartition('@')[2]!r}: a user and password mean nothing to a front; put its token "
            f"into {TOKEN_VARIABLE}"
        )
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        raise FrontUnavailable(f"front {url!r}: {_EXPECTED}")
    path = parts.path.rstrip("/")
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port), path
    context = ssl.create_default_context()
    if certificate is not None:  # the very one is compared, before anything is sent
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, context=context), path


_EXPECTED = "expected http://host:port, https://host or unix:/path"


_CLOSED = {"UNEXPECTED_EOF_WHILE_READING", "TLSV13_ALERT_CERTIFICATE_REQUIRED"}


def _trouble(error: Exception, *, tls: bool) -> str:
    """Why there was no answer, and what to do, in one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); SSL_CERT_FILE may name its authority"
    if tls and (isinstance(error, ConnectionResetError | BrokenPipeError) or getattr(error, "reason", None) in _CLOSED):
        return (
            "it closed the connection; where it wants a client's certificate ([http] client_ca), use its unix socket: "
            "this command has none"
        )
    if isinstance(error, ssl.SSLError):
        return f"no TLS there ({(error.reason or str(error)).lower().replace('_', ' ')}); is it http://?"
    if isinstance(error, socket.gaierror):
        return f"the name is not known ({error.strerror})"
    if isinstance(error, PermissionError):
        return "permission denied; run it as root, or as a member of the group taskqueue"
    if isinstance(error, TimeoutError) or getattr(error, "errno", None) == errno.ETIMEDOUT:
        return "no answer in time; is taskqueue-http well there?"
    if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
        return "what answers there does not speak HTTP; is the port right, is it https://?"
    if isinstance(error, OSError) and error.errno in {errno.ECONNREFUSED, errno.ENOENT}:
        return "nothing listens there; is taskqueue-http running?"
    return f"{getattr(error, 'strerror', None) or str(error) or type(error).__name__}; is taskqueue-http running there?"


def _ascii(token: str) -> str:
    if not token.isascii() or not token.isprintable():
        raise FrontUnavailable(f"the token of {TOKEN_VARIABLE} is none: it has letters that no token has")
    return token


def _fault(fault: Mapping[str, Any]) -> str:
    place = str(fault.get("pointer") or fault.get("field") or fault.get("header") or "").removeprefix("#").strip("/")
    return f"{place} {fault.get('detail', '')}".strip()


def _document(text: bytes) -> Any:
    try:
        return json.loads(text, object_hook=_Document) if text.strip() else None
    except (ValueError, RecursionError):
        return None
