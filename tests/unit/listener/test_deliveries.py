"""The way of a delivery through a listener whose workers are links that the test reads, without a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from played_workers import PlayedWorkers
from taskqueue.link import orders
from taskqueue.link.assignment import Report
from taskqueue.listener.states import RunState


@pytest.fixture
def make() -> Iterator[Callable[..., PlayedWorkers]]:
    """Makes benches, and closes them."""
    made: list[PlayedWorkers] = []

    def bench(**settings: Any) -> PlayedWorkers:
        made.append(PlayedWorkers(**settings))
        return made[-1]

    yield bench
    for each in made:
        each.close()


def test_the_way_of_a_delivery(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.deliver("42")
    assert bench.waiting == ["42"], "no worker is ready"
    bench.worker(1)
    assert bench.orders == [orders.WorkerReady(1), orders.Ready()]
    assert bench.report(1) == "42" and not bench.source.acked
    (result,) = bench.publisher.answer()
    assert result.body == b"result" and bench.source.acked == ["42"] and not bench.deliveries.runs
    assert bench.deliveries.status()["counts"] == {
        "succeeded": 1, "failed": 0, "retried": 0, "crashed": 0, "restarts": 0,
    }  # fmt: skip


def test_the_pool_learns_once_that_all_workers_serve(make: Callable[..., PlayedWorkers]) -> None:
    bench = make(workers=2)
    bench.worker(1)
    assert orders.Ready() not in bench.orders
    bench.worker(2)
    bench.worker(3)
    assert bench.orders.count(orders.Ready()) == 1


def test_a_report_makes_room_for_what_waits(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.worker(1)
    bench.deliver("a", "b")
    assert bench.waiting == ["b"]
    bench.report(1)
    assert bench.waiting == [] and bench.report(1) == "b"


def test_what_cannot_be_read_never_reaches_a_worker(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.worker(1)
    bench.deliver("a", fault="its timestamp is beyond the year 9999")
    assert bench.read(1) is None
    assert [sent.queue for sent in bench.publisher.answer()] == ["results", "taskqueue_dead"]
    assert bench.source.acked == ["a"]


def test_a_crashed_run_goes_before_what_waits(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.worker(1)
    bench.deliver("a", "b")
    bench.read(1)
    bench.deliveries.worker_gone(1, -11, None)
    assert bench.waiting == ["a", "b"] and bench.deliveries.status()["counts"]["restarts"] == 1
    bench.worker(2)
    assignment = bench.read(2)
    assert assignment is not None and (assignment.message_id, assignment.attempt) == ("a", 2)


def test_a_worker_over_the_time_limit_is_killed(make: Callable[..., PlayedWorkers]) -> None:
    bench = make(time_limit_s=0.0)
    bench.worker(1)
    bench.deliver("a")
    assert bench.orders[-1] == orders.KillWorker(1, "time_limit")
    bench.read(1)
    bench.deliveries.worker_gone(1, -9, "time_limit")
    assert bench.publisher.answer()[1].headers["x-dead-reason"] == "timeout"


def test_nothing_is_handed_out_while_the_broker_is_blocked(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.worker(1)
    bench.connection.blocked = True
    bench.deliver("a")
    assert bench.read(1) is None
    bench.connection.blocked = False
    bench.deliveries.hand_out()
    assert bench.read(1) is not None


def test_a_lost_connection_drops_what_no_worker_has_read(make: Callable[..., PlayedWorkers]) -> None:
    bench = make(workers=2)
    bench.worker(1)
    bench.worker(2)
    bench.deliver("read", "unread", "waits")
    assignment = bench.read(1)
    bench.source.lose()
    bench.connection.is_up = False
    bench.deliveries.lost()
    assert [run.message_id for run in bench.deliveries.runs] == ["read"] and bench.read(2) is None
    bench.connection.is_up = True
    bench.deliver("read", "unread", redelivered=True)
    assert bench.read(1) is None and bench.read(2) is not None, "the broker's copy of the first is not run again"
    assert assignment is not None
    bench.ends[1].send(["done", *Report(assignment.tag, "success", 1.0)])
    bench.loop.turn(0)
    bench.publisher.answer()
    assert bench.source.acked == ["read"]


def test_what_is_queued_ahead_goes_to_a_worker_that_is_free(make: Callable[..., PlayedWorkers]) -> None:
    bench = make(workers=2)
    bench.worker(1)
    bench.deliver("a")
    bench.report(1, runtime_ms=1.0)
    bench.deliver("b", "c", "d")
    assert bench.waiting == [], "short work is queued ahead"
    bench.read(1)
    bench.worker(2)
    assert bench.report(2) == "c"


def test_a_draining_listener_hands_back_what_is_still_delivered(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.worker(1)
    bench.deliver("runs", "waits")
    bench.deliveries.drain()
    bench.deliver("late")
    assert [sent.properties.message_id for sent in bench.publisher.answer()] == ["waits", "late"]
    assert bench.source.acked == ["waits", "late"] and bench.deliveries.runs.unfinished
    assert bench.report(1) == "runs"
    assert not bench.deliveries.runs.unfinished


def test_a_draining_listener_does_not_begin_to_serve(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.deliveries.drain()
    bench.worker(1)
    assert bench.orders == [orders.WorkerReady(1)]


def test_what_killed_workers_ran_waits_to_be_handed_back(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.worker(1)
    bench.deliver("a")
    bench.read(1)
    bench.deliveries.drain()
    bench.deliveries.stop_handing_out()
    bench.deliveries.worker_gone(1, -9, None)
    assert bench.waiting == ["a"] and bench.deliveries.status()["counts"]["crashed"] == 0
    bench.deliveries.hand_back_all()
    (copy,) = bench.publisher.answer()
    assert copy.queue == "worker_w" and "x-attempt" not in copy.headers and bench.source.acked == ["a"]


def test_a_dead_template_leaves_what_was_read_unsettled(make: Callable[..., PlayedWorkers]) -> None:
    bench = make(workers=2)
    bench.worker(1)
    bench.worker(2)
    bench.deliver("read", "unread")
    bench.read(1)
    bench.deliveries.stop_handing_out()
    bench.deliveries.template_died()
    assert bench.waiting == ["unread"] and len(bench.deliveries.workers) == 0
    assert [run.life.state for run in bench.deliveries.runs] == [RunState.ASSIGNED, RunState.WAITING]
