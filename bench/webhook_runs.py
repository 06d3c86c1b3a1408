"""One run over HTTP: tasks in, webhooks out, CPU per task, and how long one takes when nothing else is to be done.

The client and the web daemon are processes of their own (`bench.lean`), the same for everybody. Their CPU time, and
that of the kernel on their behalf, is nobody's; but they use the same cores.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench import accounting
from bench.contenders.over_http import Side
from bench.throughput import Stuck, watch

CONNECTIONS = 50
EVERY_S = 0.02
LEAN = Path(__file__).parent / "lean"


class WebDaemon:
    """The target of the webhooks."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self._process = process
        self._connection = HTTPConnection("127.0.0.1", port)

    def ask(self, path: str) -> Any:
        """`/stats` or `/stats/whole`: what came so far. `/forget`: and nothing of it is known any more."""
        self._connection.request("GET", path)
        return json.loads(self._connection.getresponse().read())

    def came(self) -> int:
        """How many different webhooks have come."""
        return int(self.ask("/stats")["came"])


@contextmanager
def web_daemon() -> Iterator[WebDaemon]:
    """A web daemon of our own."""
    command = [sys.executable, str(LEAN / "web_daemon.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield WebDaemon(process, int(process.stdout.readline()))


@dataclass(frozen=True)
class Ran:
    """What a run gave. Rates a second, microseconds of CPU per task by role."""

    tasks_in: float
    webhooks_out: float
    cpu_us: dict[str, float]
    lost: int
    twice: int

    @property
    def all_us(self) -> float:
        """Of all roles."""
        return sum(self.cpu_us.values())


def flood(side: Side, daemon: WebDaemon, count: int, look: Callable[[], None] = lambda: None) -> Ran:
    """Send `count` tasks as fast as they are taken, and wait until the last has come. Raises `Stuck`."""
    daemon.ask("/forget")
    before = _cpu_s(side)
    with _client(side, daemon, 0, count, CONNECTIONS, 0.0) as client:
        for _ in watch(daemon.came, count, poll_s=0.1):
            look()
        told = _said(client)
    _rest(side)
    after, came = _cpu_s(side), daemon.ask("/stats")
    if told["refused"]:
        raise Stuck(f"{side.name} refused tasks: {told['refused']}\n{side.tail()}")
    return Ran(
        tasks_in=count / (told["ended"] - told["began"]),
        webhooks_out=count / (came["last"] - told["began"]),
        cpu_us={role: (used - before.get(role, 0.0)) / count * 1e6 for role, used in after.items()},
        lost=count - came["came"],
        twice=came["twice"],
    )


def idle(side: Side, daemon: WebDaemon, count: int) -> tuple[float, float]:
    """Milliseconds from the request to its webhook, p50 and p99 of `count` tasks, one every `EVERY_S`."""
    took_ms: list[float] = []
    for first, number in ((0, 20), (20, count)):  # the first ones find connections and caches cold
        daemon.ask("/forget")
        with _client(side, daemon, first, number, 1, EVERY_S) as client:
            list(watch(daemon.came, number, poll_s=0.5))
            _said(client)
        took_ms = daemon.ask("/stats/whole")["took_ms"]
    _rest(side)
    cuts = statistics.quantiles(took_ms, n=100)
    return cuts[49], cuts[98]


def _client(
    side: Side, daemon: WebDaemon, first: int, count: int, connections: int, every_s: float
) -> subprocess.Popen[str]:
    arguments = (side.port, side.path, daemon.url, first, count, connections, every_s)
    command = [sys.executable, str(LEAN / "client.py"), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def _said(client: subprocess.Popen[str]) -> Any:
    told, _ = client.communicate(timeout=60)
    if client.returncode != 0:
        raise Stuck(f"the client has failed: status={client.returncode}")
    return json.loads(told)


def _rest(side: Side) -> None:
    until = time.monotonic() + 30.0
    while not side.at_rest():
        if time.monotonic() > until:
            raise Stuck(f"{side.name} is not at rest after its last webhook\n{side.tail()}")
        time.sleep(0.05)


def _cpu_s(side: Side) -> dict[str, float]:
    used = {role: accounting.cpu_s(pids) for role, pids in side.roles().items()}
    return {**used, "broker": accounting.cpu_s([side.room.lab.broker.pid])}
