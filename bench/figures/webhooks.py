"""Over HTTP: tasks in, webhooks out, the CPU that it costs, one task at a time; beside FastAPI, Celery and requests.

And the same with a million tasks in the book that are not due: they slow nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from bench.contenders.over_http import Fronted, Pieced, Side
from bench.findings import Findings, Row, Spread, Target
from bench.lab import Lab, Room, say
from bench.throughput import Stuck
from bench.webhook_runs import Ran, WebDaemon, flood, idle, web_daemon
from postgresql import PrivatePostgresql

ROUNDS = 3
IN, OUT, CPU, IDLE = Target(at_least=8), Target(at_least=6), Target(at_most=1 / 6), Target(at_most=4, of_ratio=False)
MIYAMOTO = "Miyamoto's own figure"
MIYAMOTO_IN, MIYAMOTO_OUT = 600.0, 250.0
FLAT_RATE, FLAT_TIME = Target(at_least=0.8), Target(at_most=1.25)
FEW = 500
"""Tasks that warm a side up."""


class Measured(NamedTuple):
    """Of one round."""

    ran: Ran
    p50_ms: float
    p99_ms: float


def measure(lab: Lab) -> Findings:
    """Everybody by turns."""
    findings = Findings()
    with _postgresql(lab) as server, web_daemon() as daemon:
        ours: Mapping[str, Callable[[Room], Side]] = {
            "taskqueue": Fronted,
            "taskqueue, PostgreSQL": partial(Fronted, server=server),
        }
        peers: Mapping[str, Callable[[Room], Side]] = {
            "prefork": partial(Pieced, pool="prefork", concurrency=8),
            "gevent": partial(Pieced, pool="gevent", concurrency=200),
        }
        counts = {**dict.fromkeys(ours, lab.count_of(20_000, 2_000)), **dict.fromkeys(peers, lab.pick(3_000, 600))}
        found: dict[str, list[Measured]] = {}
        names: dict[str, str] = {}
        for number in lab.rounds_of(ROUNDS):
            for key, make in {**ours, **peers}.items():
                where = f"http, round {number + 1}, {key}"
                with lab.room(f"http-{key}") as room, make(room) as side:
                    names[key] = side.name
                    side.start()
                    measured = _one(lab, findings, where, side, daemon, counts[key], mine=key in ours)
                if measured is not None:
                    found.setdefault(key, []).append(measured)
    for key in ours:
        if key in found:
            findings.rows += _rows(key, found[key], {names[peer]: found[peer] for peer in peers if peer in found})
    return findings


def _one(
    lab: Lab, findings: Findings, where: str, side: Side, daemon: WebDaemon, count: int, *, mine: bool
) -> Measured | None:
    """Warm up, one at a time, then all at once; None where it got stuck."""
    try:
        flood(side, daemon, min(FEW, count))
        p50_ms, p99_ms = idle(side, daemon, lab.pick(200, 100))
        ran = flood(side, daemon, count)
    except Stuck as error:
        say(f"{where}: {error}\n{side.tail()}")
        (findings.lost if mine else findings.notes).append(f"{where}: {str(error).splitlines()[0]}")
        return None
    roles = ", ".join(f"{role} {used:.0f}" for role, used in sorted(ran.cpu_us.items()))
    say(
        f"{where}: {ran.tasks_in:,.0f}/s in, {ran.webhooks_out:,.0f}/s out, {ran.all_us:.0f} µs a task ({roles}), "
        f"idle p50 {p50_ms:.2f} ms, p99 {p99_ms:.2f} ms"
    )
    if ran.lost:
        (findings.lost if mine else findings.notes).append(f"{where}: {ran.lost} of {count} webhooks lost")
    if ran.twice:
        findings.notes.append(f"{where}: {ran.twice} of {count} webhooks came twice")
    return Measured(ran, p50_ms, p99_ms)


def _rows(name: str, ours: list[Measured], peers: Mapping[str, list[Measured]]) -> list[Row]:
    """Our figures beside everybody's, and Miyamoto's."""
    figure = "http" if name == "taskqueue" else "http, PostgreSQL"
    kinds: tuple[tuple[str, str, Callable[[Measured], float], Target | None], ...] = (
        ("tasks in", "/s", lambda one: one.ran.tasks_in, IN),
        ("webhooks out", "/s", lambda one: one.ran.webhooks_out, OUT),
        ("CPU per task, all of it", "µs", lambda one: one.ran.all_us, CPU),
        ("idle, POST to webhook, p99", "ms", lambda one: one.p99_ms, None),
    )
    rows = [
        Row(figure, what, unit, Spread.of(map(value, ours)), peer, Spread.of(map(value, theirs)), target)
        for what, unit, value, target in kinds
        for peer, theirs in peers.items()
    ]
    for what, unit, value, by_miyamoto in (
        (*kinds[0][:3], MIYAMOTO_IN),
        (*kinds[1][:3], MIYAMOTO_OUT),
    ):
        rows.append(Row(figure, what, unit, Spread.of(map(value, ours)), MIYAMOTO, Spread.of([by_miyamoto])))
    p50 = Spread.of(one.p50_ms for one in ours)
    for peer, theirs in peers.items():
        rows.append(
            Row(figure, "idle, POST to webhook, p50", "ms", p50, peer, Spread.of(t.p50_ms for t in theirs), IDLE)
        )
    for role in sorted(role for role, used in ours[0].ran.cpu_us.items() if used >= 1.0):
        rows.append(Row(figure, f"CPU per task, {role}", "µs", Spread.of(one.ran.cpu_us[role] for one in ours)))
    return rows


# -- growth


def measure_growth(lab: Lab) -> Findings:
    """The same with tasks in the book that are not due, in steps."""
    findings = Findings()
    sizes = lab.pick((0, 100_000, 1_000_000), (0, 20_000))
    count = lab.count_of(10_000, 1_000)
    with _postgresql(lab) as server, web_daemon() as daemon:
        for book, make in (("SQLite", Fronted), ("PostgreSQL", partial(Fronted, server=server))):
            found: dict[int, list[Measured]] = {}
            for number in lab.rounds_of(1):
                for size in sizes:
                    where = f"http-growth, round {number + 1}, {book}, {size:,} scheduled"
                    with lab.room(f"growth-{book}-{size}") as room, make(room) as side:
                        side.start_front()
                        began = time.monotonic()
                        fill(side, size)
                        say(f"{where}: written in {time.monotonic() - began:.1f} s")
                        side.start()
                        measured = _one(lab, findings, where, side, daemon, count, mine=True)
                    if measured is not None:
                        found.setdefault(size, []).append(measured)
            findings.rows += _growth_rows(book, sizes, found)
    return findings


def fill(side: Fronted, size: int) -> None:
    """Put `size` tasks into the queue `default` that are due in an hour or later, by SQL."""
    spec = json.dumps({"method": "POST", "headers": [], "api": "native"})
    columns = (
        "id, queue, worker_type, state, due_ms, created_ms, scheduled_ms, url, origin, handout, begun, attempts,"
        " responses, crashes, cancel_requested, spec, body"
    )
    due_ms = int((time.time() + 3600) * 1000)
    kept_now = int(time.time() * 1000)
    for first in range(0, size, 100_000):
        last = min(size, first + 100_000) - 1
        side.sql(
            f"INSERT INTO tasks ({columns}) {side.numbers(first, last)} SELECT {side.padded_id}, 'default', 'webhook',"
            f" 'scheduled', {due_ms} + n, {kept_now}, {due_ms} + n, 'http://127.0.0.1:9/later', 'http://127.0.0.1:9',"
            f" 0, 0, 0, 0, 0, 0, '{spec}', {side.a_body} FROM numbers"
        )
    side.sql("INSERT INTO lanes (queue, worker_type) VALUES ('default', 'webhook') ON CONFLICT DO NOTHING")


def _growth_rows(book: str, sizes: tuple[int, ...], found: Mapping[int, list[Measured]]) -> list[Row]:
    if sizes[0] not in found:
        return []
    kinds: tuple[tuple[str, str, Callable[[Measured], float], Target], ...] = (
        ("tasks in", "/s", lambda one: one.ran.tasks_in, FLAT_RATE),
        ("webhooks out", "/s", lambda one: one.ran.webhooks_out, FLAT_RATE),
        ("CPU per task", "µs", lambda one: one.ran.all_us, FLAT_TIME),
        ("idle p50", "ms", lambda one: one.p50_ms, FLAT_TIME),
    )
    none = found[sizes[0]]
    return [
        Row("http-growth", f"{book}, {size:,} scheduled: {what}", unit, Spread.of(map(value, found[size])),
            "with none", Spread.of(map(value, none)), target)
        for size in sizes[1:] if size in found
        for what, unit, value, target in kinds
    ]  # fmt: skip


@contextmanager
def _postgresql(lab: Lab) -> Iterator[PrivatePostgresql]:
    """A server with its durability as installed: every commit is on the disk."""
    with PrivatePostgresql(lab.directory / "postgresql") as server:
        yield server
