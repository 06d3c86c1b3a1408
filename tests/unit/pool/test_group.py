"""How a group keeps a generation running: replaced without a gap, tried again after a failure, killed by a defect."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from blueprints import blueprint
from clockwork import Clockwork
from taskqueue.errors import ConfigError
from taskqueue.foundation.lifecycle import Lifecycle
from taskqueue.pool.blueprint import Blueprint
from taskqueue.pool.group import Group
from taskqueue.pool.states import GENERATION_MOVES, GenerationState, GroupState

FIRST, SECOND = blueprint(workers=1), blueprint(workers=3)


class Generation:
    """Stands for a generation: records what it is asked, and reports what the test says."""

    def __init__(
        self, loop: Any, blueprint: Blueprint, *, on_ready: Any, on_gone: Any, on_error: Any, fails: Exception | None
    ) -> None:
        self.loop, self.blueprint, self.fails = loop, blueprint, fails
        self.life = Lifecycle(GenerationState.STARTING, GENERATION_MOVES)
        self.ready, self.gone = lambda: on_ready(self), lambda: on_gone(self)
        self.error = lambda trace: on_error(self, trace)
        self.pids: dict[str, int] = {}
        self.calls: list[str] = []
        self.status: dict[str, Any] = {}
        self.started, self.ready_at, self.last_error, self.max_memory_by, self.user = 1.0, None, None, None, "u"

    def start(self) -> None:
        if self.fails:
            raise self.fails
        self.pids = {"listener": 2 * id(self), "template": 2 * id(self) + 1}

    def serve(self, for_s: float = 0.0) -> None:
        self.ready_at = time.monotonic() - for_s
        self.ready()

    def die(self, error: str = "it died") -> None:
        self.last_error, self.pids = error, {}
        self.gone()

    def drain(self, stop_timeout_s: float) -> None:
        self.calls.append(f"drain {stop_timeout_s:g}")

    def reaped(self, pid: int, exit_code: int) -> None:
        self.pids = {role: each for role, each in self.pids.items() if each != pid}
        if not self.pids:
            self.gone()

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name not in {"kill", "stop_now", "abandon"}:
            raise AttributeError(name)
        return lambda: self.calls.append(name)


class Bench:
    """A group, and every generation that it has made. `fails`: what the next ones raise at their start."""

    def __init__(self) -> None:
        self.loop = Clockwork()
        self.made: list[Generation] = []
        self.stopped: list[Group] = []
        self.fails: Exception | None = None
        self.group = Group(self.loop, FIRST, self.stopped.append, self.make)

    def make(self, *arguments: Any, **keywords: Any) -> Generation:
        self.made.append(Generation(*arguments, **keywords, fails=self.fails))
        return self.made[-1]

    @property
    def state(self) -> GroupState:
        return self.group.life.state


@pytest.fixture
def bench() -> Bench:
    """A group that was told to run by `FIRST`."""
    bench = Bench()
    bench.group.run_by(FIRST, 30.0)
    return bench


def test_it_runs_once_its_generation_is_ready(bench: Bench) -> None:
    (only,) = bench.made
    assert (only.blueprint, bench.state) == (FIRST, GroupState.STARTING)
    only.serve()
    assert (bench.state, bench.group.generations) == (GroupState.RUNNING, [only])
    bench.group.run_by(FIRST, 30.0)
    assert bench.made == [only], "nothing has changed"


def test_it_is_replaced_without_a_gap(bench: Bench) -> None:
    (old,) = bench.made
    old.serve()
    bench.group.run_by(SECOND, 20.0)
    new = bench.made[-1]
    assert (new.blueprint, old.calls) == (SECOND, []), "the old one serves until the new one does"
    new.serve()
    assert (old.calls, bench.group.generations, bench.state) == (["drain 20"], [old, new], GroupState.RUNNING)
    old.die()
    assert (bench.group.generations, bench.group.restarts) == ([new], 0)


def test_a_replacement_that_fails_is_tried_again_and_the_old_one_serves(bench: Bench) -> None:
    (old,) = bench.made
    old.serve()
    bench.group.run_by(SECOND, 20.0)
    bench.made[-1].die("cannot import")
    assert (bench.state, bench.group.last_error, old.calls) == (GroupState.RUNNING, "cannot import", [])
    bench.loop.advance(1.0)
    assert len(bench.made) == 3
    bench.made[-1].serve()
    assert old.calls == ["drain 20"]


def test_a_replacement_is_replaced_before_it_was_ready(bench: Bench) -> None:
    bench.group.run_by(SECOND, 30.0)
    first, second = bench.made
    assert first.calls == ["drain 30"]
    first.serve()
    assert bench.state is GroupState.STARTING, "too late"
    second.serve()
    assert bench.state is GroupState.RUNNING


@pytest.mark.parametrize(("served_s", "waits"), [(0.0, True), (9.0, True), (11.0, False)])
def test_what_has_served_for_long_is_replaced_at_once(bench: Bench, served_s: float, waits: bool) -> None:
    bench.made[0].serve(served_s)
    bench.made[0].die("signal SIGSEGV")
    assert (len(bench.made) == 1) is waits
    assert bench.state is (GroupState.BACKOFF if waits else GroupState.STARTING)
    assert (bench.group.restarts, bench.group.last_error) == (1, "signal SIGSEGV")


def test_the_wait_grows_to_a_minute_and_a_reload_ends_it(bench: Bench) -> None:
    waits = []
    for _ in range(9):
        bench.made[-1].die()
        (wait,) = bench.loop.due
        waits.append(wait)
        bench.loop.advance(wait)
    assert 0.75 <= waits[0] <= 1.0 and 45.0 <= waits[-1] <= 60.0
    bench.made[-1].die()
    bench.group.run_by(SECOND, 30.0)
    assert not bench.loop.due and bench.made[-1].blueprint == SECOND
    bench.made[-1].die()
    assert bench.loop.due[0] <= 1.0, "another blueprint, another chance"


def test_one_retry_at_a_time(bench: Bench) -> None:
    """The replacement waits to be tried again, and the one that served dies: one new generation, not two."""
    bench.made[0].serve(11.0)
    bench.group.run_by(SECOND, 30.0)
    bench.made[1].die()
    bench.made[0].die()
    bench.loop.advance(60.0)
    assert len(bench.made) == 3


@pytest.mark.parametrize(
    ("fault", "state", "error"),
    [
        (ConfigError("user 'x' does not exist"), GroupState.REFUSED, "user 'x' does not exist"),
        (OSError(11, "Try again", "python"), GroupState.BACKOFF, "cannot start processes: Try again: python"),
    ],
)
def test_what_cannot_be_started(fault: Exception, state: GroupState, error: Any) -> None:
    bench = Bench()
    bench.fails = fault
    bench.group.run_by(FIRST, 30.0)
    assert (bench.state, bench.group.status()["last_error"]) == (state, error)
    bench.fails = None
    bench.group.run_by(SECOND, 30.0)
    bench.made[-1].serve()
    assert (bench.state, bench.group.last_error) == (GroupState.RUNNING, None)


def test_stop(bench: Bench) -> None:
    (only,) = bench.made
    only.serve()
    bench.group.stop()
    assert (only.calls, bench.state, bench.stopped) == (["drain 30"], GroupState.STOPPING, [])
    bench.group.stop_now()
    only.die()
    assert (only.calls[1:], bench.state, bench.stopped) == (["stop_now"], GroupState.STOPPED, [bench.group])
    bench.group.stop()
    assert bench.stopped == [bench.group] and not bench.loop.due


def test_broken_it_kills_all_and_starts_anew(bench: Bench) -> None:
    (old,) = bench.made
    old.serve()
    bench.group.run_by(SECOND, 30.0)
    bench.group.broke("KeyError")
    old, new = bench.made
    assert old.calls == new.calls == ["abandon"]
    assert (bench.state, bench.group.last_error, bench.group.restarts) == (GroupState.BACKOFF, "KeyError", 1)
    for generation in bench.made:
        for pid in list(generation.pids.values()):
            bench.group.reaped(pid, -9)
    assert bench.group.generations == [] and bench.group.restarts == 1
    bench.loop.advance(1.0)
    bench.made[-1].serve()
    assert (bench.state, len(bench.made)) == (GroupState.RUNNING, 3)


def test_broken_while_it_stops_it_stops(bench: Bench) -> None:
    bench.group.stop()
    bench.group.broke("KeyError")
    assert bench.stopped == [] and not bench.loop.due
    bench.made[0].die()
    assert bench.stopped == [bench.group]
    bench.group.broke("KeyError")
    assert bench.state is GroupState.STOPPED


def test_the_same_trace_is_logged_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for trace in ("Trace\nValueError: 1\n", "Trace\nValueError: 1\n", "Trace\nValueError: 2\n"):
        bench.made[0].error(trace)
    assert [line.partition(" group=")[0] for line in caplog.messages] == [
        "group failed:", "group failed again:", "group failed:",
    ]  # fmt: skip
