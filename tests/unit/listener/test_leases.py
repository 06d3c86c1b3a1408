"""When a long run is leased and renewed, and that no delivery is acked before its copy was delivered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from listening import (
    AMQP,
    HandTurnedLoop,
    RecordingDeclarer,
    RecordingPublisher,
    Sent,
    Source,
    StubConnection,
)
from taskqueue.amqp import Delivery, Published
from taskqueue.listener import leases as module
from taskqueue.listener.leases import Leases
from taskqueue.listener.run import Run
from taskqueue.listener.runs import Runs
from taskqueue.listener.states import RunState
from taskqueue.protocol.queues import LEASE_AFTER_S


class LeaseConsumer(Source):
    """Stands for the lease queue's consumer, which `Leases` makes."""

    def __init__(self, _connection: Any, _declarer: Any, queue: Any, prefetch: int, on_delivery: Any, on_lost: Any):
        super().__init__(queue.name)
        self.prefetch, self.on_delivery, self.on_lost = prefetch, on_delivery, on_lost
        self.unsettled = 0

    def cancel(self, done: Any) -> None:
        done()


class Bench:
    """`Leases` of a listener that has one old run."""

    def __init__(self) -> None:
        self.loop = HandTurnedLoop()
        self.connection = StubConnection(self.loop)
        self.publisher, self.declarer = RecordingPublisher(), RecordingDeclarer()
        self.runs, self.source = Runs(), Source()
        self.leased = 0
        self.unknown: list[Delivery] = []
        self.leases = Leases(
            self.connection, self.declarer, self.publisher, "w", AMQP, self.runs,
            on_leased=self._on_leased, on_unknown=self.unknown.append, on_lost=lambda: None,
        )  # fmt: skip
        self.run = self.add()

    def _on_leased(self) -> None:
        self.leased += 1

    def add(self, message_id: str = "m", state: RunState = RunState.ASSIGNED) -> Run:
        run = self.source.run(message_id, state=state, expiration="1000")
        run.delivered -= LEASE_AFTER_S
        self.runs.in_hand[run.number] = run
        return run

    def check(self) -> list[Sent]:
        """Look at the age of the deliveries; gives the copies that were published for it."""
        self.leases.watch()
        self.loop.fire()
        return self.publisher.answer()

    @property
    def consumer(self) -> LeaseConsumer:
        assert isinstance(self.leases._consumer, LeaseConsumer)
        return self.leases._consumer

    def deliver(self, copy: Sent) -> Delivery:
        delivery = Delivery(self.consumer, 1, self.consumer._epoch, copy.properties, copy.body, False)
        self.consumer.on_delivery(delivery)
        return delivery


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench whose lease queue is played by the test."""
    monkeypatch.setattr(module, "Consumer", LeaseConsumer)
    return Bench()


def test_a_long_run_goes_on_with_its_copy(bench: Bench) -> None:
    bench.run.attempt, bench.run.crashes = 3, 1
    (copy,) = bench.check()
    assert copy.queue.startswith("taskqueue_lease_") and copy.body == b"body"
    assert (copy.headers["x-attempt"], copy.headers["x-crashes"]) == (2, 1), "run elsewhere, it is the same attempt"
    assert copy.properties.expiration is None, "a run that has begun does not expire"
    assert not bench.source.acked and not bench.run.leased, "the copy is not here yet"
    delivery = bench.deliver(copy)
    assert bench.source.acked == ["m"] and bench.run.delivery is delivery and bench.run.leased and bench.leased == 1


def test_the_copy_of_a_hand_out_is_one(bench: Bench) -> None:
    headers = {"x-handout": 7, "x-handout-until": 5, "x-task-attempt": 2, "x-crashes": 1}
    del bench.runs.in_hand[bench.run.number]
    run = bench.source.run("t", state=RunState.ASSIGNED, headers=headers, reply_to="taskqueue_http_b")
    run.delivered -= LEASE_AFTER_S
    bench.runs.in_hand[run.number] = run
    (copy,) = bench.check()
    assert dict(copy.headers) == headers and copy.properties.reply_to == "taskqueue_http_b"


def test_a_lease_is_renewed_before_it_grows_old(bench: Bench) -> None:
    bench.deliver(bench.check()[0])
    assert bench.check() == [], "the copy is young"
    bench.run.delivered -= LEASE_AFTER_S
    bench.deliver(bench.check()[0])
    assert bench.consumer.acked == ["m"] and bench.leased == 1 and bench.run.delivery.held


@pytest.mark.parametrize("state", list(RunState))
def test_only_what_waits_or_runs_is_leased(bench: Bench, state: RunState) -> None:
    bench.run.life.state = state
    assert len(bench.check()) == (state in {RunState.WAITING, RunState.ASSIGNED})


def test_what_is_young_lost_or_on_its_way_is_not_copied(bench: Bench) -> None:
    bench.run.delivered += 1.0
    assert bench.check() == []
    bench.run.delivered -= 1.0
    assert len(bench.check()) == 1
    assert bench.check() == [], "one copy at a time"
    bench.source.lose()
    other = bench.add("other")
    bench.source.lose()
    assert not other.delivery.held and bench.check() == []


def test_one_copy_also_where_the_queue_is_declared_late(bench: Bench) -> None:
    waiting: list[Callable[[], None]] = []
    bench.declarer.declare = lambda _queue, done: waiting.append(done)
    assert bench.check() == bench.check() == []
    for done in waiting:
        done()
    assert len(waiting) == 2 and len(bench.publisher.sent) == 1


@pytest.mark.parametrize("flag", ["is_up", "blocked"])
def test_nothing_is_published_without_a_broker(bench: Bench, flag: str) -> None:
    setattr(bench.connection, flag, flag == "blocked")
    assert bench.check() == []
    setattr(bench.connection, flag, flag == "is_up")
    assert len(bench.check()) == 1, "looked at again"


@pytest.mark.parametrize(("published", "again"), [(Published.LOST, 1), (Published.REFUSED, 0)])
def test_a_copy_that_is_not_confirmed(bench: Bench, published: Published, again: int) -> None:
    bench.leases.watch()
    bench.loop.fire()
    bench.publisher.answer(published)
    assert len(bench.check()) == again and bench.run.delivery.held


def test_a_run_that_ended_before_its_copy_came(bench: Bench) -> None:
    (copy,) = bench.check()
    bench.run.life.state = RunState.SETTLED
    bench.deliver(copy)
    assert bench.consumer.acked == ["m"] and not bench.source.acked and not bench.unknown


def test_a_copy_that_no_run_awaits_is_given_on(bench: Bench) -> None:
    (copy,) = bench.check()
    bench.source.lose()
    delivery = bench.deliver(copy)
    assert bench.unknown == [delivery] and not bench.consumer.acked
    bench.deliver(copy)
    assert len(bench.unknown) == 2


def test_it_looks_as_long_as_there_are_runs(bench: Bench) -> None:
    bench.leases.watch()
    bench.leases.watch()
    bench.loop.fire()
    bench.runs.in_hand.clear()
    bench.loop.fire()
    assert not bench.loop.timers


@pytest.mark.parametrize(
    ("awaiting", "unsettled", "is_up", "deleted"),
    [(False, 0, True, True), (True, 0, True, False), (False, 1, True, False), (False, 0, False, False)],
)
def test_only_an_empty_lease_queue_is_removed(
    bench: Bench, awaiting: bool, unsettled: int, is_up: bool, deleted: bool
) -> None:
    (copy,) = bench.check()
    if not awaiting:
        bench.deliver(copy)
    bench.consumer.unsettled = unsettled
    bench.connection.is_up = is_up
    ended: list[bool] = []
    bench.leases.end(lambda: ended.append(True))
    assert ended == [True] and bench.declarer.deleted == [copy.queue] * deleted
    assert len(bench.loop.timers) == deleted, "it waits for the broker, but not for ever"


def test_a_listener_without_a_lease_has_no_queue_to_remove(bench: Bench) -> None:
    ended: list[bool] = []
    bench.leases.end(lambda: ended.append(True))
    assert ended == [True] and not bench.declarer.declared
