"""Hand-outs in a listener (design-http, section 3): never begun late or twice, and always answered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clockwork import Clockwork
from listening import AMQP, RecordingDeclarer, RecordingPublisher, Sent, Source, StubConnection, group
from played_workers import PlayedWorkers
from taskqueue.amqp import Published
from taskqueue.listener.answers import Answers
from taskqueue.listener.handouts import ALIVE_EACH_S, BEGUN_AFTER_S, HandOuts
from taskqueue.listener.run import Run
from taskqueue.listener.runs import Runs
from taskqueue.listener.settler import Settler
from taskqueue.listener.states import RunState
from taskqueue.protocol.handout_reports import Event, HandoutReport, Slots, read_report

QUEUE = "taskqueue_http_b"


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


def report_of(sent: Sent) -> HandoutReport:
    """What a front reads."""
    assert sent.queue == QUEUE and sent.properties.expiration is None
    return read_report(sent.properties, sent.body)


def only(bench: PlayedWorkers) -> HandoutReport:
    """The one report that was published since; nothing else was."""
    (sent,) = bench.told()
    return report_of(sent)


# -- the end of a run


@pytest.mark.parametrize("report_results", [True, False])
def test_the_result_goes_to_the_front_whatever_the_group_reports(
    make: Callable[..., PlayedWorkers], report_results: bool
) -> None:
    bench = make(report_results=report_results, workers=2, concurrency=3)
    bench.worker(1)
    bench.worker(2)
    bench.hand_out("t", headers={"x-crashes": 1})
    assignment = bench.deliveries.runs.in_hand
    assert [(run.attempt, run.crashes, run.failures) for run in assignment.values()] == [(1, 1, 0)]
    bench.report(1)
    assert not bench.source.acked, "not before the front has it"
    done = only(bench)
    assert bench.source.acked == ["t"]
    assert (done.task_id, done.number, done.event, done.task_attempt, done.crashes) == ("t", 3, Event.DONE, 2, 1)
    assert (done.status, done.body, done.content_type, done.attempt) == ("success", b"result", "text/plain", 1)
    assert done.runtime_ms == 1000 and done.worker_type == "w" and done.slots == Slots(6, 6)


def test_slots_are_told_as_they_are(make: Callable[..., PlayedWorkers]) -> None:
    bench = make(workers=2, concurrency=2, prefetch=9)
    bench.worker(1)
    bench.worker(2, ready=False)
    bench.hand_out("t", "u", "v")
    bench.report(1)
    assert only(bench).slots == Slots(2, 0), "one runs, and one that waits gets the slot that is free"
    bench.report(1)
    assert only(bench).slots == Slots(2, 1)
    bench.deliveries.drain()
    bench.report(1)
    assert only(bench).slots == Slots(0, 0), "a listener that drains takes nothing more"


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [("error", "failed"), ("retry", "failed"), ("reject", "rejected"), ("malformed", "malformed")],
)
def test_a_failure_is_one_report_and_no_dead_letter(
    make: Callable[..., PlayedWorkers], outcome: str, reason: str
) -> None:
    bench = make(max_retries=1)
    bench.worker(1)
    bench.hand_out("t", headers={"x-attempt": 1}, body=b'{"a": 1}', content_type="application/json")
    bench.report(1, outcome, error_type="Broken", error="it broke", trace="Trace")
    done = only(bench)
    assert (done.status, done.reason, done.error_type, done.error, done.trace, done.attempt) == (
        "error", reason, "Broken", "it broke", "Trace", 2,
    )  # fmt: skip
    assert bench.source.acked == ["t"]


def test_what_cannot_be_read_is_told_as_malformed(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.hand_out("t", fault="its timestamp is beyond the year 9999")
    done = only(bench)
    assert (done.reason, done.error) == ("malformed", "its timestamp is beyond the year 9999")


def test_the_plugins_own_retry_goes_up_the_ladder_as_a_hand_out(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.worker(1)
    bench.hand_out("t", headers={"x-crashes": 2, "mine": "kept"})
    bench.report(1, "retry", delay_s=5.0)
    copy, told = bench.publisher.take()
    assert copy.queue == "taskqueue_delay_12" and copy.properties.reply_to == QUEUE
    kept = {name: copy.headers[name] for name in ("x-handout", "x-task-attempt", "x-attempt", "x-crashes", "mine")}
    assert kept == {"x-handout": 3, "x-task-attempt": 2, "x-attempt": 1, "x-crashes": 2, "mine": "kept"}
    report = report_of(told)
    assert report.event is Event.RETRYING and report.again_ms == copy.headers["x-delay-due"]
    told.answer(Published.CONFIRMED)
    assert not bench.source.acked, "the copy has no answer yet"
    copy.answer(Published.CONFIRMED)
    assert bench.source.acked == ["t"]


def test_the_retry_runs_however_late_it_is(make: Callable[..., PlayedWorkers]) -> None:
    bench = make(max_retries=1)
    bench.worker(1)
    bench.hand_out("t", valid_s=-100.0, headers={"x-attempt": 1})
    assignment = bench.read(1)
    assert assignment is not None and assignment.attempt == 2 and not bench.told()


def test_a_copy_that_the_ladder_refuses_is_told_as_failed_and_settled_only_then(
    make: Callable[..., PlayedWorkers],
) -> None:
    bench = make()
    bench.worker(1)
    bench.hand_out("t")
    bench.report(1, "retry", delay_s=5.0)
    copy, retrying = bench.publisher.take()
    copy.answer(Published.REFUSED)
    (done,) = bench.publisher.take()
    retrying.answer(Published.CONFIRMED)
    assert not bench.source.acked, "what has taken the place of both has no answer yet"
    assert report_of(done).reason == "rejected"
    done.answer(Published.CONFIRMED)
    assert bench.source.acked == ["t"]


def test_a_result_that_the_broker_refuses_becomes_a_smaller_error(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.worker(1)
    bench.hand_out("t")
    bench.report(1)
    bench.publisher.answer(Published.REFUSED)
    (error,) = bench.publisher.answer(Published.REFUSED)
    report = report_of(error)
    assert (report.reason, report.error_type, report.error) == (
        "failed", "ResultRefused", "the result was refused: too large",
    )  # fmt: skip
    (smaller,) = bench.publisher.answer(Published.REFUSED)
    assert json.loads(smaller.body) == {"error": "the error result was refused: too large", "trace": ""}
    assert report_of(smaller).status == "error"
    assert bench.source.acked == ["t"], "dropped: the front hands it out again"


@pytest.mark.parametrize("answer", [Published.UNROUTABLE, Published.REFUSED])
def test_a_give_back_that_the_broker_does_not_take_is_dropped(
    make: Callable[..., PlayedWorkers], answer: Published
) -> None:
    bench = make()
    bench.hand_out("t", redelivered=True)
    bench.publisher.answer(answer)
    assert bench.source.acked == ["t"] and not bench.publisher.sent and not bench.deliveries.runs


# -- what may not begin


def test_a_late_hand_out_is_given_back_and_never_begun(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.worker(1)
    bench.hand_out("t", valid_s=0.0)
    report = only(bench)
    assert (report.event, report.returned, report.crashes) == (Event.RETURNED, "late", 0)
    assert bench.source.acked == ["t"] and bench.read(1) is None


def test_it_is_late_too_after_it_has_waited_here(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.worker(1)
    bench.hand_out("runs", "waits")
    bench.deliver("ordinary")
    bench.now_ms += 9_999
    assert bench.waiting == ["waits", "ordinary"] and not bench.told()
    bench.now_ms += 1
    assert bench.report(1) == "runs", "what has begun in time may take as long as it likes"
    done, late = (report_of(sent) for sent in bench.told())
    assert (done.task_id, done.event, late.task_id, late.returned) == ("runs", Event.DONE, "waits", "late")
    assert bench.report(1) == "ordinary"


@pytest.mark.parametrize(
    ("queue", "keywords"),
    [
        ("worker_w", {"redelivered": True}),
        ("worker_w", {"headers": {"x-first-death-queue": "taskqueue_lease_1"}}),
        ("taskqueue_lease_2", {}),
        ("worker_w", {"redelivered": True, "headers": {"x-attempt": 1}}),
    ],
)
def test_what_another_listener_may_have_begun_is_given_back(
    make: Callable[..., PlayedWorkers], queue: str, keywords: dict[str, Any]
) -> None:
    bench = make()
    bench.source = Source(queue)
    bench.worker(1)
    bench.hand_out("t", **keywords)
    assert only(bench).returned == "redelivered" and bench.read(1) is None and bench.source.acked == ["t"]


def test_a_redelivery_that_is_known_goes_on(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.worker(1)
    bench.hand_out("t")
    assignment = bench.read(1)
    bench.source.lose()
    bench.deliveries.lost()
    bench.hand_out("t", redelivered=True, headers={"x-handout": 4})
    assert only(bench).number == 4, "another hand-out of the task is none of its"
    bench.hand_out("t", redelivered=True)
    assert not bench.told() and bench.source.acked == ["t"]
    assert assignment is not None
    bench.ends[1].send(["done", assignment.tag, "success", 1.0, "", "", "", "", None, False], b"")
    bench.loop.turn(0)
    assert only(bench).event is Event.DONE and bench.source.acked == ["t", "t"]


def test_a_hand_out_is_not_assigned_ahead(make: Callable[..., PlayedWorkers]) -> None:
    bench = make(concurrency=2)
    bench.worker(1)
    bench.deliver("a")
    bench.report(1, runtime_ms=1.0)
    bench.hand_out("t", "u", "v")
    assert bench.waiting == ["v"], "there are two slots"
    assert bench.report(1, runtime_ms=1.0) == "t" and bench.waiting == []


# -- deaths and the end of the listener


@pytest.mark.parametrize(("crashes", "ends"), [(0, False), (1, False), (2, True)])
def test_a_crash_is_counted_over_all_hand_outs(make: Callable[..., PlayedWorkers], crashes: int, ends: bool) -> None:
    bench = make(max_crashes=3)
    bench.worker(1)
    bench.hand_out("t", headers={"x-crashes": crashes})
    bench.read(1)
    bench.deliveries.worker_gone(1, -11, None)
    report = only(bench)
    assert report.crashes == crashes + 1 and bench.source.acked == ["t"] and not bench.waiting
    if ends:
        assert (report.event, report.reason, report.error) == ("done", "crashed", "the worker died: signal SIGSEGV")
        assert report.error_type == "WorkerCrashed"
    else:
        assert (report.event, report.returned) == (Event.RETURNED, "crashed")


def test_out_of_memory_is_a_crash(make: Callable[..., PlayedWorkers]) -> None:
    bench = make(max_memory_bytes=4096)
    bench.worker(1)
    bench.hand_out("t")
    bench.report(1, "memory")
    report = only(bench)
    assert (report.returned, report.crashes) == ("crashed", 1)


def test_all_suspects_that_are_hand_outs_are_given_back_and_the_others_run_alone(
    make: Callable[..., PlayedWorkers],
) -> None:
    bench = make(concurrency=4)
    bench.worker(1)
    bench.hand_out("t", "u")
    bench.deliver("a", "b")
    for _ in range(4):
        bench.read(1)
    bench.deliveries.worker_gone(1, -11, None)
    reports = [report_of(sent) for sent in bench.told()]
    assert [(each.task_id, each.returned, each.crashes) for each in reports] == [
        ("t", "crashed", 1),
        ("u", "crashed", 1),
    ]
    assert bench.waiting == ["a", "b"] and all(run.alone for run in bench.deliveries.runs)
    assert [run.crashes for run in bench.deliveries.runs] == [0, 0]


@pytest.mark.parametrize("retries", [0, 1])
def test_over_the_time_limit(make: Callable[..., PlayedWorkers], retries: int) -> None:
    bench = make(concurrency=3, time_limit_s=10.0, max_retries=retries)
    bench.worker(1)
    bench.hand_out("slow", "beside")
    bench.deliver("ordinary")
    for _ in range(3):
        bench.read(1)
    slow = next(iter(bench.deliveries.runs))
    assert slow.started is not None
    slow.started -= 10.5
    bench.deliveries.worker_gone(1, -9, "time_limit")
    reports = [report_of(sent) for sent in bench.told() if sent.queue == QUEUE]
    first, beside = reports
    assert (first.task_id, first.event) == ("slow", Event.RETRYING if retries else Event.DONE)
    assert first.reason == (None if retries else "timeout")
    assert (beside.task_id, beside.returned, beside.crashes) == ("beside", "handed-back", 0), "it is not to blame"
    assert bench.waiting == ["ordinary"]


def test_a_draining_listener_gives_back_what_waits_and_what_still_comes(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.worker(1)
    bench.hand_out("runs", "waits")
    bench.deliveries.drain()
    bench.hand_out("comes")
    reports = [report_of(sent) for sent in bench.told()]
    assert [(each.task_id, each.returned) for each in reports] == [("waits", "stopped"), ("comes", "stopped")]
    assert bench.source.acked == ["waits", "comes"]
    assert bench.report(1) == "runs" and only(bench).event is Event.DONE


def test_a_retry_that_waits_is_handed_on_with_the_attempts_before_it(make: Callable[..., PlayedWorkers]) -> None:
    """Its front would hand it out as a first attempt, without an end where all hosts are busy."""
    bench = make(max_retries=1)
    bench.hand_out("t", headers={"x-attempt": 1, "x-crashes": 1})
    before_ms = time.time_ns() // 1_000_000
    bench.deliveries.drain()
    copy, told = bench.told()
    assert (copy.queue, copy.properties.reply_to) == ("worker_w", QUEUE)
    assert (copy.headers["x-handout"], copy.headers["x-attempt"], copy.headers["x-crashes"]) == (3, 1, 1)
    report = report_of(told)
    assert report.event is Event.RETRYING and report.again_ms is not None
    assert before_ms <= report.again_ms <= time.time_ns() // 1_000_000 and bench.source.acked == ["t"]


def test_what_killed_workers_ran_is_given_back_uncounted(make: Callable[..., PlayedWorkers]) -> None:
    bench = make()
    bench.worker(1)
    bench.hand_out("t")
    bench.read(1)
    bench.deliveries.drain()
    bench.deliveries.stop_handing_out()
    bench.deliveries.worker_gone(1, -9, None)
    bench.deliveries.hand_back_all()
    report = only(bench)
    assert (report.returned, report.crashes) == ("stopped", 0) and bench.source.acked == ["t"]


# -- told while it runs


class Watch:
    """`HandOuts` over one run that a worker began with at 0 s, by a clock that the test turns."""

    def __init__(self) -> None:
        self.loop = Clockwork()
        self.connection: Any = StubConnection(self.loop)
        self.publisher: Any = RecordingPublisher()
        self.runs = Runs()
        loop, declarer = self.loop, RecordingDeclarer()
        settings = group()
        answers = Answers(settings, lambda: Slots(2, 1))
        settler: Any = Settler(
            settings, AMQP, 60.0, declarer, self.publisher, self.runs, lambda: None, answers,  # type: ignore[arg-type]
        )  # fmt: skip
        self.handouts = HandOuts(
            loop, self.connection, self.publisher, self.runs, settler, answers,
            lambda: round(loop.now * 1000), lambda: loop.now,
        )  # fmt: skip
        self.source = Source()
        self.run = self.arrive("t")
        self.run.life.move(RunState.ASSIGNED)
        self.run.started = 0.0

    def arrive(self, task_id: str, until_s: float = 10.0) -> Run:
        headers = {"x-handout": 3, "x-handout-until": round(until_s * 1000), "x-task-attempt": 1}
        run = self.source.run(task_id, headers=headers, reply_to=QUEUE)
        self.runs.in_hand[run.number] = run
        assert not self.handouts.refuses(run)
        return run

    def told(self, answer: Published = Published.CONFIRMED) -> list[tuple[float, str]]:
        return [(self.loop.now, report_of(sent).event.value) for sent in self.publisher.answer(answer)]


def test_begun_is_told_once_after_a_second_and_alive_each_minute() -> None:
    watch = Watch()
    heard = []
    for _ in range(4 * 190):
        watch.loop.advance(0.25)
        heard += watch.told()
    begun, *alive = heard
    assert begun[1] == "begun" and BEGUN_AFTER_S <= begun[0] <= BEGUN_AFTER_S + 0.25
    assert [event for _, event in alive] == ["alive"] * 3
    assert [at for at, _ in alive] == pytest.approx([begun[0] + ALIVE_EACH_S * n for n in (1, 2, 3)], abs=0.3)
    assert not watch.source.acked and watch.run.life.state is RunState.ASSIGNED


def test_what_ends_within_a_second_is_never_told_as_begun() -> None:
    watch = Watch()
    watch.loop.advance(0.9)
    del watch.runs.in_hand[watch.run.number]
    watch.loop.advance(5.0)
    assert not watch.told() and not watch.loop.due, "and there is no timer without a hand-out"
    watch.arrive("u")
    watch.arrive("v")
    assert len(watch.loop.due) == 1


def test_what_waits_is_never_told_as_begun() -> None:
    watch = Watch()
    watch.run.started = None
    watch.loop.advance(5.0)
    assert not watch.told()


def test_a_report_that_the_connection_took_along_is_told_anew() -> None:
    watch = Watch()
    watch.loop.advance(1.5)
    watch.connection.is_up = False
    assert [event for _, event in watch.told(Published.LOST)] == ["begun"]
    watch.loop.advance(1.0)
    assert not watch.told()
    watch.connection.is_up = True
    watch.loop.advance(0.5)
    assert [event for _, event in watch.told()] == ["begun"]
    watch.loop.advance(5.0)
    assert not watch.told()


def test_what_has_ended_is_not_told_as_begun_while_its_outcome_is_published() -> None:
    watch = Watch()
    watch.loop.advance(0.9)
    watch.run.life.move(RunState.PUBLISHING)
    watch.loop.advance(5.0)
    assert not watch.told()


def test_nothing_is_told_to_a_broker_that_takes_nothing() -> None:
    watch = Watch()
    watch.connection.blocked = True
    watch.loop.advance(3.0)
    assert not watch.told()


def test_one_that_waits_is_late_even_while_all_workers_are_busy() -> None:
    watch = Watch()
    waits = watch.arrive("waits", until_s=2.0)
    watch.runs.waiting.append(waits)
    watch.loop.advance(1.9)
    assert [event for _, event in watch.told()] == ["begun"] and list(watch.runs.waiting) == [waits]
    watch.loop.advance(0.4)
    (late,) = watch.publisher.answer()
    assert report_of(late).returned == "late" and not watch.runs.waiting and watch.source.acked == ["waits"]
