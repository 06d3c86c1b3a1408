"""One workitem through a worker: every outcome is a report, whatever the handler does."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from taskqueue.config.settings import GroupSettings
from taskqueue.errors import PluginError
from taskqueue.link.assignment import Assignment, Report, checked
from taskqueue.worker import BaseWorker, Reject, Retry, SoftTimeLimitExceeded, execution
from taskqueue.worker.coroutines import run_async
from taskqueue.worker.execution import ERROR_LIMIT, TRACE_LIMIT, SoftLimit, bind, make_worker, run_sync

GROUP = GroupSettings(
    worker_type="w", instance=None, workers=1, user=None, results_routing_key="results", report_results=True,
    max_retries=0, retry_delay_s=1.0, retry_max_delay_s=60.0, max_crashes=3, soft_time_limit_s=None, time_limit_s=None,
    max_tasks=None, max_memory_bytes=None, prefetch=None, concurrency=1, preload=True, own={"colour": "red"},
)  # fmt: skip


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """SIGALRM is as before: pytest-timeout uses it too."""
    handler, left = signal.getsignal(signal.SIGALRM), signal.setitimer(signal.ITIMER_REAL, 0)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, *left)
    BaseWorker._bound = ("worker", {})


def assignment(content_type: str | None = "text/plain", headers: Mapping[str, Any] | None = None) -> Assignment:
    return Assignment(7, "id-1", 2, content_type, None, headers or {})


def run(
    handler: Callable[..., Any],
    body: bytes = b"x",
    settings: GroupSettings = GROUP,
    content_type: str | None = "text/plain",
) -> tuple[Report, bytes]:
    """Run `handler(worker, body)` as a sync or an async worker, as it is."""

    class Worker(BaseWorker):
        handle_task = handler

    bind(settings)
    made = make_worker(Worker.factory, settings.worker_type)
    if inspect.iscoroutinefunction(handler):
        report, result = asyncio.run(run_async(made, assignment(content_type), body, settings))
    else:
        report, result = run_sync(made, assignment(content_type), body, settings, SoftLimit(settings.soft_time_limit_s))
    assert checked(report).tag == 7
    assert report.runtime_ms >= 0
    return report, result


def raising(error: BaseException) -> Callable[..., Any]:
    def handle_task(self: Any, body: Any) -> None:
        raise error

    return handle_task


def raising_async(error: BaseException) -> Callable[..., Any]:
    async def handle_task(self: Any, body: Any) -> None:
        raise error

    return handle_task


BOTH = pytest.mark.parametrize("kind", [raising, raising_async])
Kind = Callable[[BaseException], Callable[..., Any]]


def test_success_and_what_the_handler_sees() -> None:
    def handle_task(self: BaseWorker, body: Any) -> Any:
        task = self.task
        return [
            body,
            task.id,
            task.attempt,
            task.worker_type,
            task.content_type,
            task.deadline,
            self.settings["colour"],
        ]

    report, result = run(handle_task, b'{"a": 1}', content_type="application/json")
    assert report.outcome == "success" and report.content_type == "application/json"
    assert result == b'[{"a": 1}, "id-1", 2, "w", "application/json", null, "red"]'


def test_there_is_no_task_outside_of_a_handler() -> None:
    kept: list[Any] = []
    run(lambda self, body: kept.append(self))
    with pytest.raises(LookupError):
        kept[0].task  # noqa: B018


def test_deadline_is_the_time_limits() -> None:
    began = time.monotonic()
    report, result = run(lambda self, body: self.task.deadline, settings=replace(GROUP, time_limit_s=100.0))
    assert report.outcome == "success" and began + 100 <= float(result) <= time.monotonic() + 100


def test_settings_cannot_be_changed_by_a_plugin() -> None:
    def handle_task(self: Any, body: Any) -> None:
        self.settings["user"] = "root"

    assert run(handle_task)[0].error_type == "TypeError"


def test_async_success() -> None:
    async def handle_task(self: BaseWorker, body: Any) -> Any:
        await asyncio.sleep(0)
        return body + self.task.id

    assert run(handle_task, b"b")[1] == b"bid-1"


@BOTH
def test_an_exception(kind: Kind) -> None:
    report, result = run(kind(ValueError("bad größe")))
    assert (report.outcome, report.error_type, report.error, result) == ("error", "ValueError", "bad größe", b"")
    assert report.trace.startswith("Traceback") and "handle_task" in report.trace and report.delay_s is None


@BOTH
def test_retry_and_reject(kind: Kind) -> None:
    report, _ = run(kind(Retry("later", delay_s=2.5)))
    assert (report.outcome, report.delay_s, report.error) == ("retry", 2.5, "later")
    assert run(kind(Retry()))[0].delay_s is None
    report, _ = run(kind(Reject("never")))
    assert (report.outcome, report.error, report.trace) == ("reject", "never", "")


@pytest.mark.parametrize("delay", [-1.0, float("nan"), float("inf"), 1e12])
def test_an_impossible_retry_is_refused_where_it_is_made(delay: float) -> None:
    with pytest.raises(ValueError):
        Retry(delay_s=delay)


@BOTH
@pytest.mark.parametrize("code", [0, 1, None, "message"])
def test_sys_exit_is_a_failure_not_the_workers_end(kind: Kind, code: Any) -> None:
    report, _ = run(kind(SystemExit(code)))
    assert (report.outcome, report.error_type) == ("error", "SystemExit")


class Own(BaseException):
    pass


@BOTH
@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), Own()], ids=repr)
def test_whatever_is_raised_is_a_failure(kind: Kind, error: BaseException) -> None:
    report, _ = run(kind(error))
    assert (report.outcome, report.error_type) == ("error", type(error).__name__)


@BOTH
def test_a_retry_whose_init_was_forgotten(kind: Kind) -> None:
    class Busy(Retry):
        def __init__(self) -> None:
            pass

    assert run(kind(Busy()))[0].outcome == "retry"


@BOTH
def test_an_exception_group_and_a_chain(kind: Kind) -> None:
    error = ExceptionGroup("several", [ValueError("one"), KeyError("two")])
    error.__cause__ = OSError("below")
    report, _ = run(kind(error))
    assert report.error_type == "ExceptionGroup" and "one" in report.trace and "below" in report.trace


@BOTH
def test_memory_error_counts_as_memory_only_with_a_limit(kind: Kind) -> None:
    limited = replace(GROUP, max_memory_bytes=1)
    for error in (MemoryError(), SystemError(), OSError(errno.ENOMEM, "Cannot allocate memory")):
        assert run(kind(error))[0].outcome == "error"
        assert run(kind(error), settings=limited)[0].outcome == "memory"
    assert run(kind(OSError(errno.ENOENT, "no such file")), settings=limited)[0].outcome == "error"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class NotText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class Exits(Exception):
    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


@BOTH
@pytest.mark.parametrize("error", [Unprintable(), NotText(), Exits()], ids=["raises", "gives a number", "exits"])
def test_an_exception_that_cannot_be_printed(kind: Kind, error: Exception) -> None:
    report, _ = run(kind(error))
    assert report.outcome == "error" and report.error_type == type(error).__name__
    assert type(error).__name__ in report.error and "handle_task" in report.trace


@BOTH
def test_a_huge_message_is_shortened(kind: Kind) -> None:
    report, _ = run(kind(ValueError("begin" + "x" * 1_000_000 + "end")))
    assert len(report.error) <= ERROR_LIMIT and len(report.trace) <= TRACE_LIMIT
    assert report.error.startswith("begin") and report.error.endswith("end")


@BOTH
def test_a_message_of_surrogates_can_be_sent(kind: Kind) -> None:
    report, _ = run(kind(ValueError("\udcff" * 10)))
    report.error.encode()
    report.trace.encode()


def test_a_deep_recursion_is_a_failure() -> None:
    def handle_task(self: Any, body: Any) -> Any:
        return handle_task(self, body)

    report, _ = run(handle_task)
    assert report.error_type == "RecursionError" and len(report.trace) <= TRACE_LIMIT


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, float("nan"), {"a": b""}, "\ud800"], ids=lambda value: type(value).__name__
)
def test_a_result_that_cannot_be_published_is_a_failure(value: Any) -> None:
    report, result = run(lambda self, body: value)
    assert report.outcome == "error" and report.error_type in {"TypeError", "ValueError", "UnicodeEncodeError"}
    assert result == b""


def test_a_circular_result_is_a_failure() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert run(lambda self, body: circle)[0].outcome == "error"


def test_a_result_over_the_limit_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "RESULT_LIMIT", 100)
    assert run(lambda self, body: b"x" * 100)[0].outcome == "success"
    report, result = run(lambda self, body: b"x" * 101)
    assert report.outcome == "error" and "101 bytes" in report.error and result == b""


def test_a_body_that_is_not_what_it_says_never_reaches_the_handler() -> None:
    called: list[Any] = []
    for body, content_type in ((b"{", "application/json"), (b"\xff", "text/plain")):
        assert run(lambda self, body: called.append(body), body, content_type=content_type)[0].outcome == "malformed"
    assert not called


# -- soft_time_limit

LIMITED = replace(GROUP, soft_time_limit_s=0.03)


def test_the_soft_limit_ends_a_sleep() -> None:
    began = time.monotonic()
    report, _ = run(lambda self, body: time.sleep(30), settings=LIMITED)
    assert (report.outcome, report.error_type) == ("error", "SoftTimeLimitExceeded")
    assert time.monotonic() - began < 5


def test_the_soft_limit_ends_a_busy_loop() -> None:
    def handle_task(self: Any, body: Any) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            pass

    report, _ = run(handle_task, settings=LIMITED)
    assert report.error_type == "SoftTimeLimitExceeded" and report.runtime_ms < 5000


def test_the_soft_limit_lets_a_handler_clean_up_and_return() -> None:
    def handle_task(self: Any, body: Any) -> str:
        try:
            time.sleep(30)
        except SoftTimeLimitExceeded:
            return "partial"
        return "whole"

    report, result = run(handle_task, settings=LIMITED)
    assert (report.outcome, result) == ("success", b"partial")


def test_the_soft_limit_is_over_with_the_handler() -> None:
    for handler in (lambda self, body: "done", raising(ValueError())):
        run(handler, settings=LIMITED)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_soft_limit_holds_whatever_was_done_to_sigalrm_before() -> None:
    limit = SoftLimit(0.03)
    made = make_worker(type("Worker", (BaseWorker,), {"handle_task": lambda self, body: time.sleep(30)}), "test")
    for undo in (
        lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN),
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM}),
    ):
        undo()
        assert run_sync(made, assignment(), b"x", LIMITED, limit)[0].error_type == "SoftTimeLimitExceeded"


def test_an_alarm_behind_the_handler_does_no_harm() -> None:
    limit = SoftLimit(10.0)
    limit.arm()
    limit.disarm()
    os.kill(os.getpid(), signal.SIGALRM)
    limit.arm()
    with pytest.raises(SoftTimeLimitExceeded):
        os.kill(os.getpid(), signal.SIGALRM)
    limit.disarm()


def test_without_a_limit_sigalrm_is_the_plugins_own() -> None:
    before = signal.getsignal(signal.SIGALRM)
    SoftLimit(None).arm()
    assert signal.getsignal(signal.SIGALRM) == before


def test_the_async_soft_limit_lets_a_handler_clean_up() -> None:
    cleaned: list[str] = []

    async def handle_task(self: Any, body: Any) -> str:
        try:
            await asyncio.sleep(30)
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0)
            cleaned.append("awaited")
            return "partial"
        finally:
            cleaned.append("finally")
        return "whole"

    report, result = run(handle_task, settings=LIMITED)
    assert (report.outcome, result, cleaned) == ("success", b"partial", ["awaited", "finally"])


def test_the_async_soft_limit_that_is_let_pass_is_a_failure() -> None:
    async def handle_task(self: Any, body: Any) -> None:
        async with asyncio.timeout(20):
            await asyncio.gather(asyncio.sleep(30), asyncio.sleep(30))

    report, _ = run(handle_task, settings=LIMITED)
    assert (report.outcome, report.error_type) == ("error", "SoftTimeLimitExceeded")


def test_the_async_soft_limit_is_raised_once() -> None:
    async def handle_task(self: Any, body: Any) -> str:
        try:
            await asyncio.sleep(30)
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0.1)
        return "went on"

    assert run(handle_task, settings=LIMITED)[1] == b"went on"


def test_an_async_handler_that_is_quick_enough_is_left_alone() -> None:
    async def handle_task(self: Any, body: Any) -> str:
        async with asyncio.timeout(10):
            await asyncio.sleep(0.001)
        return "in time"

    assert run(handle_task, settings=replace(GROUP, soft_time_limit_s=20.0))[1] == b"in time"


def test_an_async_handlers_own_cancellation_is_its_failure() -> None:
    async def handle_task(self: Any, body: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    report, _ = run(handle_task, settings=replace(GROUP, soft_time_limit_s=20.0))
    assert (report.outcome, report.error_type) == ("error", "CancelledError")


# -- the factory


@pytest.mark.parametrize("made", [None, object(), BaseWorker, 5])
def test_a_factory_that_gives_no_worker(made: Any) -> None:
    with pytest.raises(PluginError, match="expected a worker"):
        make_worker(lambda: made, "test")


def test_any_object_with_handle_task_will_do() -> None:
    class Duck:
        def handle_task(self, body: str) -> str:
            return body.upper()

    made = make_worker(Duck, "test")
    assert run_sync(made, assignment(), b"x", GROUP, SoftLimit(None))[1] == b"X"


def test_settings_are_there_before_init() -> None:
    class Worker(BaseWorker):
        def __init__(self) -> None:
            self.seen = self.settings["colour"]

    bind(GROUP)
    assert make_worker(Worker, "test").seen == "red"
