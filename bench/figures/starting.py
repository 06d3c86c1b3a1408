"""How soon there are workers: after a start, and after one was killed, where the plugin's import takes a second."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.contenders import peers
from bench.contenders.base import Contender
from bench.contenders.ours import Ours
from bench.contenders.peers import Peer
from bench.findings import Findings, Target, rows_of
from bench.lab import Lab, Room, say
from bench.throughput import check, watch
from bench.workitems import Batch
from waiting import wait_for

ROUNDS = 3
IMPORT_S = 1.0
WORKERS = 20


def measure_start(lab: Lab) -> Findings:
    """From the start of the services to the first result, less the import; 20 workers, a workitem waits."""
    makers: tuple[Callable[[Room], Contender], ...] = (
        partial(Ours, workers=WORKERS, import_s=IMPORT_S),
        partial(Peer, kind=peers.CELERY, workers=WORKERS, import_s=IMPORT_S),
    )
    over_s: dict[str, list[float]] = {}
    for number in lab.rounds_of(ROUNDS):
        for make in makers:
            with lab.room("start") as room, make(room) as contender:
                contender.prepare(Batch(1))
                contender.publish()
                began = time.monotonic()
                contender.start()
                wait_for(contender.done, 120.0, "a result", poll_s=0.005)
                over = time.monotonic() - began - IMPORT_S
                contender.stop()
            say(f"start, round {number + 1}, {contender.name}: {over:.2f} s over the import")
            over_s.setdefault(contender.name, []).append(over)
    what = f"first result, {WORKERS} workers, over the import"
    return Findings(rows_of("start", what, "s", over_s, Target(at_most=1.0, of_ratio=False)))


def measure_replacement(lab: Lab) -> Findings:
    """From SIGKILL of a worker that runs a task to the next worker's first line of a task; one worker at a time."""
    findings = Findings()
    makers: tuple[tuple[Callable[[Room], Contender], int], ...] = (
        (partial(Ours, workers=1, types={"act": "act"}, import_s=IMPORT_S), lab.pick(10, 3)),
        # it keeps what a killed worker ran for ten seconds: no more than its prefetch
        (partial(Peer, kind=peers.CELERY, workers=1, import_s=IMPORT_S), 3),
    )
    took_ms: dict[str, list[float]] = {}
    for number in lab.rounds_of(ROUNDS):
        for make, kills in makers:
            with lab.room("replacement") as room, make(room) as contender:
                stamps = _stamps_file(room)
                contender.prepare(Batch(kills + 2, "act", nap_s=0.3, stamp=str(stamps)))
                contender.publish()
                contender.start()
                took = [_kill_one(stamps) for _ in range(kills)]
                where = f"replacement, round {number + 1}, {contender.name}"
                if isinstance(contender, Ours):
                    list(watch(contender.done, contender.submitted))
                    contender.stop()
                    check(where, contender.collect(), findings.lost, findings.notes)
            say(f"{where}: {', '.join(f'{each:.1f}' for each in took)} ms")
            took_ms.setdefault(contender.name, []).extend(took)
    target = Target(at_most=30, of_ratio=False)
    findings.rows += rows_of("replacement", "SIGKILL to running a task", "ms", took_ms, target)
    return findings


def _stamps_file(room: Room) -> Path:
    """A file that workers of any user can write to."""
    path = room.directory / "stamps"
    path.touch()
    path.chmod(0o666)
    return path


def _kill_one(stamps: Path) -> float:
    """Kill the worker that runs a task; milliseconds until the next one has begun with one."""
    before = wait_for(lambda: _stamps(stamps), 60.0, "a task is running")
    time.sleep(0.1)  # in the middle of it; and no more than ten deaths a second, which is no crash loop yet
    before = _stamps(stamps)
    _, victim = before[-1]
    killed_at = time.monotonic()
    os.kill(victim, signal.SIGKILL)

    def begun() -> list[float]:
        return [at for at, pid in _stamps(stamps)[len(before) :] if pid != victim]

    return (wait_for(begun, 60.0, "another worker has begun", poll_s=0.005)[0] - killed_at) * 1000


def _stamps(path: Path) -> list[tuple[float, int]]:
    return [(float(at), int(pid)) for at, pid in map(str.split, path.read_text().splitlines())]
