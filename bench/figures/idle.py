"""Workers that have nothing to do: their memory, their CPU time, their wake-ups."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from bench import accounting
from bench.contenders import peers
from bench.contenders.base import Contender
from bench.contenders.ours import Ours
from bench.contenders.peers import Peer
from bench.findings import Findings, Row, Spread, Target, rows_of
from bench.lab import Lab, Room, say
from bench.workitems import Batch
from waiting import wait_for

WORKERS, MANY = 20, 100
SETTLE_S = 3.0
"""From the last worker's readiness: what a start leaves to do is done by then."""


def measure_memory(lab: Lab) -> Findings:
    """PSS of a pool's whole tree with 20 workers of one type, and with 100; Celery's with 20. Fresh, and after work."""
    many = lab.pick(MANY, 30)
    makers: dict[str, Callable[[Room], Contender]] = {
        "ours": partial(Ours, workers=WORKERS),
        "many": partial(Ours, workers=many),
        "celery": partial(Peer, kind=peers.CELERY, workers=WORKERS),
    }
    found: dict[str, dict[str, list[dict[str, float]]]] = {
        when: {key: [] for key in makers} for when in ("fresh", "after work")
    }
    for number in lab.rounds_of(1):
        for key, make in makers.items():
            with lab.room(f"memory-{key}") as room, make(room) as contender:
                contender.prepare(Batch(lab.count_of(5_000, 500)))
                contender.start()
                contender.wait_ready()
                found["fresh"][key].append(_settled_mib(contender))
                contender.publish()
                wait_for(lambda: contender.done() >= contender.submitted, 120.0, "all is done")
                found["after work"][key].append(_settled_mib(contender))
                contender.stop()
            fresh, worked = (sum(found[when][key][-1].values()) for when in found)
            where = f"memory, round {number + 1}, {contender.name}, {contender.workers} workers"
            say(f"{where}: {fresh:.1f} MiB, after work {worked:.1f} MiB, all processes")
    return Findings([*_memory(found["fresh"], "fresh", many), *_memory(found["after work"], "after work", many)])


def _memory(found: dict[str, list[dict[str, float]]], when: str, many: int) -> list[Row]:
    """The rows of one moment; the targets are for fresh workers, as Celery's figure is."""
    trees = {key: Spread.of(_tree_mib(each) for each in rounds) for key, rounds in found.items()}
    more = Spread.of(
        (y - x) / (many - WORKERS) for x, y in zip(trees["ours"].values, trees["many"].values, strict=True)
    )
    with_dispatcher = Spread.of(sum(each.values()) for each in found["ours"])
    celery, name = trees["celery"], peers.CELERY.name
    quarter, few = (Target(at_most=0.25), Target(at_most=2.5, of_ratio=False)) if when == "fresh" else (None, None)
    return [
        Row("memory", f"{WORKERS} workers, {when}", "MiB", trees["ours"], name, celery, quarter),
        Row("memory", f"{WORKERS} workers and a dispatcher, {when}", "MiB", with_dispatcher, name, celery),
        Row("memory", f"{many} workers, {when}", "MiB", trees["many"]),
        Row("memory", f"each worker more, {when}", "MiB", more, target=few),
        *(
            Row(
                "memory", f"{role} of {WORKERS} workers, {when}", "MiB", Spread.of(each[role] for each in found["ours"])
            )
            for role in ("workerpool", "listener", "template")
        ),
    ]


def _tree_mib(by_role: dict[str, float]) -> float:
    """The dispatcher is a service of its own: one is enough for many pools."""
    return sum(mib for role, mib in by_role.items() if role != "dispatcher")


def _settled_mib(contender: Contender) -> dict[str, float]:
    """By role."""
    time.sleep(SETTLE_S)
    return {role: accounting.pss_bytes(pids) / accounting.MIB for role, pids in contender.roles().items()}


def measure_idle(lab: Lab) -> Findings:
    """CPU time of all processes with 20 workers over 30 s, and how often the busiest is woken."""
    length_s = lab.pick(30.0, 5.0)
    percents: dict[str, list[float]] = {}
    wakeups: dict[str, list[float]] = {}
    makers: tuple[Callable[[Room], Contender], ...] = (
        partial(Ours, workers=WORKERS),
        partial(Peer, kind=peers.CELERY, workers=WORKERS),
    )
    for number in lab.rounds_of(1):
        for make in makers:
            with lab.room("idle") as room, make(room) as contender:
                contender.prepare(Batch(1))
                contender.start()
                contender.wait_ready()
                time.sleep(SETTLE_S)
                pids = contender.pids()
                used_s, woken = accounting.runtime_s(pids), {pid: accounting.wakeups(pid) for pid in pids}
                time.sleep(length_s)
                percent = (accounting.runtime_s(pids) - used_s) / length_s * 100
                often = max(accounting.wakeups(pid) - woken[pid] for pid in pids) / length_s
                contender.stop()
            say(f"idle, round {number + 1}, {contender.name}: {percent:.3f} % of a core, {often:.2f} wake-ups/s")
            percents.setdefault(contender.name, []).append(percent)
            wakeups.setdefault(contender.name, []).append(often)
    return Findings(
        [
            *rows_of("idle", f"CPU, {WORKERS} workers", "%", percents, Target(at_most=0.1, of_ratio=False)),
            *rows_of("idle", "wake-ups of the busiest process", "/s", wakeups, Target(at_most=1.0, of_ratio=False)),
        ]
    )
