"""The pool reconciles, reaps, reloads and stops; a group that raises costs the others nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

import blueprints
from clockwork import Clockwork
from taskqueue.errors import ConfigError
from taskqueue.plugins import Plugin
from taskqueue.pool.blueprint import Blueprint
from taskqueue.pool.group import Group as TrueGroup
from taskqueue.pool.pool import Workerpool
from taskqueue.pool.states import GenerationState


class Group:
    """Stands for a group: records the calls to it, and raises in the one named in `raises`."""

    def __init__(self, loop: object, blueprint: Blueprint, on_stopped: Callable[[Any], None]) -> None:
        self.name = blueprint.settings.name
        self.calls: list[str] = []
        self.broken: list[str] = []
        self.pids: set[int] = set()
        self.raises, self.asks = "", 0
        self.stopped = lambda: on_stopped(self)

    def broke(self, why: str) -> None:
        self.broken.append(why)

    def _called(self, call: str) -> None:
        self.calls.append(call)
        if call.partition(" ")[0] == self.raises:
            raise KeyError(call)

    def run_by(self, blueprint: Blueprint, stop_timeout_s: float) -> None:
        self._called(f"run_by {blueprint.settings.workers} {stop_timeout_s:g}")

    def stop(self) -> None:
        self._called("stop")

    def stop_now(self) -> None:
        self._called("stop_now")

    def reaped(self, pid: int, exit_code: int) -> None:
        self.pids.discard(pid)
        self._called(f"reaped {pid} {exit_code}")

    def ask_status(self, done: Callable[[], None]) -> int:
        self._called("ask_status")
        self.done = done
        return self.asks

    def status(self) -> dict[str, Any]:
        self._called("status")
        return {"name": self.name}


class Children:
    """Stands for the processes: `dead` is what is to be reaped."""

    def __init__(self) -> None:
        self.dead: list[tuple[int, int]] = []
        self.spared: list[set[int]] = []

    def adopt_orphans(self) -> None:
        """Nothing to do."""

    def reap(self) -> list[tuple[int, int]]:
        dead, self.dead = self.dead, []
        return dead

    def kill_all_but(self, known: Iterable[int]) -> None:
        self.spared.append(set(known))


class Bench:
    """A pool, with a config that a test changes: `workers` by worker type, or an error to raise."""

    def __init__(self) -> None:
        self.loop, self.children = Clockwork(), Children()
        self.groups: dict[str, Group] = {}
        self.ended: list[int] = []
        self.workers = {"a": 1, "b": 1}
        self.error: Exception | None = None
        self.plugins_error: Exception | None = None
        self.pool = Workerpool(
            self.loop, self.load, logs=lambda settings: blueprints.LOGGING, log_fd=None,
            on_stopped=lambda: self.ended.append(1), list_plugins=self.plugins, make_group=self.make,
            children=self.children, claim_cgroup=self.claim,
        )  # fmt: skip

    def load(self) -> SimpleNamespace:
        if self.error:
            raise self.error
        return SimpleNamespace(
            amqp=blueprints.AMQP, warnings=(),
            workerpool=SimpleNamespace(results_ttl_s=1.0, stop_timeout_s=30.0),
            groups=lambda installed: [blueprints.group(name, workers=self.workers[name]) for name in installed],
        )  # fmt: skip

    def plugins(self) -> dict[str, Plugin]:
        if self.plugins_error:
            raise self.plugins_error
        return {name: blueprints.plugin(name) for name in self.workers}

    def make(self, loop: object, blueprint: Blueprint, on_stopped: Callable[[Any], None]) -> Group:
        group = self.groups[blueprint.settings.name] = Group(loop, blueprint, on_stopped)
        return group

    def claim(self) -> Path:
        raise OSError(95, "no cgroup v2 on this host")

    def calls(self) -> dict[str, list[str]]:
        """What each group was called for since the last time."""
        found = {name: group.calls for name, group in self.groups.items()}
        for group in self.groups.values():
            group.calls = []
        return found


@pytest.fixture
def bench() -> Bench:
    """A pool that runs the groups a and b."""
    bench = Bench()
    bench.pool.start(None)
    bench.loop.advance()
    assert bench.calls() == {"a": ["run_by 1 30"], "b": ["run_by 1 30"]}
    return bench


def test_a_reload_makes_changes_and_ends_groups(bench: Bench) -> None:
    bench.workers = {"b": 2, "c": 1}
    bench.pool.reload()
    assert bench.calls() == {"a": ["stop"], "b": ["run_by 2 30"], "c": []}, "one in each turn"
    bench.loop.advance()
    assert bench.calls() == {"a": [], "b": [], "c": ["run_by 1 30"]}
    assert [group["name"] for group in bench.pool.status()["groups"]] == ["b", "c", "a"]
    bench.groups["a"].stopped()
    assert [group["name"] for group in bench.pool.status()["groups"]] == ["b", "c"]
    assert bench.ended == []


@pytest.mark.parametrize(
    ("config", "plugins", "logged"),
    [
        (ConfigError(["one", "two"]), None, ["one", "two", "not reloaded: the config has 2 faults"]),
        (OSError(24, "Too many open files"), None, ["not reloaded: unexpected error"]),
        (None, KeyError("METADATA"), ["not reloaded: unexpected error"]),
    ],
)
def test_a_reload_that_fails_changes_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture, config: Exception | None, plugins: Exception | None, logged: Any
) -> None:
    bench.workers, bench.error, bench.plugins_error = {"c": 1}, config, plugins
    bench.pool.reload()
    bench.loop.advance()
    assert [line.removesuffix("; nothing was changed") for line in caplog.messages] == logged
    assert bench.calls() == {"a": [], "b": []}


def test_a_death_is_told_to_the_group_that_it_belongs_to(bench: Bench) -> None:
    bench.groups["a"].pids, bench.groups["b"].pids = {11, 12}, {21}
    bench.children.dead = [(12, -9), (99, 0)]
    bench.loop.signal(signal.SIGCHLD)
    assert bench.calls() == {"a": ["reaped 12 -9"], "b": []}
    assert bench.children.spared == [{11, 21}], "what the template has left behind is killed"
    bench.children.dead = [(99, 0)]
    bench.loop.signal(signal.SIGCHLD)
    assert len(bench.children.spared) == 1, "an orphan leaves nothing behind"


def test_stop_waits_for_the_last_group_and_ends_once(bench: Bench) -> None:
    bench.pool.stop()
    bench.pool.reload()
    bench.pool.stop()
    bench.loop.advance()
    assert bench.calls() == {"a": ["stop", "stop_now"], "b": ["stop", "stop_now"]} and not bench.ended
    assert bench.pool.status()["state"] == "stopping"
    bench.groups["a"].stopped()
    bench.groups["b"].stopped()
    bench.loop.advance()
    assert bench.ended == [1] and bench.children.spared == [set()]


def test_a_pool_without_groups_stops_at_once() -> None:
    bench = Bench()
    bench.workers = {}
    bench.pool.start(None)
    bench.pool.stop()
    bench.loop.advance()
    assert bench.ended == [1]


@pytest.mark.parametrize(
    ("call", "act"),
    [
        ("run_by 1 30", lambda bench: (bench.pool.reload(), bench.loop.advance())),
        ("reaped 1 0", lambda bench: bench.loop.signal(signal.SIGCHLD)),
        ("ask_status", lambda bench: bench.pool._gather_status(lambda document: None)),
        ("status", lambda bench: bench.pool.status()),
        ("stop", lambda bench: bench.pool.stop()),
        ("stop_now", lambda bench: (bench.pool.stop(), bench.pool.stop())),
    ],
)
def test_a_group_that_raises_is_broken_and_the_others_live(
    bench: Bench, caplog: pytest.LogCaptureFixture, call: str, act: Callable[[Bench], object]
) -> None:
    for group in bench.groups.values():
        group.pids = {1} if group.name == "a" else {2}
    bench.children.dead = [(1, 0), (2, 0)]
    a, b = bench.groups["a"], bench.groups["b"]
    a.raises = call.split()[0]
    act(bench)
    assert len(a.broken) == 1 and f"KeyError: '{call}'" in a.broken[0]
    assert call.replace("1 0", "2 0") in b.calls and not b.broken
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError]
    if call == "reaped 1 0":
        assert bench.children.spared == [set()], "orphans are killed all the same"


def test_a_defect_in_one_generation_and_the_other_group_runs() -> None:
    """With true groups: what raises in a's generation makes a back off."""

    class Broken:
        pids: ClassVar[dict[str, int]] = {}
        status: ClassVar[dict[str, Any]] = {}

        def __init__(self, loop: object, blueprint: Blueprint, **callbacks: Any) -> None:
            self.name, self.ready = blueprint.settings.name, lambda: callbacks["on_ready"](self)
            self.started, self.max_memory_by, self.user, self.last_error = 0, None, "u", None
            self.life = SimpleNamespace(state=GenerationState.STARTING)

        def start(self) -> None:
            if self.name == "a":
                raise TypeError("a defect")
            self.ready()

        def abandon(self) -> None:
            """It has no processes."""

    bench = Bench()
    bench.pool._make_group = partial(TrueGroup, make_generation=Broken)
    bench.pool.start(None)
    bench.loop.advance()
    a, b = bench.pool.status()["groups"]
    assert (a["state"], b["state"]) == ("backoff", "running")
    assert a["last_error"].endswith("TypeError: a defect") and a["next_try_at"]
    bench.loop.advance(60.0)
    assert bench.pool.status()["groups"][0]["restarts"] > 3, "and is tried again, for ever"


def test_the_document_is_answered_when_all_have_reported_or_after_half_a_second(bench: Bench) -> None:
    for name, waits in (("quick", True), ("slow", False)):
        answers = []
        bench.groups["a"].asks, bench.groups["b"].asks = 2, 1
        bench.pool._gather_status(answers.append)
        bench.groups["a"].done()
        bench.groups["a"].done()
        assert not answers
        bench.groups["b"].done() if waits else bench.loop.advance(0.5)
        assert len(answers) == 1, name
        bench.groups["b"].done()
        bench.loop.advance(0.5)
        assert len(answers) == 1, "one answer"
