"""A web daemon that costs little: it answers 200 to every webhook, and knows which came and how late.

    web_daemon.py          prints its port, and serves until its standard input ends

A webhook's body begins with its number and when its task was sent, in monotonic seconds: `17 8123.250125 xxx`.
`GET /stats` says what has come so far, and `GET /forget` makes it say nothing of that any more.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Came:
    """The webhooks that came."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.twice = 0
        self.last = 0.0
        self.took_ms: list[float] = []

    def note(self, body: bytes) -> None:
        number, sent, _ = body.split(b" ", 2)
        self.last = time.monotonic()
        self.took_ms.append((self.last - float(sent)) * 1000)
        self.twice += int(number) in self.numbers
        self.numbers.add(int(number))

    def document(self, *, whole: bool) -> dict[str, Any]:
        few: dict[str, Any] = {"came": len(self.numbers), "twice": self.twice, "last": self.last}
        return {**few, "took_ms": self.took_ms} if whole else few


class Daemon(asyncio.Protocol):
    came = Came()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].lower()
            _, _, length = head.partition(b"\r\ncontent-length:")
            after = end + 4 + (int(length.partition(b"\r\n")[0]) if length else 0)
            if len(self.data) < after:
                return
            body, self.data = self.data[end + 4 : after], self.data[after:]
            if head.startswith(b"post"):
                Daemon.came.note(body)
                self.transport.write(OK)
            else:
                self.tell(head)

    def tell(self, head: bytes) -> None:
        document = json.dumps(Daemon.came.document(whole=b"/whole " in head)).encode()
        if head.startswith(b"get /forget"):
            Daemon.came = Came()
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(document) + document)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Daemon, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
