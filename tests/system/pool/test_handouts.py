"""Hand-outs in a pool with a real broker, and the test for their front: each is answered, and none runs unasked."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import processes
from daemons import Stage
from taskqueue.protocol import queues
from taskqueue.protocol.handout_reports import HandoutReport, read_report
from taskqueue.protocol.properties import Properties
from waiting import wait_for

PLUGIN = """
    import os
    import signal
    import time
    from taskqueue.worker import BaseWorker, Retry

    class Worker(BaseWorker):
        def handle_task(self, body):
            with open("SCRATCH/runs", "a") as runs:
                runs.write(f"{self.task.id} {self.task.attempt} {sorted(self.task.headers)}\\n")
            what, _, rest = body.partition(" ")
            return getattr(self, what)(rest)

        def nap(self, seconds):
            time.sleep(float(seconds))
            return "slept"

        def kill(self, _):
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

        def fail(self, why):
            raise ValueError(why)

        def again(self, seconds):
            if self.task.attempt < 3:
                raise Retry("not yet", delay_s=float(seconds))
            return self.task.attempt
"""

CONFIG = """
[boss]
workers: 2
max_crashes: 2
report_results: no

[limited]
time_limit: 500ms
"""

BOOK = "book1"
QUEUE = queues.outcomes(BOOK).name

_numbers = itertools.count(1)


class Front:
    """Hands out tasks, and reads what comes back."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.amqp = stage.amqp
        self.amqp.declare(QUEUE, dict(queues.outcomes(BOOK).arguments))

    def hand_out(
        self, body: str, valid_s: float = 30.0, *, worker_type: str = "boss", reply_to: str = QUEUE, crashes: int = 0,
        task_id: str = "", number: int = 1,
    ) -> str:  # fmt: skip
        """Publish one hand-out; gives the task's id."""
        task_id = task_id or f"t{next(_numbers)}"
        until = round((time.time() + valid_s) * 1000)
        headers = {"x-handout": number, "x-handout-until": until, "x-task-attempt": 5, "x-crashes": crashes}
        self.amqp.submit(
            body, f"worker_{worker_type}", headers=headers, reply_to=reply_to, message_id=task_id,
            content_type="text/plain",
        )  # fmt: skip
        return task_id

    def report(self, task_id: str, deadline_s: float = 10.0) -> HandoutReport:
        """The next report, which must be of this task."""
        message = self.amqp.take(QUEUE, deadline_s)
        carried = {name: getattr(message.properties, name) for name in ("content_type", "correlation_id", "message_id")}
        assert message.properties.expiration is None and message.properties.delivery_mode == 2
        report = read_report(Properties(headers=message.headers, **carried), message.body)
        assert report.task_id == task_id and report.task_attempt == 5, report
        return report

    def runs(self, task_id: str) -> list[str]:
        """What the plugin has noted of this task: a line for each time that it ran."""
        return [line for line in self.stage.output("runs") if line.split()[0] == task_id]

    def nothing_else(self) -> None:
        """Nothing waits anywhere, and there is no result and no dead letter."""
        for worker_type in ("boss", "limited"):
            wait_for(
                lambda worker_type=worker_type: not self.stage.pool.generation(worker_type)["waiting"],  # type: ignore[misc]
                10, "nothing waits",
            )  # fmt: skip
        left = {
            name: self.amqp.depth(name) for name in ("worker_boss", "worker_limited", QUEUE, "results", queues.DEAD)
        }
        assert not any(left.values()), left


def install(stage: Stage) -> None:
    """Install the plugin, as two groups."""
    for worker_type in ("boss", "limited"):
        stage.site.install(worker_type, PLUGIN.replace("SCRATCH", str(stage.scratch)))


@pytest.fixture(scope="module")
def pool(shared_stage: Stage) -> Front:
    """One pool for the tests that leave it as it was."""
    install(shared_stage)
    shared_stage.configure(CONFIG)
    shared_stage.start("boss", "limited")
    return Front(shared_stage)


