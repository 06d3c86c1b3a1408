"""Growth: what becomes of rate and memory as the backlog, the bodies, the types or the workers grow. No peers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

from bench import accounting
from bench.contenders.ours import Ours
from bench.findings import Curve, Findings, Plot, Row, Spread, Target
from bench.lab import Lab, Room, say
from bench.throughput import Pass, Stuck, check, measure
from bench.workitems import Batch

KIB = 1024
MIB = accounting.MIB

FLAT_RATE = Target(at_least=0.8)
FLAT_MEMORY = Target(at_most=1.2)
"""What passes for flat."""


class Samples:
    """Taken of a run once a second, or less often where that would cost more than a fiftieth of a core: how many are
    done, and the memory of our processes by role and of the broker."""

    def __init__(self, contender: Ours, every_s: float) -> None:
        self._contender = contender
        self._every_s = every_s
        self._next = 0.0
        self.done: list[tuple[float, int]] = []
        self.mib: list[dict[str, float]] = []

    def __call__(self, now: float, done: int) -> None:
        """To be called at every look."""
        if now < self._next:
            return
        began = time.monotonic()
        roles = {**self._contender.roles(), "broker": {self._contender.room.lab.broker.pid}}
        self.done.append((now, done))
        self.mib.append({role: accounting.pss_bytes(pids) / MIB for role, pids in roles.items()})
        self._next = now + max(self._every_s, 50 * (time.monotonic() - began))

    def ours_mib(self) -> list[float]:
        """Of all but the broker."""
        return [sum(used for role, used in each.items() if role != "broker") for each in self.mib]


def measure_growth(lab: Lab) -> Findings:
    """One after the other."""
    findings = Findings()
    for part in (_backlog, _bodies, _types, _workers):
        part(lab, findings)
    return findings


def _run(
    lab: Lab, findings: Findings, what: str, make: Callable[[Room], Ours], batch: Batch
) -> tuple[Pass, Samples] | None:
    """Measure ours once; None where it got stuck, which is a loss."""
    with lab.room(f"growth-{what}") as room, make(room) as contender:
        samples = Samples(contender, lab.pick(1.0, 0.1))
        try:
            measured = measure(contender, batch, look=samples)
        except Stuck as error:
            findings.lost.append(f"growth, {what}: {error}")
            return None
    peak = max(samples.ours_mib(), default=0.0)
    say(f"growth, {what}: {measured.rate:,.0f}/s, at most {peak:.0f} MiB")
    check(f"growth, {what}", measured.account, findings.lost, findings.notes)
    return measured, samples


# -- the backlog


def _backlog(lab: Lab, findings: Findings) -> None:
    sizes = lab.pick((10_000, 100_000, 1_000_000), (1_000, 5_000, 20_000))
    steps = _steps(lab, findings, "backlog", "workitems that wait", {s: (Ours, Batch(s)) for s in sizes}, log_x=True)
    if steps.keys() != set(sizes):
        return
    (few, few_mib, _), (many, many_mib, samples) = steps[sizes[0]], steps[sizes[-1]]
    beside = f"with {sizes[0]:,}"
    findings.rows += [
        Row("growth", f"rate with {sizes[-1]:,}", "/s", Spread.of([many]), beside, Spread.of([few]), FLAT_RATE),
        Row(
            "growth",
            f"memory with {sizes[-1]:,}",
            "MiB",
            Spread.of([many_mib]),
            beside,
            Spread.of([few_mib]),
            FLAT_MEMORY,
        ),
    ]
    left = [sizes[-1] - done for _, done in samples.done]
    rates = [
        ((before + after) / 2, (before - after) / (now - then))
        for (then, _), (now, _), before, after in zip(samples.done, samples.done[1:], left, left[1:], strict=False)
    ]
    memory = [
        Curve(role, [(waiting, used.get(role, 0.0)) for waiting, used in zip(left, samples.mib, strict=True)])
        for role in ("dispatcher", "listener", "worker", "broker")
    ]
    x = "workitems without a result yet"
    findings.plots += [
        Plot("falling-rate", "Rate as a backlog is worked off", x, "workitems a second", [Curve("taskqueue", rates)]),
        Plot("falling-memory", "Memory as a backlog is worked off", x, "MiB", memory),
    ]


# -- steps


def _bodies(lab: Lab, findings: Findings) -> None:
    sizes = {KIB: (20_000, 1_000), 64 * KIB: (3_000, 200), 4 * MIB: (100, 10)}
    makes = {size: (Ours, Batch(lab.pick(*counts), body_bytes=size)) for size, counts in sizes.items()}
    _steps(lab, findings, "bodies", "bytes of a body", makes, log_x=True)


def _types(lab: Lab, findings: Findings) -> None:
    total = lab.pick(20_000, 1_000)
    makes = {}
    for number in (1, 10, lab.pick(100, 20)):
        names = tuple(f"noop{index}" for index in range(number))
        make = partial(Ours, workers=1, types=dict.fromkeys(names, "noop"))
        makes[number] = (make, Batch(total, worker_types=names))
    _steps(lab, findings, "types", "worker types, one worker each", makes, log_x=True)


def _workers(lab: Lab, findings: Findings) -> None:
    batch = Batch(lab.count_of(30_000, 2_000))
    makes = {number: (partial(Ours, workers=number), batch) for number in (1, 2, 4)}
    _steps(lab, findings, "workers", "workers", makes)


def _steps(
    lab: Lab,
    findings: Findings,
    name: str,
    x: str,
    makes: Mapping[int, tuple[Callable[[Room], Ours], Batch]],
    *,
    log_x: bool = False,
) -> dict[int, tuple[float, float, Samples]]:
    """One run of each step, two rows of each, and two plots of all; the rate, the most MiB and the samples of each."""
    found: dict[int, tuple[float, float, Samples]] = {}
    for step, (make, batch) in makes.items():
        if (ran := _run(lab, findings, f"{name} {step:,}", make, batch)) is not None:
            rate, samples = ran[0].rate, ran[1]
            found[step] = (rate, max(samples.ours_mib()), samples)
            findings.rows += [
                Row("growth", f"{x}: {step:,}", "/s", Spread.of([rate])),
                Row("growth", f"{x}: {step:,}", "MiB", Spread.of([found[step][1]])),
            ]
    for what, y, column in (("rate", "workitems a second", 0), ("memory", "MiB, at most", 1)):
        points = [(float(step), float(values[column])) for step, values in found.items()]  # type: ignore[arg-type]
        title = f"{what.capitalize()} by {name}"
        findings.plots.append(Plot(f"{name}-{what}", title, x, y, [Curve("taskqueue", points)], log_x))
    return found
