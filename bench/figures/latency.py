"""Latency: one workitem at a time, from its submit to its result at the client, each by its own client."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence

from bench.contenders import peers
from bench.contenders.ours import Ours
from bench.contenders.peers import Kind, Peer
from bench.findings import Findings, Row, Spread, Target
from bench.lab import Lab, say
from bench.workitems import Batch
from taskqueue.client import Client

ROUNDS = 3
WARM = 100
"""The first do not count: connections, caches, prefetch."""
(BODY,) = Batch(1).bodies()


def measure(lab: Lab) -> Findings:
    """Taskqueue and the peers that have a result to wait for, by turns."""
    count = WARM + lab.count_of(2_000, 200)
    contenders: dict[str, Callable[[], Sequence[float]]] = {
        "taskqueue": lambda: _ours(lab, count),
        **{kind.name: lambda kind=kind: _peer(lab, kind, count) for kind in KINDS},  # type: ignore[misc]
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for number in lab.rounds_of(ROUNDS):
        for name, run in contenders.items():
            took_ms = run()[WARM:]
            cuts = statistics.quantiles(took_ms, n=100)
            found[name].append((cuts[49], cuts[98]))
            say(f"latency, round {number + 1}, {name}: p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms")
    spreads = {name: [Spread.of(column) for column in zip(*values, strict=True)] for name, values in found.items()}
    findings = Findings()
    for kind in KINDS:
        for index, what in enumerate(("p50", "p99")):
            ours, theirs = spreads["taskqueue"][index], spreads[kind.name][index]
            findings.rows.append(Row("latency", what, "ms", ours, kind.name, theirs, TARGETS.get(kind.name)))
    return findings


KINDS = (peers.CELERY, peers.CELERY_CONFIRMED, peers.DRAMATIQ_CONFIRMED)
TARGETS = {peers.CELERY.name: Target(at_most=1)}


def _ours(lab: Lab, count: int) -> list[float]:
    workitem = json.loads(BODY)
    with lab.room("latency-ours") as room, Ours(room) as contender:
        room.amqp.declare(contender.inlet)
        contender.start()
        contender.wait_ready()
        took_ms = []
        with Client(room.url) as client:
            for _ in range(count):
                began = time.perf_counter()
                client.wait(client.submit("noop", workitem), timeout_s=60)
                took_ms.append((time.perf_counter() - began) * 1000)
        contender.stop()
    return took_ms


def _peer(lab: Lab, kind: Kind, count: int) -> list[float]:
    with lab.room(f"latency-{kind.name}") as room, Peer(room, kind) as contender:
        contender.start()
        contender.wait_ready()
        took_ms: list[float] = contender.client("latency", str(count), bodies=[("noop", BODY)])
        contender.stop()
    return took_ms