@pytest.fixture
def front(pool: Front) -> Iterator[Front]:
    """Its front; at the end nothing is left over."""
    yield pool
    pool.nothing_else()


@pytest.fixture
def own_front(stage: Stage) -> Front:
    """A front whose pool is not started yet."""
    install(stage)
    return Front(stage)


def test_a_result_is_answered_though_the_group_reports_none(front: Front) -> None:
    task = front.hand_out("nap 0", crashes=1)
    done = front.report(task)
    assert (done.event, done.number, done.status, done.body, done.content_type) == (
        "done", 1, "success", b"slept", "text/plain",
    )  # fmt: skip
    assert (done.attempt, done.crashes, done.worker_type, done.slots.all) == (1, 1, "boss", 2)
    assert done.slots.free == 2 and len(front.runs(task)) == 1


def test_a_failure_is_answered_and_no_dead_letter(front: Front) -> None:
    done = front.report(front.hand_out("fail no such name"))
    assert (done.status, done.reason, done.error_type, done.error) == ("error", "failed", "ValueError", "no such name")
    assert "handle_task" in done.trace


def test_one_that_is_late_is_given_back_and_never_runs(front: Front) -> None:
    task = front.hand_out("nap 0", valid_s=-0.001)
    back = front.report(task)
    assert (back.event, back.returned) == ("returned", "late") and not front.runs(task)


def test_one_that_becomes_late_behind_others_never_runs(front: Front) -> None:
    busy = [front.hand_out("nap 1.0") for _ in range(2)]
    for task in busy:
        wait_for(lambda task=task: front.runs(task), 10, "it runs")  # type: ignore[misc]
    behind = front.hand_out("nap 0", valid_s=0.3)
    back = front.report(behind, deadline_s=5.0)
    assert back.returned == "late" and not front.runs(behind)
    events = [front.amqp.take(QUEUE).headers["x-handout-event"] for _ in busy]
    while events.count("done") < 2:  # `begun` may come before it
        events.append(front.amqp.take(QUEUE).headers["x-handout-event"])
    assert set(events) <= {"begun", "done"}


def test_what_runs_longer_than_a_second_is_told_as_begun(front: Front) -> None:
    started = time.monotonic()
    task = front.hand_out("nap 2.5")
    begun = front.report(task)
    told_s = time.monotonic() - started
    assert begun.event == "begun" and begun.slots.free == 1
    assert 1.0 <= told_s < 2.4, "before it has ended"
    done = front.report(task)
    assert done.event == "done" and done.runtime_ms is not None and done.runtime_ms >= 2500


def test_crashes_are_counted_over_hand_outs_to_their_end(front: Front) -> None:
    task = front.hand_out("kill")
    back = front.report(task)
    assert (back.event, back.returned, back.crashes) == ("returned", "crashed", 1)
    front.hand_out("kill", task_id=task, number=2, crashes=back.crashes)
    done = front.report(task)
    assert (done.event, done.number, done.status, done.reason, done.crashes) == ("done", 2, "error", "crashed", 2)
    assert "SIGKILL" in done.error and len(front.runs(task)) == 2, "a run for each hand-out"


def test_the_plugins_own_retries_run_by_themselves_and_are_never_late(front: Front) -> None:
    task = front.hand_out("again 0.7", valid_s=0.5)
    for _ in range(2):
        retrying = front.report(task)
        assert retrying.event == "retrying" and retrying.again_ms is not None
        assert -1000 < retrying.again_ms - time.time() * 1000 <= 700
    done = front.report(task)
    assert (done.event, done.attempt, done.body, done.number) == ("done", 3, b"3", 1)
    assert [line.split()[1] for line in front.runs(task)] == ["1", "2", "3"]


def test_the_time_limit_is_an_answer(front: Front) -> None:
    done = front.report(front.hand_out("nap 60", worker_type="limited"))
    assert (done.status, done.reason, done.error_type) == ("error", "timeout", "TimeLimitExceeded")


