"""AMQP 0-9-1 as bytes: sends content headers that no client library would, and says what the broker made of each.

`field` encodes one header value of any type, right or wrong; `content_header` the properties of a message. A `RawAmqp`
publishes them as they are and consumes without looking into properties. Standard library and the protocol only: it
must never import taskqueue, nor pika.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

PROPERTIES = (
    "content_type", "content_encoding", "headers", "delivery_mode", "priority", "correlation_id", "reply_to",
    "expiration", "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id", "unused",
)  # fmt: skip
"""In the order of their flags, from bit 15 (AMQP 0-9-1, 4.2.6.1, and the class basic); the last flag has no meaning,
and no broker minds it."""

FRAME_MAX = 131_072
"""RabbitMQ's `frame_max`: bytes of a whole frame, of which eight are not payload."""

_METHOD, _HEADER, _BODY, _END = 1, 2, 3, b"\xce"
_WINDOW = 200


class Fate(Enum):
    """What the broker made of a publish."""

    CONFIRMED = "confirmed"
    RETURNED = "returned"
    """No such queue."""
    REFUSED = "refused"
    """It closed the channel, or the connection, for it: the message is in no queue."""


class Publish(NamedTuple):
    """One message for the default exchange."""

    routing_key: bytes
    properties: bytes
    """Flags and values, as `content_header` makes them."""
    body: bytes


class Got(NamedTuple):
    """One message that was consumed."""

    queue: str
    properties: bytes
    body: bytes


# -- encoding


def short(value: bytes) -> bytes:
    """A short string; its length octet is cut off to eight bits as it is."""
    return bytes([len(value) & 0xFF]) + value


def long(value: bytes) -> bytes:
    """A long string, or what else is behind a length of four octets."""
    return struct.pack(">I", len(value)) + value


