"""What follows from the end of an attempt (design, section 7): a result, a retry, another run, or a failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from listening import Source, group
from taskqueue.link.assignment import Report
from taskqueue.listener.attempts import Attempts
from taskqueue.listener.run import Run
from taskqueue.listener.runs import Runs
from taskqueue.listener.states import RunState


class RecordingSettler:
    """Keeps how runs were ended."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def success(self, run: Run, content_type: str, body: bytes, runtime_ms: float) -> None:
        self.calls.append(("success", content_type, body, runtime_ms))

    def retry(self, run: Run, wait_s: float | None) -> None:
        self.calls.append(("retry", wait_s))

    def fail(self, run: Run, reason: str, error_type: str, error: str, trace: str, runtime_ms: float) -> None:
        self.calls.append(("fail", reason, error_type, error))


class Bench:
    """`Attempts` of a group; `attempts` begun and `crashes` among them are the run's past."""

    def __init__(self, attempts: int = 0, crashes: int = 0, **settings: Any) -> None:
        self.runs = Runs()
        self.settler = RecordingSettler()
        self.attempts = Attempts(group(**settings), self.settler, self.runs)
        headers = {"x-attempt": attempts, "x-crashes": crashes}
        self.run = Source().run(headers=headers, state=RunState.ASSIGNED)
        self.run.started = 1.0

    @property
    def call(self) -> tuple[Any, ...]:
        (call,) = self.settler.calls
        return call


@pytest.mark.parametrize(
    ("outcome", "past", "settings", "expected"),
    [
        ("error", 0, {}, "fail"),
        ("error", 0, {"max_retries": 1}, "retry"),
        ("error", 1, {"max_retries": 1}, "fail"),
        ("error", 1, {"max_retries": 2}, "retry"),
        ("retry", 7, {}, "retry"),
        ("retry", 0, {"max_retries": 1}, "retry"),
        ("retry", 1, {"max_retries": 1}, "fail"),
        ("reject", 0, {"max_retries": 9}, "fail"),
        ("malformed", 0, {"max_retries": 9}, "fail"),
    ],
)
def test_a_report_is_retried_as_the_settings_allow(
    outcome: str, past: int, settings: Mapping[str, Any], expected: str
) -> None:
    bench = Bench(past, **settings)
    bench.attempts.reported(bench.run, Report(1, outcome, 5.0, delay_s=3.0), b"")
    assert bench.call[0] == expected and bench.run.started is None
    assert bench.attempts.counts[{"fail": "failed", "retry": "retried"}[expected]] == 1
    if expected == "retry":
        assert bench.call == ("retry", 3.0), "the delay that the worker asked for"


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [("error", "failed"), ("retry", "failed"), ("reject", "rejected"), ("malformed", "malformed")],
)
def test_the_reason_of_a_dead_letter(outcome: str, reason: str) -> None:
    bench = Bench(5, max_retries=1)
    bench.attempts.reported(bench.run, Report(1, outcome, 5.0, error_type="Broken", error="it broke"), b"")
    assert bench.call == ("fail", reason, "Broken", "it broke")


def test_success_is_published() -> None:
    bench = Bench()
    bench.attempts.reported(bench.run, Report(1, "success", 5.0, "text/plain"), b"result")
    assert bench.call == ("success", "text/plain", b"result", 5.0) and bench.attempts.counts["succeeded"] == 1


@pytest.mark.parametrize(("crashes", "again"), [(0, True), (1, True), (2, False)])
def test_a_crash_is_run_again_at_once_up_to_max_crashes(crashes: int, again: bool) -> None:
    bench = Bench(4, crashes, max_crashes=3, max_retries=0)
    bench.attempts.crashed(bench.run, "the worker died: signal SIGSEGV")
    assert bench.attempts.counts["crashed"] == 1 and bench.run.crashes == crashes + 1
    if again:
        assert list(bench.runs.waiting) == [bench.run] and not bench.settler.calls
        assert bench.run.attempt == 6 and bench.run.failures == 4 - crashes, "a crash is no failure"
    else:
        assert bench.call == ("fail", "crashed", "WorkerCrashed", "the worker died: signal SIGSEGV")
        assert not bench.runs.waiting and bench.run.attempt == 5


def test_crashes_do_not_use_up_retries() -> None:
    bench = Bench(3, 2, max_retries=2)
    bench.attempts.reported(bench.run, Report(1, "error", 5.0), b"")
    assert bench.call == ("retry", None), "one failure and two crashes lie behind it"


def test_out_of_memory_is_a_crash_that_names_it() -> None:
    bench = Bench(max_memory_bytes=4096, max_crashes=1)
    bench.attempts.reported(bench.run, Report(1, "memory", 5.0, trace="MemoryError"), b"")
    assert bench.call == ("fail", "crashed", "WorkerCrashed", "out of memory: max_memory is 4096 bytes\nMemoryError")


@pytest.mark.parametrize(("retries", "expected"), [(0, "fail"), (1, "retry")])
def test_a_time_limit_counts_as_a_failure(retries: int, expected: str) -> None:
    bench = Bench(time_limit_s=2.5, max_retries=retries)
    bench.attempts.timed_out(bench.run)
    assert bench.call[0] == expected
    if expected == "fail":
        assert bench.call[1:] == ("timeout", "TimeLimitExceeded", "time_limit of 2.5 s is over")


def test_what_cannot_be_read_is_not_run() -> None:
    bench = Bench(max_retries=9)
    bench.run.delivery = bench.run.delivery._replace(fault="its timestamp is beyond the year 9999")
    bench.attempts.faulty(bench.run)
    assert bench.call == ("fail", "malformed", "MalformedWorkitem", "its timestamp is beyond the year 9999")
