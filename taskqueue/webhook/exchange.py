"""An easy handle of libcurl: one request after the other, and what its callbacks see of each.

`load(Sent(…))` sets every option that differs between requests; when libcurl has done its work, `exchange(0, "")` gives
what came. Redirects, proxies, cookies, netrc and decompression are off. The address is judged where the socket is made:
one place for literals in every form, each address of a name, and each redirect.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pycurl

from taskqueue.targets.policy import Verdict

CONNECT_TIMEOUT_MS = 10_000
"""For the name, the connection and TLS together."""
READ_LIMIT = 64 * 1024
"""Bytes of an answer's body that are read; then the connection is closed."""
HEADERS_LIMIT = 64 * 1024
"""Bytes of an answer's headers; with more it is no answer. The deadline, and libcurl, bound interim answers (1xx)."""
_QUICK_EXIT = 322
"""CURLOPT_QUICK_EXIT, libcurl 7.87, for which pycurl has no name. Without it a transfer that times out while its name
is resolved waits for the resolver's thread: every other transfer of the worker stood still for 9.5 s [tried, 7.88]."""

Judge = Callable[[str, int, str | None], Verdict]
"""Of address, port, and the name that was resolved to it (None for a literal address)."""


@dataclass(slots=True)
class Sent:
    """One request as it goes out."""

    url: str
    name: str | None
    """The host's name, for the judge; None where the URL has an address."""
    method: str
    headers: Sequence[bytes]
    """Lines without their ends, in order."""
    body: bytes
    timeout_s: float
    keep: int
    """Bytes of the answer's body to keep."""


@dataclass(slots=True)
class Exchange:
    """What came of it."""

    error: int = 0
    """libcurl's `E_…`; 0 for an answer."""
    message: str = ""
    """libcurl's words for the error."""
    errno: int = 0
    status: int = 0
    """0 where no status line came."""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    truncated: bool = False
    address: str | None = None
    """That it was connected to."""
    resolved: bool = False
    refused: Verdict | None = None
    """Set where the judge allowed none of the addresses."""
    too_many_headers: bool = False


class Handle:
    """An easy handle, used for one transfer after the other, and what its callbacks have seen of this one."""

    ended: asyncio.Future[tuple[int, str]]

    def __init__(self, judge: Judge, ca_file: str | None) -> None:
        self._judge = judge
        self._shape: tuple[str, int, int] | None = None
        self.curl: Any = pycurl.Curl()
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (_QUICK_EXIT, 1),
            (pycurl.PROXY, ""),
            (pycurl.NOPROXY, "*"),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),  # 2 has no case of header names
            (pycurl.PATH_AS_IS, 1),
            (pycurl.SSL_VERIFYPEER, 1),
            (pycurl.SSL_VERIFYHOST, 2),
            (pycurl.OPENSOCKETFUNCTION, self._open),
            (pycurl.HEADERFUNCTION, self._on_header),
            (pycurl.WRITEFUNCTION, self._on_body),
            (pycurl.READFUNCTION, self._read),
        ):
            self.curl.setopt(option, value)
        if ca_file is not None:
            self.curl.setopt(pycurl.CAINFO, ca_file)

    def load(self, sent: Sent) -> None:
        """Prepare the handle: URL and headers each time, other options where they differ from the last ones."""
        self._name, self._keep = sent.name, sent.keep
        self._head: list[bytes] = []
        self._head_bytes = self._received = self._sent_bytes = 0
        self._kept = bytearray()
        self._refused: Verdict | None = None
        self._allowed = False
        self._body = sent.body
        curl, timeout_ms = self.curl, max(1, round(sent.timeout_s * 1000))
        curl.setopt(pycurl.URL, sent.url)
        curl.setopt(pycurl.HTTPHEADER, sent.headers)
        shape = (sent.method, len(sent.body), timeout_ms)
        if shape == self._shape:
            return
        self._shape = shape
        if sent.body or sent.method in {"POST", "PUT", "PATCH"}:
            curl.setopt(pycurl.POST, 1)
            curl.setopt(pycurl.POSTFIELDSIZE_LARGE, len(sent.body))
        else:
            curl.setopt(pycurl.HTTPGET, 1)
        curl.setopt(pycurl.NOBODY, sent.method == "HEAD")
        curl.setopt(pycurl.CUSTOMREQUEST, sent.method)
        curl.setopt(pycurl.TIMEOUT_MS, timeout_ms)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, min(timeout_ms, CONNECT_TIMEOUT_MS))

    def _open(self, purpose: int, address: Any) -> socket.socket | int:
        """Judge an address that libcurl is about to connect to; a socket for it, or a refusal."""
        if address.family not in {socket.AF_INET, socket.AF_INET6}:
            return pycurl.SOCKET_BAD  # type: ignore[no-any-return]
        host = address.addr[0]
        verdict = self._judge(host.decode() if isinstance(host, bytes) else host, address.addr[1], self._name)
        if not verdict.allowed:
            self._refused = verdict
            return pycurl.SOCKET_BAD  # type: ignore[no-any-return]
        self._allowed = True
        return socket.socket(address.family, address.socktype, address.protocol)

    def _read(self, size: int) -> bytes:
        """The body's next bytes. It cannot be rewound: so libcurl cannot send a request twice by itself, as it does
        when a pooled connection dies before the answer. Whether it is sent again is not for the transport to say."""
        chunk = self._body[self._sent_bytes : self._sent_bytes + size]
        self._sent_bytes += len(chunk)
        return chunk

    def _on_header(self, line: bytes) -> int | None:
        if line.startswith(b"HTTP/"):  # also after an interim answer: only the last head counts
            self._head, self._head_bytes = [], 0
        self._head_bytes += len(line)
        if self._head_bytes > HEADERS_LIMIT:
            return 0
        if not self._received:
            self._head.append(line)
        return None

    def _on_body(self, data: bytes) -> int | None:
        self._received += len(data)
        self._kept += data[: self._keep - len(self._kept)]
        return 0 if self._received > READ_LIMIT else None

    def exchange(self, error: int, message: str) -> Exchange:
        """What the callbacks have seen. That we stopped reading a long body is no error."""
        if error == pycurl.E_WRITE_ERROR and self._received > READ_LIMIT:
            error = 0
        info = self.curl.getinfo
        found = Exchange(
            error,
            message.partition("\n")[0],
            status=info(pycurl.RESPONSE_CODE),
            headers=list(fields(self._head)),
            body=bytes(self._kept),
            truncated=self._received > self._keep,
            address=info(pycurl.PRIMARY_IP) or None,
            too_many_headers=self._head_bytes > HEADERS_LIMIT,
        )
        if error:
            found.errno = info(pycurl.OS_ERRNO)
            found.resolved = self._allowed or self._refused is not None
            found.refused = None if self._allowed else self._refused
        return found


def fields(head: Sequence[bytes]) -> list[tuple[str, str]]:
    """Names and values of the lines of a head, the first of which is its status line. Folded lines are joined."""
    found: list[tuple[str, str]] = []
    for text in b"".join(head[1:]).decode(errors="replace").split("\n"):
        if text[:1] in {" ", "\t"} and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {text.strip()}")
            continue
        name, colon, value = text.partition(":")
        if colon:
            found.append((name.strip(), value.strip()))
    return found


def reason_of(errno: int) -> str:
    """The system's words for an errno; "" for none."""
    return os.strerror(errno) if errno else ""
