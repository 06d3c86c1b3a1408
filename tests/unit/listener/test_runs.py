"""What the parts of a listener share: the order of what waits, and which redelivery belongs to which kept run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from listening import Source
from taskqueue.listener import runs as module
from taskqueue.listener.run import Run, begin
from taskqueue.listener.runs import Runs
from taskqueue.listener.states import RunState

LEASED = {"x-first-death-queue": "taskqueue_lease_1"}


def in_hand(*several: Run) -> Runs:
    runs = Runs()
    runs.in_hand = {run.number: run for run in several}
    return runs


def test_what_comes_back_from_a_worker_waits_first_in_its_order() -> None:
    source = Source()
    waits, first, second = source.run("waits"), source.run(state=RunState.ASSIGNED), source.run()
    first.started = 1.0
    runs = in_hand(waits, first, second)
    runs.waiting.append(waits)
    runs.wait_first([first, second])
    assert list(runs.waiting) == [first, second, waits]
    assert first.life.state is RunState.WAITING and first.started is None


def test_what_the_broker_has_back_does_not_wait() -> None:
    source = Source()
    run, kept = source.run("a", state=RunState.ASSIGNED), source.run("b", state=RunState.ASSIGNED)
    runs = in_hand(run, kept)
    source.lose()
    runs.keep(kept)
    runs.wait_first([run, kept])
    assert not runs.waiting and not runs.in_hand and not runs.kept


def test_lost_deliveries_drop_what_waits_and_give_what_goes_on() -> None:
    lost, other = Source(), Source("taskqueue_lease_1")
    waits, runs_on, leased = lost.run(), lost.run(state=RunState.ASSIGNED), other.run()
    runs = in_hand(waits, runs_on, leased)
    runs.waiting.extend([waits, leased])
    lost.lose()
    assert runs.drop_lost() == [runs_on]
    assert list(runs.waiting) == [leased] and list(runs) == [runs_on, leased]


def test_leases_are_what_is_held_beside_the_consumer() -> None:
    consumer, leases = Source(), Source("taskqueue_lease_1")
    runs = in_hand(consumer.run(), leases.run(), leases.run())
    assert runs.held_beside(consumer) == 2
    leases.lose()
    assert runs.held_beside(consumer) == 0


@pytest.mark.parametrize(
    ("again", "known"),
    [
        ({"redelivered": True}, True),
        ({"headers": LEASED}, True),
        ({}, False),
        ({"redelivered": True, "body": b"edited by an operator"}, False),
        ({"redelivered": True, "headers": {"x-attempt": 1}}, False),
        ({"redelivered": True, "headers": {"x-attempt": 1, "x-crashes": 1}}, False),
        ({"message_id": "another", "redelivered": True}, False),
    ],
)
def test_only_the_redelivery_of_the_same_attempt_is_known_work(again: Mapping[str, Any], known: bool) -> None:
    source = Source()
    kept = source.run(state=RunState.KEPT)
    runs = in_hand(kept)
    source.lose()
    runs.keep(kept)
    redelivery = source.run(**again)
    assert (runs.reclaim(redelivery) is kept) is known
    assert (kept.delivery is redelivery.delivery) is known
    assert (not runs.kept) is known, "what does not belong to it leaves it alone"


def test_a_copy_of_the_lease_queue_is_known_work() -> None:
    source, leases = Source(), Source("taskqueue_lease_1")
    kept = source.run()
    runs = in_hand(kept)
    runs.keep(kept)
    assert runs.reclaim(begin(leases.delivery())) is kept


def test_a_run_that_has_crashed_since_its_delivery_is_known_by_both_attempts() -> None:
    """The broker's message has the old attempts; a lease that was taken since has the new ones."""
    for headers in (None, {"x-attempt": 1, "x-crashes": 1}):
        source = Source()
        kept = source.run()
        kept.attempt, kept.crashes = 2, 1
        runs = in_hand(kept)
        runs.keep(kept)
        assert runs.reclaim(source.run(redelivered=True, headers=headers)) is kept


def test_two_runs_of_one_id_leave_nothing_behind() -> None:
    source = Source()
    older, newer = source.run(state=RunState.KEPT), source.run(state=RunState.KEPT)
    runs = in_hand(older, newer)
    runs.keep(older)
    runs.keep(newer)
    assert list(runs) == [newer]
    runs.drop(older)
    assert runs.kept["m"].run is newer, "it is not the other's to forget"


def test_kept_runs_are_bounded_by_number_and_by_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_LIMIT", 2)
    source = Source()
    several = [source.run(name, state=RunState.KEPT) for name in "abc"]
    runs = in_hand(*several)
    for run in several:
        runs.keep(run)
    assert list(runs.kept) == ["b", "c"] and list(runs) == several[1:]
    monkeypatch.setattr(module, "_KEPT_S", 0.0)
    runs.keep(several[2])
    assert not runs.kept and not runs.in_hand


@pytest.mark.parametrize("state", list(RunState))
def test_what_the_end_of_the_listener_waits_for(state: RunState) -> None:
    run = Source().run()
    run.life.state = state
    runs = in_hand(run)
    assert runs.unfinished is (state in {RunState.WAITING, RunState.ASSIGNED})
    assert runs.unconfirmed is (state is RunState.PUBLISHING)
