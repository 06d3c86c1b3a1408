"""When work that waits behind long runs goes to other workers, and when back to other hosts."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from listening import HandTurnedLoop, Source, StubConnection, group
from taskqueue.listener.hoarding import Hoarding
from taskqueue.listener.run import Run
from taskqueue.listener.runs import Runs
from taskqueue.protocol.handout_reports import Returned


class Bench:
    """`Hoarding` over a scheduler whose last report is two seconds old."""

    def __init__(self, **settings: Any) -> None:
        self.loop = HandTurnedLoop()
        self.connection = StubConnection(self.loop)
        self.runs = Runs()
        self.handed_back: list[Run] = []
        self.told: list[Returned] = []
        self.recalls: list[Run] = []
        self.shrunk = self.called = 0
        self.scheduler = SimpleNamespace(
            ahead=0, mean_s=0.001, reported_at=time.monotonic() - 2.0, recall_from_slow=self._recall
        )
        self.hoarding = Hoarding(
            self.loop, group(**settings), self.connection, self.runs, self.scheduler,
            SimpleNamespace(shrink=self._shrink), SimpleNamespace(hand_back=self._hand_back), self._on_recalled,
        )  # fmt: skip

    def _hand_back(self, run: Run, why: Returned) -> None:
        self.handed_back.append(run)
        self.told.append(why)

    def _recall(self, longer_s: float) -> list[Run]:
        assert longer_s == 1.0
        return self.recalls

    def _shrink(self) -> None:
        self.shrunk += 1

    def _on_recalled(self) -> None:
        self.called += 1

    def wait(self) -> Run:
        run = Source().run()
        self.runs.waiting.append(run)
        return run

    def check(self) -> None:
        self.hoarding.watch()
        self.hoarding.watch()
        assert self.loop.fire() == 1.0


def test_what_waits_while_all_workers_are_busy_goes_back() -> None:
    bench = Bench()
    waiting = [bench.wait(), bench.wait()]
    bench.check()
    assert bench.handed_back == waiting and not bench.runs.waiting
    assert bench.told == [Returned.HANDED_BACK] * 2
    assert bench.shrunk == 1 and bench.scheduler.mean_s >= 2.0, "the same work does not come back at once"
    assert not bench.loop.timers


def test_what_is_recalled_goes_to_other_workers_first() -> None:
    bench = Bench()
    bench.scheduler.ahead, bench.scheduler.reported_at = 1, time.monotonic()
    bench.recalls = [Source().run()]
    bench.check()
    assert list(bench.runs.waiting) == bench.recalls and bench.called == 1 and not bench.handed_back
    bench.scheduler.reported_at -= 2.0
    bench.recalls = []
    bench.loop.fire()
    assert len(bench.handed_back) == 1, "no worker has taken it"


@pytest.mark.parametrize("flag", ["is_up", "blocked"])
def test_nothing_goes_back_without_a_broker(flag: str) -> None:
    bench = Bench()
    bench.wait()
    setattr(bench.connection, flag, flag == "blocked")
    bench.check()
    assert not bench.handed_back
    setattr(bench.connection, flag, flag == "is_up")
    bench.loop.fire()
    assert len(bench.handed_back) == 1


def test_it_looks_only_while_something_waits() -> None:
    bench = Bench()
    bench.check()
    assert not bench.loop.timers and not bench.called and bench.scheduler.mean_s == 0.001


def test_a_pinned_prefetch_may_be_hoarded() -> None:
    bench = Bench(prefetch=20)
    bench.wait()
    bench.hoarding.watch()
    assert not bench.loop.timers and not bench.handed_back


def test_the_end_hands_back_what_waits_and_recalls_nothing() -> None:
    bench = Bench()
    bench.hoarding.watch()
    run = bench.wait()
    bench.hoarding.end()
    assert bench.handed_back == [run] and bench.told == [Returned.STOPPED]
    bench.scheduler.ahead, bench.recalls = 1, [Source().run()]
    bench.loop.fire()
    assert bench.handed_back == [run] and not bench.runs.waiting and not bench.loop.timers
