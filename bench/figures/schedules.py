"""Fairness and long tasks: four workers on two hosts, against the schedule that one who knew all would make."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from bench.contenders import peers
from bench.contenders.base import Contender
from bench.contenders.ours import Ours
from bench.contenders.peers import Peer
from bench.findings import Findings, Row, Spread, Target, rows_of
from bench.lab import Lab, Room, say
from bench.throughput import check, watch
from bench.workitems import Batch, numbered

NODES, WORKERS = 2, 2

MAKERS: tuple[Callable[[Room], Contender], ...] = (
    partial(Ours, types={"act": "act"}, nodes=NODES, workers=WORKERS),
    partial(Peer, kind=peers.CELERY_ONE, nodes=NODES, workers=WORKERS),
    partial(Peer, kind=peers.CELERY, nodes=NODES, workers=WORKERS),
)


def ideal_ends(naps: Sequence[float], available: Sequence[float]) -> list[float]:
    """When each task ends, where every task is begun in its turn by whichever worker is free first. `available`: when
    each worker is there; all in seconds."""
    free = list(available)
    heapq.heapify(free)
    ends = []
    for nap_s in naps:
        end = heapq.heappop(free) + nap_s
        heapq.heappush(free, end)
        ends.append(end)
    return ends


def _times(contender: Contender, findings: Findings, where: str) -> dict[int, tuple[float, float]]:
    """When each task began and ended, in monotonic seconds, by its number in the order of submission."""
    account = contender.collect(bodies=True)
    check(where, account, findings.lost if contender.name == Ours.name else findings.notes, findings.notes)
    times = {}
    for number in range(account.submitted):
        if numbered(number) in account.bodies:
            said = json.loads(account.bodies[numbered(number)])
            began, ended, _ = said["result"] if isinstance(said, dict) else said  # Celery wraps it
            times[number] = (began, ended)
    return times


# -- fairness


def measure_fairness(lab: Lab) -> Findings:
    """One long task among many short ones, submitted while all workers are idle."""
    findings = Findings()
    long_s = lab.pick(20.0, 3.0)
    short = Batch(lab.pick(100, 20), "act", nap_s=0.005)
    more = Batch(lab.pick(1_900, 180), "act", nap_s=0.005)
    batches = (short, Batch(1, "act", nap_s=long_s), more)
    naps = [batch.nap_s for batch in batches for _ in range(batch.count)]
    ideal = ideal_ends(naps, [0.0] * NODES * WORKERS)
    ideal_short = max(end for end, nap_s in zip(ideal, naps, strict=True) if nap_s < long_s)
    all_s: dict[str, list[float]] = {}
    short_s: dict[str, list[float]] = {}
    for number in lab.rounds_of(1):
        for make in MAKERS:
            with lab.room("fairness") as room, make(room) as contender:
                where = f"fairness, round {number + 1}, {contender.name}"
                contender.prepare(*batches)
                contender.start()
                contender.wait_ready()
                submitted_at = contender.publish()
                list(watch(contender.done, len(naps), poll_s=0.1))
                contender.stop()
                times = _times(contender, findings, where)
            last = max(ended for _, ended in times.values()) - submitted_at
            last_short = max(ended for task, (_, ended) in times.items() if naps[task] < long_s) - submitted_at
            say(f"{where}: all {last:.2f} s, the short ones {last_short:.2f} s")
            all_s.setdefault(contender.name, []).append(last)
            short_s.setdefault(contender.name, []).append(last_short)
    target = Target(at_most=1.1)
    findings.rows += _rows("fairness", "all tasks", all_s, max(ideal), target)
    findings.rows += _rows("fairness", "last short task", short_s, ideal_short, target)
    return findings


# -- long tasks


def measure_long_tasks(lab: Lab) -> Findings:
    """Many tasks of a second wait; a host is started a second after another has begun with them."""
    findings = Findings()
    batch = Batch(lab.pick(200, 16), "act", nap_s=1.0)
    took_s: dict[str, list[float]] = {}
    later_s = 1.0
    for number in lab.rounds_of(1):
        for make in MAKERS:
            with lab.room("long-tasks") as room, make(room) as contender:
                where = f"long tasks, round {number + 1}, {contender.name}"
                contender.prepare(batch)
                contender.publish()
                contender.start_node(0)
                contender.wait_ready()
                time.sleep(later_s)  # what is measured
                contender.start_node(1)
                list(watch(contender.done, batch.count, poll_s=0.1))
                contender.stop()
                times = _times(contender, findings, where)
            took = max(ended for _, ended in times.values()) - min(began for began, _ in times.values())
            say(f"{where}: {took:.2f} s")
            took_s.setdefault(contender.name, []).append(took)
    ideal = max(ideal_ends([batch.nap_s] * batch.count, [0.0, 0.0, later_s, later_s]))
    findings.rows += _rows("long tasks", f"{batch.count} of 1 s", took_s, ideal, Target(at_most=1.05))
    return findings


def _rows(figure: str, what: str, found: Mapping[str, Sequence[float]], ideal: float, target: Target) -> list[Row]:
    """Ours beside the ideal, which has the target, and beside the others."""
    best = Row(figure, what, "s", Spread.of(found[Ours.name]), "ideal schedule", Spread.of([ideal]), target)
    return [best, *rows_of(figure, what, "s", found)]
