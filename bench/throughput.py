"""How many workitems a second: counted from outside, at the queue where they come out, the same for everybody."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bench import accounting
from bench.contenders.base import Account, Contender
from bench.findings import Findings, Spread
from bench.lab import Lab, Room, say
from bench.workitems import Batch

WARM = 0.01
"""The clock starts when this part of the workitems has been taken: until then, a contender is still starting."""
STUCK_S = 90.0
"""Nothing has come out for so long: nothing more will."""


class Stuck(Exception):
    """A contender does not go on."""


@dataclass(frozen=True)
class Pass:
    """One run of a contender: workitems a second, CPU microseconds per workitem by role, and what came out."""

    rate: float
    cpu_us: dict[str, float]
    account: Account


def watch(done: Callable[[], int], total: int, *, poll_s: float = 0.05) -> Iterator[tuple[float, int]]:
    """The monotonic time and how many are done, again and again, the last time when all are. Raises `Stuck`."""
    moved_at, before = time.monotonic(), -1
    while True:
        count = done()
        now = time.monotonic()
        yield now, count
        if count >= total:
            return
        if count != before:
            moved_at, before = now, count
        elif now - moved_at > STUCK_S:
            raise Stuck(f"{count} of {total} came out, and no more for {STUCK_S:.0f} s")
        time.sleep(poll_s)


def measure(contender: Contender, batch: Batch, look: Callable[[float, int], None] = lambda now, done: None) -> Pass:
    """Let a contender do what waits for it. `look` is called with the time and how many are done, again and again."""
    contender.prepare(batch)
    contender.publish()
    total = contender.submitted
    contender.start_on_waiting()
    *_, (begun_at, _) = watch(contender.taken, max(1, round(WARM * total)))
    out, before = contender.done(), cpu_s(contender)
    ended_at = 0.0
    for ended_at, done in watch(contender.done, total):
        look(ended_at, done)
    after = cpu_s(contender)
    contender.stop()
    counted = max(1, total - out)
    return Pass(
        rate=counted / max(1e-3, ended_at - begun_at),
        cpu_us={role: (used - before.get(role, 0.0)) / counted * 1e6 for role, used in after.items()},
        account=contender.collect(),
    )


def cpu_s(contender: Contender) -> dict[str, float]:
    """CPU seconds so far by role, the broker's too."""
    used = {role: accounting.cpu_s(pids) for role, pids in contender.roles().items()}
    return {**used, "broker": accounting.cpu_s([contender.room.lab.broker.pid])}


@dataclass
class Passes:
    """All runs of a contender."""

    name: str
    passes: list[Pass]

    @property
    def rate(self) -> Spread:
        """Workitems a second."""
        return Spread.of(each.rate for each in self.passes)

    def cpu_us(self, *roles: str) -> Spread:
        """CPU microseconds per workitem in these roles together; in all but the broker, where none is named."""
        return Spread.of(
            sum(used for role, used in each.cpu_us.items() if role in roles or (not roles and role != "broker"))
            for each in self.passes
        )


class Entrant(NamedTuple):
    """Who is measured, and on what."""

    make: Callable[[Room], Contender]
    batch: Batch


def alternate(
    lab: Lab, rounds: range, title: str, entrants: Mapping[str, Entrant], findings: Findings
) -> dict[str, Passes]:
    """Measure the contenders by turns, each in a room of its own, in every round; all that went through, by key.

    Key `ours` is taskqueue: what it loses is a loss, what others lose is a note.
    """
    found: dict[str, Passes] = {}
    for number in rounds:
        for key, (make, batch) in entrants.items():
            with lab.room(f"{title}-{key}") as room, make(room) as contender:
                where = f"{title}, round {number + 1}, {contender.name}"
                troubles = findings.lost if key == "ours" else findings.notes
                try:
                    measured = measure(contender, batch)
                except Stuck as error:
                    say(f"{where}: {error}\n{contender.tail()}")
                    troubles.append(f"{where}: {error}")
                    continue
                found.setdefault(key, Passes(contender.name, [])).passes.append(measured)
            say(f"{where}: {measured.rate:,.0f}/s")
            check(where, measured.account, troubles, findings.notes)
    return found


def check(where: str, account: Account, troubles: list[str], notes: list[str]) -> None:
    """Every id once: what is missing or was never submitted is trouble, a duplicate is noted."""
    if account.lost:
        troubles.append(f"{where}: {account.lost} of {account.submitted} workitems lost")
    if account.waiting:
        notes.append(f"{where}: {account.waiting} of {account.submitted} workitems were left waiting")
    if account.unexpected:
        troubles.append(f"{where}: {account.unexpected} results of workitems that were never submitted")
    if account.duplicated:
        notes.append(f"{where}: {account.duplicated} of {account.submitted} workitems came out more than once")
