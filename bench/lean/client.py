"""A client that costs little: sends tasks over connections that it keeps, and says what was answered.

    client.py PORT PATH TARGET FIRST COUNT CONNECTIONS EVERY_S

COUNT tasks, numbered from FIRST. Each connection sends the next one when the last was answered; with EVERY_S above 0,
one is sent that often, by the first connection. Prints `{"began", "ended", "accepted", "refused"}`, monotonic seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

PADDING = "x" * 240


class Sending:
    def __init__(self, port: int, path: str, target: str, first: int, count: int, every_s: float) -> None:
        self.left = iter(range(first, first + count))
        self.count, self.every_s = count, every_s
        self.target = target
        self.head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: "
        ).encode()
        self.accepted = 0
        self.refused: dict[int, int] = {}
        self.ended = asyncio.Event()

    def next(self) -> bytes | None:
        """The bytes of one more request; None where all were sent."""
        number = next(self.left, None)
        if number is None:
            return None
        body = json.dumps({"url": self.target, "body": f"{number} {time.monotonic():.6f} {PADDING}"}).encode()
        return self.head + b"%d\r\n\r\n" % len(body) + body

    def answered(self, status: int) -> None:
        if 200 <= status < 300:
            self.accepted += 1
        else:
            self.refused[status] = self.refused.get(status, 0) + 1
        if self.accepted + sum(self.refused.values()) == self.count:
            self.ended.set()


class Connection(asyncio.Protocol):
    def __init__(self, sending: Sending) -> None:
        self.sending, self.data = sending, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self) -> None:
        if (request := self.sending.next()) is not None:
            self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            _, _, length = self.data[:end].lower().partition(b"\r\ncontent-length:")
            after = end + 4 + int(length.partition(b"\r\n")[0])
            if len(self.data) < after:
                return
            status, self.data = int(self.data[9:12]), self.data[after:]
            self.sending.answered(status)
            if not self.sending.every_s:
                self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.sending.ended.is_set():
            print(f"connection lost: {error}", file=sys.stderr)
            sys.exit(1)


async def main() -> None:
    port, path, target, first, count, connections, every_s = sys.argv[1:]
    sending = Sending(int(port), path, target, int(first), int(count), float(every_s))
    loop = asyncio.get_running_loop()
    opened = [
        (await loop.create_connection(lambda: Connection(sending), "127.0.0.1", int(port)))[1]
        for _ in range(int(connections))
    ]
    began = time.monotonic()
    if sending.every_s:
        for turn in range(sending.count):
            await asyncio.sleep(max(0.0, began + turn * sending.every_s - time.monotonic()))
            opened[0].send()
    else:
        for connection in opened:
            connection.send()
    await sending.ended.wait()
    told = {"began": began, "ended": time.monotonic(), "accepted": sending.accepted, "refused": sending.refused}
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
