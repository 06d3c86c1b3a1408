"""End to end: workitems wait in `taskqueue`, go through dispatcher and two workers, and their results are in `results`,
all confirmed. And what that costs in CPU time, process by process.

The peers get a third as many workitems, so that a run does not take an hour: their rate does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from bench.contenders import peers
from bench.contenders.base import Contender
from bench.contenders.forwarders import Forwarders
from bench.contenders.ours import Ours
from bench.contenders.peers import Peer
from bench.findings import Findings, Row, Target
from bench.lab import Lab, Room
from bench.throughput import Entrant, Passes, alternate
from bench.workitems import Batch

ROUNDS = 3
MAKERS: Mapping[str, Callable[[Room], Contender]] = {
    "ours": Ours,
    "limit": partial(Forwarders, hops=2),
    "celery": partial(Peer, kind=peers.CELERY),
    "celery-one": partial(Peer, kind=peers.CELERY_ONE),
    "celery-confirmed": partial(Peer, kind=peers.CELERY_CONFIRMED),
    "dramatiq-results": partial(Peer, kind=peers.DRAMATIQ_RESULTS),
    "dramatiq-confirmed": partial(Peer, kind=peers.DRAMATIQ_CONFIRMED),
    "dramatiq": partial(Peer, kind=peers.DRAMATIQ),
    "taskiq": partial(Peer, kind=peers.TASKIQ),
}
_CELERY, _DRAMATIQ = Target(at_least=5), Target(at_least=1.5)
TARGETS = {
    "limit": Target(at_least=0.5),
    "celery": _CELERY,
    "celery-one": _CELERY,
    "celery-confirmed": _CELERY,
    "dramatiq-results": _DRAMATIQ,
    "dramatiq-confirmed": _DRAMATIQ,
}
ROLES = ("dispatcher", "listener", "worker", "broker")


def measure(lab: Lab) -> Findings:
    """The rate of everybody, and the cost."""
    return _measure(lab, MAKERS)


def measure_cost(lab: Lab) -> Findings:
    """Our cost alone."""
    return _measure(lab, {"ours": Ours})


def _measure(lab: Lab, makers: Mapping[str, Callable[[Room], Contender]]) -> Findings:
    findings = Findings()
    batch, fewer = Batch(lab.count_of(60_000, 3_000)), Batch(lab.count_of(20_000, 1_000))
    entrants = {key: Entrant(make, batch if key in ("ours", "limit") else fewer) for key, make in makers.items()}
    passes = alternate(lab, lab.rounds_of(ROUNDS), "end to end", entrants, findings)
    ours = passes.pop("ours", None)
    if ours is not None:
        for key, theirs in passes.items():
            findings.rows.append(
                Row("end to end", "2 workers", "/s", ours.rate, theirs.name, theirs.rate, TARGETS.get(key))
            )
        findings.rows += _cost(ours, passes.get("celery"))
    return findings


def _cost(ours: Passes, celery: Passes | None) -> list[Row]:
    """CPU per workitem; all our processes together, and the broker, also beside Celery's."""
    rows = [Row("cost", role, "µs", ours.cpu_us(role)) for role in ROLES[:-1]]
    for what, roles in (("all processes but the broker", ()), ("broker", ("broker",))):
        theirs = celery.cpu_us(*roles) if celery is not None else None
        rows.append(Row("cost", what, "µs", ours.cpu_us(*roles), celery.name if celery else "", theirs))
    return rows
