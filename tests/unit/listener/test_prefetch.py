"""How many workitems a listener holds, and when it consumes."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from listening import HandTurnedLoop, RecordingConsumer, Source, group
from taskqueue.listener.prefetch import Prefetch, adapted, least
from taskqueue.listener.runs import Runs


class Bench:
    """A `Prefetch`, with `ready` workers."""

    def __init__(self, ready: int = 1, **settings: Any) -> None:
        self.loop = HandTurnedLoop()
        self.consumer = RecordingConsumer()
        self.runs = Runs()
        self.workers = SimpleNamespace(ready=ready)
        self.prefetch = Prefetch(self.loop, group(**settings), self.consumer, self.runs, self.workers)

    def hold(self, source: Source) -> None:
        run = source.run()
        self.runs.in_hand[run.number] = run


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 1),
        ({"workers": 3}, 3),
        ({"workers": 3, "concurrency": 10}, 30),
        ({"workers": 7, "concurrency": 10_000}, 65_535),
        ({"workers": 3, "prefetch": 1}, 1),
        ({"workers": 3, "prefetch": 65_535}, 65_535),
    ],
)
def test_one_for_each_that_can_run_within_what_amqp_can_carry(settings: Mapping[str, Any], expected: int) -> None:
    assert least(group(**settings)) == expected


@pytest.mark.parametrize(
    ("current", "mean_s", "expected"),
    [
        (3, None, 3),
        (3, 60.0, 3),
        (3, 0.101, 3),
        (3, 0.1, 6),
        (3, 0.001, 303),
        (3, 0.0, 512),
        (300, 0.0007, 300),
        (303, 0.01, 33),
        (33, 60.0, 3),
        (6, 0.07, 6),
    ],
)
def test_short_work_is_pipelined_and_long_work_is_not(current: int, mean_s: float | None, expected: int) -> None:
    assert adapted(group(workers=3), current, mean_s) == expected


def test_many_workers_are_never_adapted_below_their_number() -> None:
    assert adapted(group(workers=1000), 1000, 0.001) == 1000
    assert adapted(group(workers=10, concurrency=10_000), 65_535, 0.001) == 65_535


def test_a_pinned_prefetch_stays() -> None:
    bench = Bench(prefetch=20)
    bench.prefetch.adapt(0.001, 1e9)
    bench.prefetch.shrink()
    assert bench.prefetch.wanted == 20 and bench.consumer.prefetch == 20


def test_nothing_is_consumed_before_a_worker_is_ready() -> None:
    bench = Bench(ready=0, workers=3)
    bench.prefetch.apply()
    assert bench.consumer.prefetch is None
    bench.workers.ready = 1
    bench.prefetch.apply()
    assert bench.consumer.prefetch == 3


@pytest.mark.parametrize(("replaced", "expected"), [(1, 1), (0, None)])
def test_consuming_outlives_its_workers_for_a_grace_period(replaced: int, expected: int | None) -> None:
    bench = Bench()
    bench.prefetch.apply()
    bench.workers.ready = 0
    for _ in range(3):
        bench.prefetch.apply()
        assert bench.consumer.prefetch == 1
    bench.workers.ready = replaced
    assert bench.loop.fire() == 1.0
    assert bench.consumer.prefetch == expected


def test_leases_take_room() -> None:
    bench = Bench(workers=3)
    leases = Source("taskqueue_lease_1")
    for left in (2, 1, None):
        bench.hold(leases)
        bench.prefetch.apply()
        assert bench.consumer.prefetch == left
    leases.lose()
    bench.prefetch.apply()
    assert bench.consumer.prefetch == 3


def test_it_adapts_four_times_in_a_second_at_most_and_shrinks_at_once() -> None:
    bench = Bench()
    bench.prefetch.adapt(0.001, 100.0)
    assert bench.consumer.prefetch == bench.prefetch.wanted == 101
    bench.prefetch.adapt(60.0, 100.2)
    assert bench.consumer.prefetch == 101
    bench.prefetch.adapt(60.0, 100.3)
    assert bench.consumer.prefetch == 1
    bench.prefetch.adapt(0.001, 101.0)
    bench.prefetch.shrink()
    assert bench.consumer.prefetch == 1
