"""A TCP proxy on loopback that can fail on command: between a client and the broker, it is the network.

Standard library only. Runs in a thread of its own; its methods may be called from any thread and have taken effect
when they return.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from broker import free_ports

_PROTOCOL_HEADER_LENGTH = 8
_FRAME_HEADER = struct.Struct("!BHI")
"""AMQP 0-9-1, 2.3.5: type, channel, size; the payload and one octet follow."""
_METHOD, _CONTENT_HEADER, _CONTENT = 1, 2, 3
PUBLISH = (60, 40)
ACK = (60, 80)
"""Class and method of `basic.publish` and `basic.ack`."""


_T = TypeVar("_T")


@dataclass
class _Trap:
    """Cuts off the client that sends the `count`-th `method` from now: before it, or after it and all its content."""

    method: tuple[int, int]
    count: int
    before: bool
    sprung: asyncio.Event


class Proxy:
    """Forwards connections made to `port` to `target_port`, both on 127.0.0.1."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        (self.port,) = free_ports(1)
        self.accepted = 0
        """How many connections were made through it so far."""
        self._links: set[asyncio.StreamWriter] = set()
        self._piece = 65536
        self._pause_s = 0.0
        self._latency_s = 0.0
        self._trap: _Trap | None = None
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self.accept()

    def stop(self) -> None:
        """Close everything. A stopped proxy is not started again."""
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def url(self, vhost: str = "/", user: str = "guest", password: str = "guest") -> str:
        """An AMQP URL through this proxy."""
        return f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    @property
    def open_links(self) -> int:
        """How many connections are open through it now."""
        return len(self._links) // 2

    def cut(self) -> None:
        """Close every connection, to both sides, at once. New ones are accepted unless `refuse` was called."""
        self._call(self._cut())

    def stall(self) -> None:
        """Hold back all bytes in both directions; connections stay open, and new ones hang. A cut cable."""
        self._call(self._set_flowing(False))

    def resume(self) -> None:
        """Let the held bytes go on."""
        self._call(self._set_flowing(True))

    def trickle(self, piece: int, pause_s: float) -> None:
        """Let through at most `piece` bytes at a time, and wait `pause_s` seconds after each, until `hasten`."""
        self._piece, self._pause_s = piece, pause_s

    def delay(self, latency_s: float) -> None:
        """Let every byte arrive `latency_s` seconds late, in both directions, until `hasten`."""
        self._latency_s = latency_s

    def hasten(self) -> None:
        """Undo `trickle` and `delay`."""
        self._piece, self._pause_s, self._latency_s = 65536, 0.0, 0.0

    def cut_at(self, method: tuple[int, int], *, count: int, before: bool, deadline_s: float) -> bool:
        """`set_trap()`, and wait for it: false where nobody has sprung it within `deadline_s`."""
        self.set_trap(method, count=count, before=before)
        return self.sprung(deadline_s)

    def set_trap(self, method: tuple[int, int], *, count: int, before: bool) -> None:
        """Cut the connection on which a client sends the `count`-th `method` (of all connections) from now.

        `before`: the broker never gets that one. Else it gets it, with its content, and no answer leaves it.
        """
        self._call(self._set_trap(method, count, before))

    def sprung(self, deadline_s: float) -> bool:
        """Whether the trap that was set is sprung within `deadline_s`; it is taken away in either case."""
        return self._call(self._sprung(deadline_s), deadline_s + 10.0)

    def refuse(self) -> None:
        """Refuse new connections; those that are open go on."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Accept new connections again, on the same port."""
        self._call(self._accept())

    # -- in the proxy's own thread

    def _call(self, work: Coroutine[Any, Any, _T], deadline_s: float = 10.0) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=deadline_s)

    async def _set_trap(self, method: tuple[int, int], count: int, before: bool) -> None:
        self._trap = _Trap(method, count, before, asyncio.Event())

    async def _sprung(self, deadline_s: float) -> bool:
        assert self._trap is not None, "no trap is set"
        try:
            await asyncio.wait_for(self._trap.sprung.wait(), deadline_s)
        except TimeoutError:
            return False
        finally:
            self._trap = None
        return True

    async def _accept(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _set_flowing(self, flowing: bool) -> None:
        (self._flowing.set if flowing else self._flowing.clear)()

    async def _cut(self) -> None:
        for link in list(self._links):
            link.transport.abort()
        self._links.clear()

    async def _stop(self) -> None:
        await self._refuse()
        await self._cut()
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, target_writer}
        self._links |= ends
        try:
            await asyncio.gather(
                self._pump(self._caught(_frames(reader), writer), target_writer),
                self._pump(_bytes(target_reader), writer),
            )
        finally:
            for end in ends:
                end.transport.abort()
            self._links -= ends

    async def _caught(self, source: AsyncIterator[list[bytes]], client: asyncio.StreamWriter) -> AsyncIterator[bytes]:
        """What a client sends, until it springs the trap: then it is cut off: what was yielded goes on."""
        caught: _Trap | None = None
        left = 0
        """Bytes of content to come of the `basic.publish` that was caught."""
        async for frames in source:
            passed = []
            for frame in frames:
                method = struct.unpack_from("!HH", frame, 7) if frame[0] == _METHOD else None
                if caught is None and self._trap is not None and method == self._trap.method:
                    self._trap.count -= 1
                    if self._trap.count == 0:
                        caught = self._trap
                        left = 0 if method == ACK else 1
                if caught is None or not caught.before:
                    passed.append(frame)
                if caught is None:
                    continue
                if frame[0] == _CONTENT_HEADER:
                    (left,) = struct.unpack_from("!Q", frame, 11)
                elif frame[0] == _CONTENT:
                    left -= len(frame) - _FRAME_HEADER.size - 1
                if caught.before or left == 0:
                    client.transport.abort()
                    caught.sprung.set()
                    yield b"".join(passed)
                    return
            yield b"".join(passed)

    async def _pump(self, source: AsyncIterator[bytes], sink: asyncio.StreamWriter) -> None:
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)
        feeding = asyncio.create_task(self._feed(source, line))
        try:
            while True:
                due, data = await line.get()
                await self._flowing.wait()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                if not data:
                    sink.write_eof()
                    return
                for start in range(0, len(data), self._piece):
                    sink.write(data[start : start + self._piece])
                    await sink.drain()
                    if self._pause_s:
                        await asyncio.sleep(self._pause_s)
        except OSError:
            pass
        finally:
            feeding.cancel()

    async def _feed(self, source: AsyncIterator[bytes], line: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Put what comes in the line, with the time at which it may go on; nothing at the end."""
        with contextlib.suppress(OSError):
            async for data in source:
                if data:
                    await line.put((self._loop.time() + self._latency_s, data))
        await line.put((0.0, b""))


async def _bytes(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while data := await reader.read(65536):
        yield data


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[list[bytes]]:
    """Whole frames as they come, the protocol header as one of its own."""
    came = await reader.read(65536)
    held = came[_PROTOCOL_HEADER_LENGTH:]
    yield [came[:_PROTOCOL_HEADER_LENGTH]]
    while came:
        frames = []
        start = 0
        while len(held) - start >= _FRAME_HEADER.size:
            end = start + _FRAME_HEADER.size + _FRAME_HEADER.unpack_from(held, start)[2] + 1
            if end > len(held):
                break
            frames.append(held[start:end])
            start = end
        held = held[start:]
        yield frames
        came = await reader.read(65536)
        held += came