def table(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A field table of names and encoded values."""
    return long(b"".join(short(name) + value for name, value in fields))


def content_header(properties: Mapping[str, bytes]) -> bytes:
    """Flags and encoded values of `properties`."""
    flags = sum(1 << (15 - number) for number, name in enumerate(PROPERTIES) if name in properties)
    return struct.pack(">H", flags) + b"".join(properties[name] for name in PROPERTIES if name in properties)


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + _END


def _method(channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    return _frame(_METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments)


def _frames(channel: int, publish: Publish) -> bytes:
    largest = FRAME_MAX - 8
    body = publish.body
    mandatory = b"\x01"
    return b"".join(
        [
            _method(channel, 60, 40, b"\0\0" + short(b"") + short(publish.routing_key) + mandatory),
            _frame(_HEADER, channel, struct.pack(">HHQ", 60, 0, len(body)) + publish.properties),
            *(_frame(_BODY, channel, body[start : start + largest]) for start in range(0, len(body), largest)),
        ]
    )


# -- a connection


class Closed(Exception):
    """The broker closed the channel or the connection; `whole` says which, the text why."""

    def __init__(self, text: str, *, whole: bool) -> None:
        super().__init__(text)
        self.whole = whole


class RawAmqp:
    """A blocking connection with one channel. Publishes confirmed, or consumes with automatic acks."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._sock: socket.socket | None = None
        self._buffer = bytearray()
        self._channel = 0
        self._tag = 0
        self._consumed: dict[bytes, str] = {}
        self.refusals: list[str] = []
        """What the broker said, of each refused publish."""

    # -- publishing

    def publish(self, messages: Sequence[Publish]) -> list[Fate]:
        """Publish `messages` in windows; their fates.

        Where one of a window is refused nobody knows which: what had no answer is sent again, one at a time, so that
        it may be in its queue twice.
        """
        fates: list[Fate] = []
        for start in range(0, len(messages), _WINDOW):
            window = messages[start : start + _WINDOW]
            try:
                fates.extend(self._send(window))
            except Closed as closed:
                self._after(closed)
                fates.extend(self.publish_one(message) for message in window)
        return fates

    def publish_one(self, message: Publish) -> Fate:
        """Publish one message and wait for its fate: never twice."""
        self._open()
        try:
            return self._send([message])[0]
        except Closed as closed:
            self.refusals.append(str(closed))
            self._after(closed)
            return Fate.REFUSED

    def _send(self, window: Sequence[Publish]) -> list[Fate]:
        self._open()
        assert self._sock is not None
        first, self._tag = self._tag + 1, self._tag + len(window)
        waiting = set(range(first, self._tag + 1))
        returned = 0
        fates: dict[int, Fate] = {}
        with suppress(OSError):  # closed while it was being written: the reason is there to be read
            self._sock.sendall(b"".join(_frames(self._channel, message) for message in window))
        while waiting:
            class_id, method_id, arguments = self._next_method()
            match class_id, method_id:
                case 60, 50:  # basic.return; its content follows, then its ack
                    self._content()
                    returned += 1
                case 60, 80 | 120:  # basic.ack, basic.nack
                    tag, multiple = struct.unpack_from(">QB", arguments)
                    tags = {each for each in waiting if each <= tag} if multiple & 1 else {tag}
                    waiting -= tags
                    assert method_id == 80, "nacked"
                    fates.update((each, Fate.RETURNED if returned else Fate.CONFIRMED) for each in tags)
                    returned = 0
        return [fates[tag] for tag in sorted(fates)]

    # -- consuming

    def consume(self, queue: str) -> None:
        """Have all that is in `queue`, and comes, in `received`."""
        self._open()
        name = queue.encode()
        tag = f"c{len(self._consumed)}".encode()
        self._consumed[tag] = queue
        assert self._sock is not None
        no_ack, nowait = 2, 8
        arguments = b"\0\0" + short(name) + short(tag) + bytes([no_ack | nowait]) + table([])
        self._sock.sendall(_method(self._channel, 60, 20, arguments))

    def received(self, wait_s: float) -> Iterator[Got]:
        """What comes until nothing has come for `wait_s` seconds."""
        while self._ready(wait_s):
            class_id, method_id, arguments = self._next_method()
            if (class_id, method_id) == (60, 60):
                tag = bytes(arguments[1 : 1 + arguments[0]])
                properties, body = self._content()
                yield Got(self._consumed[tag], properties, body)

    # -- opening and closing

    def close(self) -> None:
        """Close the connection, without a word."""
        if self._sock is not None:
            self._sock.close()
        self._sock, self._channel, self._tag = None, 0, 0
        self._buffer.clear()

    def _open(self) -> None:
        if self._sock is None:
            self._connect()
        if self._tag < 0:
            self._open_channel()

    def _connect(self) -> None:
        url = self._url
        self._sock = socket.create_connection((url.hostname or "", url.port or 5672), timeout=30.0)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.sendall(b"AMQP\0\0\x09\x01")
        self._expect(10, 10)
        secret = f"\0{unquote(url.username or 'guest')}\0{unquote(url.password or 'guest')}".encode()
        self._sock.sendall(_method(0, 10, 11, table([]) + short(b"PLAIN") + long(secret) + short(b"en_US")))
        self._expect(10, 30)
        self._sock.sendall(_method(0, 10, 31, struct.pack(">HIH", 2047, FRAME_MAX, 0)))
        self._sock.sendall(_method(0, 10, 40, short(unquote(url.path[1:]).encode()) + b"\0\0"))
        self._expect(10, 41)
        self._channel, self._tag = 0, -1

    def _open_channel(self) -> None:
        assert self._sock is not None
        self._channel = self._channel % 1000 + 1
        self._sock.sendall(_method(self._channel, 20, 10, b"\0"))
        self._expect(20, 11)
        self._sock.sendall(_method(self._channel, 85, 10, b"\0"))
        self._expect(85, 11)
        self._tag = 0

    def _expect(self, class_id: int, method_id: int) -> None:
        got = self._next_method()[:2]
        assert got == (class_id, method_id), f"{got} instead of {(class_id, method_id)}"

    def _after(self, closed: Closed) -> None:
        if closed.whole:
            self.close()
        else:
            self._tag = -1

    # -- reading

    def _next_method(self) -> tuple[int, int, bytes]:
        while True:
            kind, channel, payload = self._read_frame()
            if kind != _METHOD:
                continue
            class_id, method_id = struct.unpack_from(">HH", payload)
            if (class_id, method_id) in {(20, 40), (10, 50)}:
                assert self._sock is not None
                if channel:
                    self._sock.sendall(_method(channel, 20, 41))
                code, size = struct.unpack_from(">HB", payload, 4)
                text = payload[7 : 7 + size].decode(errors="replace")
                raise Closed(f"{code} {text}", whole=not channel)
            return class_id, method_id, payload[4:]

    def _content(self) -> tuple[bytes, bytes]:
        _, _, header = self._read_frame()
        (size,) = struct.unpack_from(">Q", header, 4)
        body = bytearray()
        while len(body) < size:
            body += self._read_frame()[2]
        return header[12:], bytes(body)

    def _read_frame(self) -> tuple[int, int, bytes]:
        head = self._read(7)
        kind, channel, size = struct.unpack(">BHI", head)
        payload = self._read(size + 1)
        return kind, channel, payload[:-1]

    def _read(self, size: int) -> bytes:
        assert self._sock is not None
        while len(self._buffer) < size:
            try:
                came = self._sock.recv(1 << 18)
            except ConnectionResetError:
                came = b""
            if not came:
                raise Closed("connection ended without a word", whole=True)
            self._buffer += came
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _ready(self, wait_s: float) -> bool:
        if self._buffer:
            return True
        assert self._sock is not None
        self._sock.settimeout(wait_s)
        try:
            came = self._sock.recv(1 << 18)
        except TimeoutError:
            return False
        finally:
            self._sock.settimeout(30.0)
        if not came:
            raise Closed("connection ended without a word", whole=True)
        self._buffer += came
        return True
