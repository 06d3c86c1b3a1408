"""The worker type `probe`: work that waits, many workitems side by side in each process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import Any

from taskqueue.worker import BaseWorker, Reject, Retry


class Worker(BaseWorker):
    """Tells whether a TCP service can be reached, and how long that takes.

    A workitem is `host:port`, or an object with `host`, `port` and optionally `expect` (`open` or `closed`): as long
    as that is not what is found, it is tried again. Keys of its own in config.ini: `timeout` (seconds to wait for a
    connection) and `tries` (how often, before the result says what was found).
    """

    async def setup(self) -> None:
        """Once in each worker process, in the loop that runs the workitems."""
        self.timeout_s = float(self.settings.get("timeout", 3))
        self.tries = int(self.settings.get("tries", 5))
        if self.timeout_s <= 0 or self.tries < 1:
            raise ValueError(
                f"timeout is {self.timeout_s:g}, tries is {self.tries}; expected more than 0, and 1 or more"
            )
        self.found: Counter[str] = Counter()

    async def teardown(self) -> None:
        """At the end of a worker process: the place to close what `setup` has opened."""
        self.log.info("probes made: open=%d closed=%d", self.found["open"], self.found["closed"])

    async def handle_task(self, body: Any) -> dict[str, Any]:
        """One probe; up to `concurrency` of them run at a time."""
        host, port, expected = _target(body)
        started = time.monotonic()
        state, detail = await self._probe(host, port)
        took_ms = round((time.monotonic() - started) * 1000, 1)
        self.found[state] += 1
        self.log.debug("probed: host=%s port=%d state=%s ms=%.1f", host, port, state, took_ms)
        if expected and state != expected and self.task.attempt < self.tries:
            raise Retry(f"{host}:{port} is {state}, expected {expected}")  # in retry_delay, then twice that …
        return {"host": host, "port": port, "state": state, "detail": detail, "ms": took_ms, "probe": self.task.id}

    async def _probe(self, host: str, port: int) -> tuple[str, str]:
        try:
            async with asyncio.timeout(self.timeout_s):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return "closed", f"no answer within {self.timeout_s:g} s"
        except OSError as error:
            return "closed", error.strerror or str(error)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return "open", "connected"


def _target(body: Any) -> tuple[str, int, str | None]:
    """Host, port and what is expected; rejects what can never be probed."""
    match body:
        case str():
            host, _, digits = body.strip().rpartition(":")
            port: Any = int(digits) if digits.isascii() and digits.isdigit() else digits
            expected = None
        case {"host": host, "port": port}:
            expected = body.get("expect")
        case _:
            raise Reject(f"not a target: {body!r:.80}; expected host:port, or an object with host and port")
    if not isinstance(host, str) or not host or not isinstance(port, int) or not 1 <= port <= 65535:
        raise Reject(f"not a target: {body!r:.80}; expected a host and a port from 1 to 65535")
    if expected not in (None, "open", "closed"):
        raise Reject(f"expect is {expected!r:.80}; expected open or closed")
    return host.strip("[]"), port, expected
