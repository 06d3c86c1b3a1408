"""Which of the runs that a worker leaves behind is blamed for its death."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from listening import Source, group
from taskqueue.link import orders
from taskqueue.link.exits import FAILED
from taskqueue.listener.deaths import TIME_LIMIT, Deaths
from taskqueue.listener.run import Run
from taskqueue.listener.runs import Runs
from taskqueue.listener.states import RunState
from taskqueue.listener.worker_process import Death


class Bench:
    """`Deaths` of a group with a time limit of 10 s, with all that follows from them."""

    def __init__(self) -> None:
        self.runs = Runs()
        self.crashed: list[tuple[Run, str]] = []
        self.timed_out: list[Run] = []
        self.to_pool: list[orders.Order] = []
        attempts = SimpleNamespace(
            crashed=lambda run, detail: self.crashed.append((run, detail)),
            timed_out=self.timed_out.append,
            interrupted=self.runs.wait_first,
        )
        peers = SimpleNamespace(to_pool=self.to_pool.append)
        self.deaths = Deaths(group(time_limit_s=10.0), self.runs, attempts, SimpleNamespace(ready=2), peers)

    def run(self, age_s: float = 0.0) -> Run:
        run = Source().run(state=RunState.ASSIGNED)
        run.started = time.monotonic() - age_s
        return run

    def die(
        self, *suspects: Run, unread: tuple[Run, ...] = (), code: int = -11, why: str | None = None, ready: bool = True,
        ordered: bool = False,
    ) -> None:  # fmt: skip
        self.deaths.judge(Death(4711, code, why, ready, list(suspects), list(unread)), ordered=ordered)

    @property
    def waiting(self) -> list[Run]:
        assert all(run.life.state is RunState.WAITING and run.started is None for run in self.runs.waiting)
        return list(self.runs.waiting)


@pytest.fixture
def bench() -> Bench:
    """A bench."""
    return Bench()


@pytest.mark.parametrize(
    ("code", "why", "detail"),
    [
        (-11, None, "the worker died: signal SIGSEGV"),
        (3, None, "the worker died: status 3"),
        (-9, "out of memory", "the worker died: out of memory"),
    ],
)
def test_a_single_suspect_has_crashed(bench: Bench, code: int, why: str | None, detail: str) -> None:
    suspect, unread = bench.run(), bench.run()
    bench.die(suspect, unread=(unread,), code=code, why=why)
    assert bench.crashed == [(suspect, detail)] and bench.waiting == [unread] and not unread.alone
    assert bench.deaths.count == 1 and not bench.to_pool


def test_one_of_several_suspects_is_found_by_running_each_alone(bench: Bench) -> None:
    several = [bench.run(), bench.run()]
    bench.die(*several)
    assert not bench.crashed and bench.waiting == several and all(run.alone for run in several)


def test_only_what_took_too_long_has_timed_out(bench: Bench) -> None:
    overdue, other, unread = bench.run(10.5), bench.run(9.0), bench.run()
    bench.die(overdue, other, unread=(unread,), code=-9, why=TIME_LIMIT)
    assert bench.timed_out == [overdue] and bench.waiting == [other, unread] and not bench.crashed
    assert not other.alone


def test_nobody_is_blamed_when_the_listener_has_its_workers_killed(bench: Bench) -> None:
    running, unread = bench.run(), bench.run()
    bench.die(running, unread=(unread,), code=-9, ordered=True)
    assert bench.waiting == [running, unread] and not bench.crashed and not running.alone


@pytest.mark.parametrize(
    ("ready", "code", "told"), [(True, -11, False), (False, -11, True), (False, 0, False), (False, FAILED, False)]
)
def test_the_pool_learns_of_a_death_before_ready_but_not_twice(
    bench: Bench, ready: bool, code: int, told: bool
) -> None:
    """With status `FAILED` the worker has sent the traceback itself."""
    bench.die(code=code, ready=ready)
    expected: list[Any] = [orders.Failed("worker died before it was ready: signal SIGSEGV", serving=2)]
    assert bench.to_pool == expected * told
