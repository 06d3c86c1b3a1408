"""The dispatcher's service: a reload replaces what changed, and the end waits for every dispatcher that is drained."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from clockwork import Clockwork
from taskqueue import workitem
from taskqueue.dispatcher.service import Service
from taskqueue.errors import ConfigError


class Dispatcher:
    """Stands for one; `done` is called by the test when it has ended."""

    def __init__(self, settings: Any) -> None:
        self.settings, self.started = settings, False
        self.dispatched, self.dead = 5, 1
        self.done: Callable[[], None] | None = None

    def start(self) -> None:
        self.started = True

    def drain(self, done: Callable[[], None]) -> None:
        assert self.done is None, "drained twice"
        self.done = done


class StoppingLoop(Clockwork):
    """Notes that it was stopped."""

    stopped = 0

    def stop(self) -> None:
        self.stopped += 1


class Bench:
    """A service that runs, and each dispatcher that it has made."""

    def __init__(self) -> None:
        self.loop = StoppingLoop()
        self.made: list[Dispatcher] = []
        self.config: Any = SimpleNamespace(amqp="a", dispatcher="d", logging="l")
        self.service = Service(self.loop, self.load, self.config, self.make)
        self.service.start()

    def make(self, loop: object, settings: Any) -> Dispatcher:
        self.made.append(Dispatcher(settings))
        return self.made[-1]

    def load(self) -> Any:
        if isinstance(self.config, Exception):
            raise self.config
        return self.config


@pytest.mark.parametrize(
    ("config", "made"),
    [
        (SimpleNamespace(amqp="other", dispatcher="d", logging="l"), 2),
        (SimpleNamespace(amqp="a", dispatcher="other", logging="l"), 2),
        (SimpleNamespace(amqp="a", dispatcher="d", logging="other"), 1),
        (ConfigError("a fault"), 1),
        (RuntimeError("a defect"), 1),
    ],
)
def test_a_reload(config: Any, made: int) -> None:
    bench = Bench()
    bench.config = config
    bench.service.reload()
    assert len(bench.made) == made and all(each.started for each in bench.made)
    assert (bench.made[0].done is not None) is (made == 2), "the old one is drained where there is a new one"
    assert bench.made[-1].done is None


def test_the_end_waits_for_all() -> None:
    bench = Bench()
    bench.config = SimpleNamespace(amqp="other", dispatcher="d")
    bench.service.reload()
    old, new = bench.made
    assert old.done
    old.done()
    assert (bench.service.dispatched, bench.service.dead, bench.loop.stopped) == (5, 1, 0)
    bench.service.stop()
    bench.service.reload()
    assert len(bench.made) == 2 and new.done and not bench.loop.stopped
    new.done()
    assert (bench.service.dispatched, bench.service.dead, bench.loop.stopped) == (10, 2, 1)


def test_formats_are_loaded_at_the_start() -> None:
    workitem.formats.cache_clear()
    Bench()
    assert workitem.formats.cache_info().currsize == 1


@pytest.mark.parametrize("hurry", [True, False])
def test_a_broker_that_does_not_answer_does_not_hold_it_up(hurry: bool) -> None:
    bench = Bench()
    bench.service.stop()
    bench.service.stop() if hurry else bench.loop.advance(30.0)
    assert bench.loop.stopped == 1
