"""The packets on the unix sockets between pool, listener, template and worker.

A link is one end of a `SOCK_SEQPACKET` pair. The kernel delivers each packet whole, to one reader. So the listener,
which holds the worker's end too, can take back a packet that a busy worker has not read yet.

    kind (1 byte)   size of the head (4 bytes)   head (JSON)                        body (bytes)
    0               0 0 0 30                     ["done",17,"success",412.3,…]      {"width": 640}

A packet of more than `INLINE_LIMIT` bytes has kind 1: head and body are in a memfd, and its descriptor is sent instead.

The head is JSON with one addition. AMQP headers may hold bytes, which JSON has not, so bytes are written as an object
with the one key "\\0bytes", in hexadecimal digits: `b"\\xff"` as `{"\\u0000bytes": "ff"}`. A client's own header of
that form arrives as bytes where it holds hexadecimal digits, and unchanged where it holds anything else.

Packets from a worker come from a process that runs plugin code: they are JSON and bytes, of bounded size, and never
unpickled. This module must never know what a packet is for.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from taskqueue.errors import LinkError
from taskqueue.foundation import json_coders

INLINE_LIMIT = 48 * 1024
"""Bytes of head and body that travel in the packet itself; more of them travel in a memfd. It is far below the socket
buffer (212,992 bytes by default, socket(7)), so that the queue to a reader holds several packets."""
PACKET_LIMIT = 512 * 1024 * 1024
"""Bytes of head and body in a memfd; more are not read, and `LinkError` is raised. AMQP bodies are far smaller."""

_buffer = bytearray(INLINE_LIMIT + 4096)
"""All links of a process receive into it, and copy from it at once; only one thread of a process reads from links."""

_HEAD = struct.Struct("!BI")
"""Kind, and the bytes of the head, before the head."""
_INLINE, _MEMFD = 0, 1
"""The kinds."""
_MAX_FDS = 4
"""Descriptors that are received with a packet; where more were sent, the kernel says so and the packet is refused."""
_CONTROL_SIZE = socket.CMSG_LEN(_MAX_FDS * 4)
"""Bytes for those descriptors, an int each (unix(7), SCM_RIGHTS)."""
# As plain numbers: `|` of the socket module's enums takes longer than the system call that needs the flags.
_NOSIGNAL, _NOSIGNAL_DONTWAIT = int(socket.MSG_NOSIGNAL), int(socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
_TRUNCATED = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_CLOEXEC, _CLOEXEC_DONTWAIT = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)


class Packet(NamedTuple):
    """A packet that was received. Whoever receives it owns the descriptors."""

    head: list[Any]
    body: bytes
    fds: tuple[int, ...]


class Link:
    """One end of a link. The socket stays blocking, since two processes may share this end: each call says `wait`."""

    def __init__(self, sock: socket.socket, limit: int = PACKET_LIMIT) -> None:
        self.sock = sock
        self._limit = limit

    def fileno(self) -> int:
        """The descriptor of the socket, for a loop that waits for packets."""
        return self.sock.fileno()

    def send(self, head: Sequence[Any], body: bytes = b"", fds: Sequence[int] = (), *, wait: bool = False) -> bool:
        """Send one packet; False where the kernel's queue to the reader is full and `wait` is not set.

        `head` must hold at least one value. `fds`, at most three, are duplicated: close them here afterwards. Raises
        `LinkError` where the other end is gone, or no descriptor is left for a memfd.
        """
        packed = _encode(head).encode()
        flags = _NOSIGNAL if wait else _NOSIGNAL_DONTWAIT
        try:
            if len(packed) + len(body) <= INLINE_LIMIT:
                self._send([_HEAD.pack(_INLINE, len(packed)), packed, body], fds, flags)
            else:
                large = os.memfd_create("taskqueue", os.MFD_CLOEXEC)
                try:
                    _write_all(large, packed)
                    _write_all(large, body)
                    self._send([_HEAD.pack(_MEMFD, len(packed))], [large, *fds], flags)
                finally:
                    os.close(large)
        except BlockingIOError:
            return False
        except OSError as error:
            raise LinkError(f"the other end is gone: {error.strerror}") from None
        return True

    def receive(self, *, wait: bool = False) -> Packet | None:
        """The next packet; None where there is none at present and `wait` is not set.

        Raises `EOFError` at the end, and `LinkError` for anything that is not a packet; the next one can be received.
        """
        try:
            size, control, flags, _ = self.sock.recvmsg_into(
                [_buffer],
                _CONTROL_SIZE,
                _CLOEXEC if wait else _CLOEXEC_DONTWAIT,
            )
        except BlockingIOError:
            return None
        except ConnectionResetError:
            raise EOFError from None
        fds = _descriptors(control) if control else []
        if size == 0:
            raise EOFError
        try:
            return self._unpack(size, flags, fds)
        except (ValueError, struct.error, RecursionError, OSError) as error:
            for fd in fds:
                os.close(fd)
            raise LinkError(f"not a packet: {error}") from None

    def close(self) -> None:
        """Close this end."""
        self.sock.close()

    def shutdown_write(self) -> None:
        """End this direction: the reader receives what was sent already, then `EOFError`."""
        with suppress(OSError):  # the other end is gone already
            self.sock.shutdown(socket.SHUT_WR)

    def _send(self, parts: list[bytes], fds: Sequence[int], flags: int) -> None:
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg(parts, control, flags)

    def _unpack(self, size: int, flags: int, fds: list[int]) -> Packet:
        if flags & _TRUNCATED:
            raise ValueError("truncated")
        kind, head_size = _HEAD.unpack_from(_buffer)
        if kind == _INLINE:
            content = bytes(memoryview(_buffer)[_HEAD.size : size])
        elif kind == _MEMFD and fds:
            content = _read_all(fds[0], self._limit)
            os.close(fds.pop(0))
        else:
            raise ValueError("unknown kind")
        head = _decode(content[:head_size].decode())
        if not isinstance(head, list) or not head:
            raise ValueError("head is not a list")
        return Packet(head, content[head_size:], tuple(fds))


def pair() -> tuple[Link, Link]:
    """Both ends of a new link."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Link(left), Link(right)


def adopt(fd: int, limit: int = PACKET_LIMIT) -> Link:
    """The link whose end is the inherited or received descriptor `fd`."""
    return Link(socket.socket(fileno=fd), limit)


def _descriptors(control: list[tuple[int, int, bytes]]) -> list[int]:
    received = array.array("i")
    for level, kind, content in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(content[: len(content) - len(content) % received.itemsize])
    return received.tolist()


def _write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def _read_all(fd: int, limit: int) -> bytes:
    size = os.fstat(fd).st_size
    if size > limit:
        raise ValueError(f"{size} bytes; at most {limit}")
    return os.pread(fd, size, 0)


def _to_json(value: object) -> object:
    """A value that AMQP headers may hold and JSON has not: bytes as an object, a timestamp or a decimal as text."""
    if isinstance(value, bytes | bytearray):
        return {"\0bytes": bytes(value).hex()}
    return str(value)


def _from_json(value: dict[str, Any]) -> object:
    if len(value) == 1 and isinstance(coded := value.get("\0bytes"), str):
        with suppress(ValueError):  # a client's own header of the same form
            return bytes.fromhex(coded)
    return value


_encode = json_coders.writer(_to_json)
_decode = json_coders.parser(object_hook=_from_json)
