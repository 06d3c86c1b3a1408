"""The packets on the unix sockets between pool, listener, template and worker.

A link is one end of a `SOCK_SEQPACKET` pair: a packet arrives whole or not at all, and each by one reader only. That
is why the listener can take back what a busy worker has not read yet. What is too large for a packet travels as a
memfd. Packets from a worker come from the other side of a trust boundary: they are JSON and bytes, bounded, and never
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
from taskqueue.foundation import jsontext

INLINE_LIMIT = 48 * 1024
"""Bytes of a packet; above it goes a memfd. Far below the socket buffer (212,992 by default), so that several fit."""
PACKET_LIMIT = 512 * 1024 * 1024
"""Bytes of a packet in a memfd that are read at most. AMQP bodies are bounded far below."""

_buffer = bytearray(INLINE_LIMIT + 4096)
"""What is received is copied out of it at once: one for all links of a process, which has one thread for them."""

_HEAD = struct.Struct("!BI")
_INLINE, _MEMFD = 0, 1
_MAX_FDS = 4
_CONTROL_SIZE = socket.CMSG_LEN(_MAX_FDS * 4)
# As plain numbers: `|` of the socket module's enums costs more than the call that they are for.
_NOSIGNAL, _NOSIGNAL_DONTWAIT = int(socket.MSG_NOSIGNAL), int(socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
_TRUNCATED = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_CLOEXEC, _CLOEXEC_DONTWAIT = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)


class Packet(NamedTuple):
    """What came: a head (JSON), a body (bytes) and descriptors."""

    head: list[Any]
    body: bytes
    fds: tuple[int, ...]


class Link:
    """One end of a link. The socket stays blocking, since both ends may share it: waiting is said per call."""

    def __init__(self, sock: socket.socket, limit: int = PACKET_LIMIT) -> None:
        self.sock = sock
        self._limit = limit

    def fileno(self) -> int:
        """For the loop."""
        return self.sock.fileno()

    def send(self, head: Sequence[Any], body: bytes = b"", fds: Sequence[int] = (), *, wait: bool = False) -> bool:
        """Send one packet; False where the kernel's queue to the reader is full and `wait` is not set.

        Raises `LinkError` where the other end is gone.
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

        Raises `EOFError` at the end, `LinkError` where what came is not a packet.
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
        """Let the reader find the end behind what was sent already."""
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
    """What AMQP headers hold and JSON does not: bytes, timestamps, decimals."""
    if isinstance(value, bytes | bytearray):
        return {"\0bytes": bytes(value).hex()}
    return str(value)


def _from_json(value: dict[str, Any]) -> object:
    if len(value) == 1 and isinstance(coded := value.get("\0bytes"), str):
        with suppress(ValueError):  # a client's own header, that only looks like ours
            return bytes.fromhex(coded)
    return value


_encode = jsontext.writer(_to_json)
_decode = jsontext.parser(object_hook=_from_json)
