"""What is published for each end of a run, and that its delivery is acked once, last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from listening import AMQP, RecordingDeclarer, RecordingPublisher, Source, group
from taskqueue.amqp import Published
from taskqueue.listener.answers import Answers
from taskqueue.listener.run import Run
from taskqueue.listener.runs import Runs
from taskqueue.listener.settler import Settler
from taskqueue.listener.states import RunState
from taskqueue.protocol.dead_letters import DeadReason
from taskqueue.protocol.handout_reports import Slots


class Bench:
    """A `Settler` with one run in hand."""

    def __init__(self, run: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self.source = Source()
        self.publisher = RecordingPublisher()
        self.declarer = RecordingDeclarer()
        self.runs = Runs()
        self.leases_settled: list[str] = []
        ours = group(**settings)
        self.settler = Settler(
            ours, AMQP, 60.0, self.declarer, self.publisher, self.runs,
            lambda: self.leases_settled.append(self.run.message_id), Answers(ours, lambda: Slots(4, 3)),
        )  # fmt: skip
        self.run = self.source.run(state=RunState.ASSIGNED, **(run or {}))
        self.runs.in_hand[self.run.number] = self.run

    def success(self) -> None:
        self.settler.success(self.run, "text/plain", b"result", 12.5)

    def fail(self) -> None:
        self.settler.fail(self.run, DeadReason.FAILED, "ValueError", "no such name", "Traceback", 12.5)

    def settled(self, run: Run | None = None) -> bool:
        run = run or self.run
        assert (run.life.state is RunState.SETTLED) is (run.number not in self.runs.in_hand)
        return self.source.acked == [run.message_id]

    def redelivered(self) -> Run:
        return self.source.run(redelivered=True)


def test_the_delivery_is_acked_when_the_result_is_confirmed_and_not_before() -> None:
    bench = Bench()
    bench.success()
    assert not bench.source.acked and bench.run.life.state is RunState.PUBLISHING
    (sent,) = bench.publisher.answer()
    assert bench.settled()
    assert (sent.queue, sent.body, sent.properties.content_type) == ("results", b"result", "text/plain")
    assert sent.headers["status"] == "success" and sent.headers["attempt"] == 1
    assert sent.properties.expiration == "60000" and sent.properties.correlation_id == "m"


def test_a_failure_is_acked_when_both_messages_are_confirmed() -> None:
    bench = Bench({"body": b'{"name": "Ada"}', "content_type": "application/json"})
    bench.fail()
    result, dead = bench.publisher.take()
    assert (result.queue, dead.queue) == ("results", "taskqueue_dead")
    assert json.loads(result.body) == {"name": "Ada", "error": "no such name", "trace": "Traceback"}
    assert dead.body == b'{"name": "Ada"}' and dead.headers["x-dead-reason"] == "failed"
    assert dead.headers["x-dead-queue"] == "worker_w" and dead.headers["x-attempt"] == 1
    dead.answer(Published.CONFIRMED)
    assert not bench.source.acked
    result.answer(Published.CONFIRMED)
    assert bench.settled()


@pytest.mark.parametrize(
    ("settings", "properties", "queues"),
    [
        ({}, {}, ["results"]),
        ({"results_routing_key": "elsewhere"}, {}, ["elsewhere"]),
        ({}, {"reply_to": "mine"}, ["mine"]),
        ({"report_results": False}, {"reply_to": "mine"}, []),
        ({}, {"reply_to": "amq.rabbitmq.reply-to.g1h2"}, []),
    ],
)
def test_where_a_result_goes(settings: Mapping[str, Any], properties: Mapping[str, Any], queues: list[str]) -> None:
    bench = Bench(properties, **settings)
    bench.success()
    assert [sent.queue for sent in bench.publisher.answer()] == queues
    assert bench.settled(), "also where nobody wants a result"


@pytest.mark.parametrize(
    ("wait_s", "queue"), [(0.0, "worker_w"), (5.0, "taskqueue_delay_12"), (None, "taskqueue_delay")]
)
def test_a_retry_goes_through_the_delay_ladder(wait_s: float | None, queue: str) -> None:
    bench = Bench({"headers": {"x-attempt": 2, "x-crashes": 1, "mine": "kept"}})
    bench.settler.retry(bench.run, wait_s)
    (sent,) = bench.publisher.answer()
    assert sent.queue.startswith(queue) and sent.body == b"body" and bench.settled()
    assert (sent.headers["x-attempt"], sent.headers["x-crashes"], sent.headers["mine"]) == (3, 1, "kept")


def test_what_is_handed_back_was_never_run() -> None:
    bench = Bench({"headers": {"x-attempt": 2, "x-death": [{}]}})
    bench.settler.hand_back(bench.run)
    (sent,) = bench.publisher.answer()
    assert (sent.queue, dict(sent.headers)) == ("worker_w", {"x-attempt": 2}) and bench.settled()


def test_our_own_queue_is_declared_again_and_a_clients_is_not() -> None:
    bench = Bench()
    bench.success()
    bench.publisher.answer(Published.UNROUTABLE)
    assert bench.declarer.forgotten == bench.declarer.declared == ["results"] and not bench.source.acked
    bench.publisher.answer()
    assert bench.settled()
    bench = Bench({"reply_to": "gone"})
    bench.success()
    bench.publisher.answer(Published.UNROUTABLE)
    assert not bench.declarer.declared and bench.settled(), "the result is dropped"


def test_a_lost_answer_keeps_the_whole_outcome_for_the_redelivery() -> None:
    bench = Bench()
    bench.fail()
    result, dead = bench.publisher.take()
    bench.source.lose()
    bench.settler.lost(bench.run, answers_lost=True)
    result.answer(Published.LOST)
    dead.answer(Published.LOST)
    assert bench.run.life.state is RunState.KEPT and not bench.source.acked
    assert bench.settler.reclaim(bench.redelivered())
    assert [sent.queue for sent in bench.publisher.answer()] == ["results", "taskqueue_dead"]
    assert bench.settled() and not bench.runs.kept


def test_answers_that_still_come_settle_the_redelivery() -> None:
    """Only the consuming channel was closed: nothing is published twice."""
    bench = Bench()
    bench.success()
    bench.source.lose()
    bench.settler.lost(bench.run, answers_lost=False)
    assert bench.settler.reclaim(bench.redelivered())
    (sent,) = bench.publisher.answer()
    assert sent.body == b"result" and bench.settled() and not bench.publisher.sent


@pytest.mark.parametrize("ends_first", [True, False])
def test_what_ends_without_a_delivery_is_settled_with_the_next(ends_first: bool) -> None:
    bench = Bench()
    bench.source.lose()
    bench.settler.lost(bench.run, answers_lost=True)
    if ends_first:
        bench.success()
        assert bench.run.life.state is RunState.KEPT and not bench.publisher.sent
    assert bench.settler.reclaim(bench.redelivered())
    if not ends_first:
        assert not bench.publisher.sent, "it still runs"
        bench.success()
    bench.publisher.answer()
    assert bench.settled()


def test_confirmed_work_whose_ack_was_lost_is_only_acked() -> None:
    bench = Bench()
    bench.success()
    bench.source.lose()
    bench.publisher.answer()
    assert bench.run.life.state is RunState.KEPT
    assert bench.settler.reclaim(bench.redelivered())
    assert not bench.publisher.sent and bench.settled()


def test_an_edited_dead_letter_is_no_redelivery() -> None:
    bench = Bench()
    bench.source.lose()
    bench.fail()
    assert not bench.settler.reclaim(bench.source.run(body=b"edited by an operator"))
    assert not bench.publisher.sent, "the old outcome is not published for it"


def refuse(bench: Bench) -> list[str]:
    """The bodies of what takes the place of what is refused, up to the end."""
    bodies = []
    while bench.publisher.sent:
        bodies += [sent.body.decode() for sent in bench.publisher.answer(Published.REFUSED)]
        assert len(bodies) < 20, "it does not end"
    return bodies


def test_a_refused_result_becomes_a_failure() -> None:
    bench = Bench()
    bench.success()
    bench.publisher.answer(Published.REFUSED)
    result, dead = bench.publisher.answer()
    assert json.loads(result.body)["error"] == "the result was refused: too large"
    assert dead.headers["x-dead-reason"] == "failed" and bench.settled()


def test_a_refused_copy_is_rejected() -> None:
    bench = Bench()
    bench.settler.hand_back(bench.run)
    bench.publisher.answer(Published.REFUSED)
    assert bench.publisher.answer()[1].headers["x-dead-reason"] == "rejected" and bench.settled()


def test_a_workitem_whose_every_outcome_is_refused_stays_in_its_queue() -> None:
    bench = Bench({"reply_to": "mine"})
    bench.success()
    assert len(refuse(bench)) == 5, "result; error result and dead letter; each once more, smaller"
    assert not bench.source.acked and bench.run.life.state is RunState.KEPT
    assert bench.run.number in bench.runs.in_hand


@pytest.mark.parametrize("leased", [True, False])
def test_the_end_of_a_lease_makes_room(leased: bool) -> None:
    bench = Bench()
    bench.run.leased = leased
    bench.success()
    assert not bench.leases_settled
    bench.publisher.answer()
    assert bench.leases_settled == ["m"] * leased