def test_without_the_queue_of_its_book_the_answer_is_dropped(front: Front) -> None:
    task = front.hand_out("nap 0", reply_to="taskqueue_http_gone")
    front.stage.pool.logged(f"result dropped: task={task} reply_to=taskqueue_http_gone")
    assert len(front.runs(task)) == 1


@pytest.mark.parametrize("delay", [{}, {"x-delay": 50}])
def test_a_client_cannot_forge_one(front: Front, delay: Mapping[str, Any]) -> None:
    """Late as it would be, it runs: it is an ordinary workitem, by whichever way it came."""
    forged = {
        "x-handout": 1,
        "x-handout-until": 1,
        "x-task-attempt": 1,
        "x-handout-event": "done",
        "x-handout-again": 1,
    }
    task = f"t{next(_numbers)}"
    headers = {**forged, "worker_type": "boss", "mine": 1, **delay}
    front.amqp.submit("nap 0", headers=headers, reply_to=QUEUE, message_id=task, content_type="text/plain")
    (line,) = wait_for(lambda: front.runs(task), 10, "it runs")
    assert line.endswith("['mine', 'worker_type']")


def test_a_killed_listener_runs_none_twice_by_itself(own_front: Front) -> None:
    front, pool = own_front, own_front.stage.pool
    front.stage.configure("[boss]\nworkers: 1\n")
    front.stage.start("boss")
    task = front.hand_out("nap 300")
    wait_for(lambda: front.runs(task), 10, "it runs")
    processes.kill(pool.helper("boss", "listener"))
    back = front.report(task, deadline_s=20.0)
    while back.event == "begun":  # the listener lived for more than a second of it
        back = front.report(task, deadline_s=20.0)
    assert (back.event, back.returned, back.crashes) == ("returned", "redelivered", 0)
    done = front.hand_out("nap 0", task_id=task, number=2)
    assert front.report(done).event == "done" and len(front.runs(task)) == 2


def test_a_stopping_pool_gives_back_what_waits_and_what_it_kills(own_front: Front) -> None:
    front, pool = own_front, own_front.stage.pool
    front.stage.configure("[workerpool]\nstop_timeout: 2s\n[boss]\nworkers: 2\nprefetch: 9\n")
    front.stage.start("boss")
    ends, killed = front.hand_out("nap 0.8"), front.hand_out("nap 300")
    for task in (ends, killed):
        wait_for(lambda task=task: front.runs(task), 10, "it runs")  # type: ignore[misc]
    waits = front.hand_out("nap 0")
    wait_for(lambda: pool.generation("boss")["waiting"] == 1, 10, "it waits")
    assert pool.stop(number=signal.SIGTERM) == 0
    found: dict[str, list[str]] = {}
    while (message := front.amqp.take_now(QUEUE)) is not None:
        headers = message.headers
        told = str(headers.get("x-returned", headers["x-handout-event"]))
        found.setdefault(message.properties.message_id, []).append(told)
    assert found == {waits: ["stopped"], ends: ["done"], killed: ["begun", "stopped"]}
    assert front.amqp.depth("worker_boss") == 0 and not front.runs(waits)


@pytest.mark.slow
def test_one_that_is_leased_is_not_run_again_when_its_host_dies(own_front: Front) -> None:
    """The lease comes back to the worker queue a minute after the loss: as a first delivery, and known all the same."""
    front, pool = own_front, own_front.stage.pool
    front.stage.configure("[boss]\nworkers: 1\n")
    front.stage.start("boss")
    task = front.hand_out("nap 300")
    pool.logged(f"lease taken: task={task}", deadline_s=40)
    assert front.report(task).event == "begun"
    os.kill(pool.helper("boss", "listener"), signal.SIGKILL)
    back = front.report(task, deadline_s=100.0)
    assert (back.returned, back.number) == ("redelivered", 1) and len(front.runs(task)) == 1
