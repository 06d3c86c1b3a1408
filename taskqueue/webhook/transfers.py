"""libcurl on asyncio: one multi handle, its sockets and its timer watched by the event loop.

1. `perform` takes an idle easy handle, gives it the request and adds it to the multi. libcurl asks for a timer of 0 ms.
2. The timer fires: libcurl takes a connection of the origin's from its pool, or resolves the name in a thread and opens
   a socket: `_Handle._open` judges the address there, whatever the name was and however often it changes.
3. libcurl tells which sockets to watch (`_on_socket`), and is told what became of them, until the transfer is over.
4. `perform` gives an `Exchange`: an answer, or libcurl's error.

A pooled connection was judged when it was opened: so each policy has `Transfers`, and a pool, of its own. Redirects,
proxies, cookies, netrc and decompression are off. This module must never raise for what a target does.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pycurl

from taskqueue.targets.policy import Verdict

CONNECT_TIMEOUT_MS = 10_000
"""For the name, the connection and TLS together."""
READ_LIMIT = 64 * 1024
"""Bytes of an answer's body that are read; then the connection is closed."""
HEADERS_LIMIT = 64 * 1024
"""Bytes of an answer's headers; with more it is no answer. libcurl itself bounds those of interim answers (1xx)."""
_IDLE_CONNECTIONS = 200
"""Connections that the pool keeps open."""
_QUICK_EXIT = 322
"""CURLOPT_QUICK_EXIT, libcurl 7.87, for which pycurl has no name. Without it a transfer that times out while its name
is resolved waits for the resolver's thread: every other transfer of the worker stood still for 9.5 s [tried, 7.88]."""
_CA_FILE = "/etc/ssl/certs/ca-certificates.crt"

Judge = Callable[[str, int, str | None], Verdict]
"""Of address, port, and the name that was resolved to it (None for a literal address)."""


@dataclass(frozen=True, slots=True)
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


class Transfers:
    """All requests under one policy. It belongs to the event loop in which it was made."""

    def __init__(self, judge: Judge, *, ca_file: str | None = None) -> None:
        self._judge = judge
        self._ca_file = ca_file or (_CA_FILE if Path(_CA_FILE).exists() else None)
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Handle] = []
        self._busy: dict[Any, _Handle] = {}
        self._timer: asyncio.Handle | None = None
        self._watched: dict[int, int] = {}
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, _IDLE_CONNECTIONS)

    async def perform(self, sent: Sent) -> Exchange:
        """Make one request. When the caller is cancelled, its connection is closed."""
        handle = self._idle.pop() if self._idle else _Handle(self._judge, self._ca_file)
        handle.ended = self._loop.create_future()
        handle.load(sent)
        self._busy[handle.curl] = handle
        self._multi.add_handle(handle.curl)
        try:
            error, message = await handle.ended
            return handle.exchange(error, message)
        finally:
            if self._busy.pop(handle.curl, None) is not None:
                self._multi.remove_handle(handle.curl)
            self._idle.append(handle)

    def _on_timer(self, delay_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay_ms == 0:
            self._timer = self._loop.call_soon(self._on_timeout)
        elif delay_ms > 0:
            self._timer = self._loop.call_later(delay_ms / 1000, self._on_timeout)

    def _on_timeout(self) -> None:
        self._timer = None
        self._act(pycurl.SOCKET_TIMEOUT, 0)

    def _on_socket(self, wanted: int, descriptor: int, multi: object, data: object) -> None:
        """Watch a socket as libcurl wants it: `POLL_IN`, `POLL_OUT`, both, or `POLL_REMOVE`."""
        before = self._watched.pop(descriptor, 0)
        now = 0 if wanted == pycurl.POLL_REMOVE else wanted
        if now:
            self._watched[descriptor] = now
        for bit, event, add, remove in (
            (pycurl.POLL_IN, pycurl.CSELECT_IN, self._loop.add_reader, self._loop.remove_reader),
            (pycurl.POLL_OUT, pycurl.CSELECT_OUT, self._loop.add_writer, self._loop.remove_writer),
        ):
            if now & bit and not before & bit:
                add(descriptor, self._act, descriptor, event)
            elif before & bit and not now & bit:
                remove(descriptor)

    def _act(self, descriptor: int, event: int) -> None:
        """Tell libcurl what happened; wake those whose transfer is over."""
        running = self._multi.socket_action(descriptor, event)[1]
        while running < len(self._busy):
            left, done, failed = self._multi.info_read()
            for curl in done:
                self._end(curl, 0, "")
            for curl, error, message in failed:
                self._end(curl, error, message)
            if not left:
                break

    def _end(self, curl: Any, error: int, message: str) -> None:
        self._multi.remove_handle(curl)
        ended = self._busy.pop(curl).ended
        if not ended.done():
            ended.set_result((error, message))


class _Handle:
    """An easy handle, used for one transfer after the other, and what its callbacks have seen of this one."""

    ended: asyncio.Future[tuple[int, str]]

    def __init__(self, judge: Judge, ca_file: str | None) -> None:
        self._judge = judge
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
        """Prepare the handle: every option that differs between requests is set each time."""
        self._name, self._keep = sent.name, sent.keep
        self._head: list[bytes] = []
        self._head_bytes = self._received = self._sent_bytes = 0
        self._kept = bytearray()
        self._refused: Verdict | None = None
        self._allowed = False
        self._body = sent.body
        curl, timeout_ms = self.curl, max(1, round(sent.timeout_s * 1000))
        curl.setopt(pycurl.URL, sent.url)
        if sent.body or sent.method in {"POST", "PUT", "PATCH"}:
            curl.setopt(pycurl.POST, 1)
            curl.setopt(pycurl.POSTFIELDSIZE_LARGE, len(sent.body))
        else:
            curl.setopt(pycurl.HTTPGET, 1)
        curl.setopt(pycurl.NOBODY, sent.method == "HEAD")
        curl.setopt(pycurl.CUSTOMREQUEST, sent.method)
        curl.setopt(pycurl.HTTPHEADER, sent.headers)
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
    """Names and values of the lines of a head, without its status line. Folded lines (obs-fold) are joined."""
    found: list[tuple[str, str]] = []
    for line in head:
        text = line.decode(errors="replace").rstrip("\r\n")
        if text[:1] in {" ", "\t"} and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {text.strip()}")
        elif not text.startswith("HTTP/"):
            name, colon, value = text.partition(":")
            if colon:
                found.append((name.strip(), value.strip()))
    return found


def reason_of(errno: int) -> str:
    """The system's words for an errno; "" for none."""
    return os.strerror(errno) if errno else ""
