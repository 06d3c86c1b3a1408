"""taskqueue.testing: does it run a plugin as a worker process does, and say what came of it?"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskqueue.errors import ConfigError, PluginError
from taskqueue.link.assignment import RESULT_LIMIT
from taskqueue.testing import Harness, by_entry_point, group_settings, run
from taskqueue.worker import BaseWorker, Reject, Retry, SoftTimeLimitExceeded


class Echo(BaseWorker):
    """Returns what it gets."""

    def handle_task(self, body: Any) -> Any:
        return body


class Size(BaseWorker):
    """Has a setting of its own, and leaves a trace of its life."""

    def setup(self) -> None:
        self.size = int(self.settings["size"])
        self.life = ["setup"]

    def handle_task(self, body: str) -> str:
        self.life.append(body)
        return body[: self.size]

    def teardown(self) -> None:
        self.life.append("teardown")


class Raises(BaseWorker):
    """Raises what it is told to."""

    def handle_task(self, body: str) -> Any:
        match body:
            case "retry":
                raise Retry("not now", delay_s=2.5)
            case "retry by default":
                raise Retry()
            case "reject":
                raise Reject("never")
            case "exit":
                sys.exit(3)
            case "memory":
                raise MemoryError("all gone")
            case "json":
                return object()
        raise ValueError(body)


class Slow(BaseWorker):
    """Runs until its soft time limit."""

    def handle_task(self, body: Any) -> str:
        try:
            while True:
                time.sleep(0.001)
        except SoftTimeLimitExceeded as over:
            return str(over)


class Meeting(BaseWorker):
    """Async: each workitem waits until as many run as it says."""

    async def setup(self) -> None:
        self.running = self.most = 0
        self.loop = asyncio.get_running_loop()
        self.ids: set[str] = set()

    async def handle_task(self, body: int) -> int:
        assert asyncio.get_running_loop() is self.loop
        self.running += 1
        self.most = max(self.most, self.running)
        while self.most < body:
            await asyncio.sleep(0)
        self.ids.add(self.task.id)
        self.running -= 1
        return self.most

    async def teardown(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        self.running = -1


@pytest.mark.parametrize(
    ("body", "content_type", "value", "result_type"),
    [
        ("hällo", None, "hällo", "text/plain"),
        (b"\0\xff", None, b"\0\xff", "application/octet-stream"),
        ({"a": [1, None]}, None, {"a": [1, None]}, "application/json"),
        (None, None, None, "application/json"),
        ('{"a": 1}', "application/json", {"a": 1}, "application/json"),
        (b"plain", "text/plain; charset=ascii", "plain", "text/plain"),
        ("PNG", "image/png", b"PNG", "application/octet-stream"),
        ({"a": 1}, "text/plain", '{"a": 1}', "text/plain"),
    ],
)
def test_a_body_reaches_the_handler_and_its_result_the_client_as_in_production(
    body: Any, content_type: str | None, value: Any, result_type: str
) -> None:
    outcome = run(Echo.factory, body, content_type=content_type)
    assert (outcome.status, outcome.value, outcome.content_type) == ("success", value, result_type)
    assert outcome.error == outcome.error_type == outcome.trace == ""
    assert 0 <= outcome.runtime_ms < 5000


def test_the_factory_may_be_a_factory_a_class_or_any_callable() -> None:
    class Duck:
        """Has handle_task and nothing else."""

        def handle_task(self, body: str) -> str:
            return body.upper()

    assert [run(each, "a").value for each in (Echo.factory, Echo, lambda: Echo(), Duck)] == ["a", "a", "a", "A"]
    with pytest.raises(PluginError, match="expected a worker with handle_task"):
        run(lambda: Echo, "a")


def test_a_harness_calls_setup_once_then_runs_workitems_then_calls_teardown() -> None:
    with Harness(Size.factory, settings={"size": "3"}) as harness:
        assert harness.worker.life == ["setup"]
        assert [harness.run(body).value for body in ("hello", "hi")] == ["hel", "hi"]
        assert [outcome.value for outcome in harness.run_many(["12345", ""])] == ["123", ""]
    assert harness.worker.life == ["setup", "hello", "hi", "12345", "", "teardown"]


def test_teardown_is_called_also_where_the_test_fails() -> None:
    with pytest.raises(ZeroDivisionError), Harness(Size, settings={"size": 3}) as harness:
        raise ZeroDivisionError
    assert harness.worker.life == ["setup", "teardown"]


def test_what_setup_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        run(Size, "hello", settings={"size": "three"})
    with pytest.raises(KeyError, match="size"):
        run(Size, "hello")


@pytest.mark.parametrize(
    ("body", "status", "error_type", "error", "delay_s"),
    [
        ("boom", "error", "ValueError", "boom", None),
        ("retry", "retry", "Retry", "not now", 2.5),
        ("retry by default", "retry", "Retry", "the worker asked for a retry", None),
        ("reject", "reject", "Reject", "never", None),
        ("exit", "error", "SystemExit", "3", None),
        ("json", "error", "TypeError", "Object of type object is not JSON serializable", None),
        ("memory", "error", "MemoryError", "all gone", None),
    ],
)
def test_what_a_handler_raises(body: str, status: str, error_type: str, error: str, delay_s: float | None) -> None:
    outcome = run(Raises, body)
    assert (outcome.status, outcome.error_type, outcome.error) == (status, error_type, error)
    assert outcome.delay_s == delay_s
    assert (outcome.trace == "") == (status == "reject")
    assert outcome.value == {"error": error, "trace": outcome.trace, "workitem": body}


def test_a_memory_error_under_max_memory_is_told_apart() -> None:
    assert run(Raises, "memory", settings={"max_memory": "512M"}).status == "memory"


def test_a_json_workitem_comes_back_with_its_error() -> None:
    outcome = run(Raises, {"fields": {"a": 1}})
    assert outcome.value == {"fields": {"a": 1}, "error": "{'fields': {'a': 1}}", "trace": outcome.trace}
    assert outcome.content_type == "application/json"


def test_a_body_that_is_not_what_its_type_says() -> None:
    outcome = run(Echo, "{", content_type="application/json")
    assert (outcome.status, outcome.error_type) == ("malformed", "MalformedWorkitem")


def test_the_task_is_there_while_it_runs_and_only_then() -> None:
    class Asks(BaseWorker):
        """Tells what it knows of its task."""

        def handle_task(self, body: str) -> Any:
            task = self.task
            assert task.deadline is not None
            left_s = task.deadline - time.monotonic()
            return [task.id, task.worker_type, task.attempt, task.content_type, task.headers["x"], 4 < left_s <= 5]

    with Harness(Asks, settings={"time_limit": "5s"}, worker_type="asks") as harness:
        first = harness.run("", attempt=3, headers={"x": 1}, message_id="me")
        second = harness.run(b"{}", content_type="application/json", headers={"x": 2})
        assert first.value == ["me", "asks", 3, "text/plain", 1, True]
        assert second.value == ["test-2", "asks", 1, "application/json", 2, True]
        with pytest.raises(LookupError):
            _ = harness.worker.task


def test_settings_are_read_as_from_the_file() -> None:
    class Settings(BaseWorker):
        """Returns its settings."""

        def handle_task(self, body: str) -> Any:
            return {**self.settings}

    given = {"time_limit": "5m", "max_memory": "16M", "preload": False, "max_retries": 3, "size": "3", "hosts": ["a b"]}
    value = run(Settings, "", settings={**given, "names": "x, y", "user": "no-such-user"}).value
    assert (value["time_limit"], value["max_memory"], value["preload"]) == (300, 16 * 2**20, False)
    assert (value["max_retries"], value["retry_delay"], value["workers"]) == (3, 1.0, 1)
    assert (value["size"], value["hosts"], value["names"]) == ("3", ["a b"], ["x", "y"])


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"time_limit": "soon"}, r"^settings:2: \[test\] time_limit: 'soon' is wrong"),
        ({"time_limit": "1s", "soft_time_limit": "2s"}, r"^settings:3: \[test\] soft_time_limit"),
        ({"workers": "a, b"}, "section"),
        ({"workers": 0}, "gives 0 groups"),
        ({"size": "a\nb"}, "several lines"),
    ],
)
def test_settings_that_the_workerpool_would_refuse(values: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        run(Echo, "", settings=values)


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQUEUE_AMQP_URL", "nonsense")
    assert group_settings("sleep", {}).name == "sleep"


def test_settings_need_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert group_settings("sleep", {"max_retries": 3}).max_retries == 3


def test_settings_are_not_left_behind_for_other_workers() -> None:
    run(Size, "hello", settings={"size": "3"})
    assert "size" not in Echo().settings


def test_soft_time_limit() -> None:
    outcome = run(Slow, "", settings={"soft_time_limit": "20ms"})
    assert outcome.value == "soft_time_limit of 0.02 s is over"
    assert outcome.runtime_ms >= 20


def test_soft_time_limit_gives_the_alarm_back() -> None:
    rang: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
    timer = signal.setitimer(signal.ITIMER_REAL, 3600)
    try:
        run(Slow, "", settings={"soft_time_limit": "20ms"})
        assert 3590 < signal.getitimer(signal.ITIMER_REAL)[0] < 3600
        signal.raise_signal(signal.SIGALRM)
        assert rang == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def test_another_thread_does_without_the_soft_time_limit() -> None:
    values: list[Any] = []
    thread = threading.Thread(target=lambda: values.append(run(Echo, "on", settings={"soft_time_limit": "20ms"}).value))
    thread.start()
    thread.join()
    assert values == ["on"]


def test_an_async_worker_runs_in_one_loop_from_setup_to_teardown() -> None:
    with Harness(Meeting, settings={"concurrency": "3"}) as harness:
        assert harness.run(1).value == 1
        assert [outcome.value for outcome in harness.run_many([3] * 7)] == [3] * 7
        assert harness.worker.ids == {f"test-{number}" for number in range(1, 9)}
    assert (harness.worker.most, harness.worker.running) == (3, -1)


def test_soft_time_limit_of_an_async_worker() -> None:
    class Waits(BaseWorker):
        """Waits for ever; `self.task` outlives the limit."""

        async def handle_task(self, body: str) -> str:
            try:
                await asyncio.get_running_loop().create_future()
            except SoftTimeLimitExceeded as over:
                return f"{self.task.id}: {over}"
            return "never"

    outcome = run(Waits, "", settings={"soft_time_limit": "20ms"})
    assert outcome.value == "test-1: soft_time_limit of 0.02 s is over"


def test_an_async_worker_with_plain_setup_and_an_error() -> None:
    class Plain(BaseWorker):
        """Its setup is no coroutine."""

        def setup(self) -> None:
            self.limit = 3

        async def handle_task(self, body: int) -> int:
            if body > self.limit:
                raise Retry(delay_s=1)
            return body

    with Harness(Plain) as harness:
        assert [outcome.status for outcome in harness.run_many([1, 4])] == ["success", "retry"]


def test_a_result_that_cannot_be_published() -> None:
    assert run(Echo, b"x" * (RESULT_LIMIT + 1)).error.endswith(f"at most {RESULT_LIMIT} can be published")


@pytest.fixture
def installed_sleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A plugin `sleepy`, installed as pip would."""
    info = tmp_path / "taskqueue_sleepy-1.0.dist-info"
    info.mkdir()
    name = f"sleepy_{base64.b32encode(os.urandom(5)).decode().lower()}"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: taskqueue-sleepy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[worker.plugins]\nsleepy = {name}:Worker.factory\n")
    (tmp_path / f"{name}.py").write_text(
        "from taskqueue.worker import BaseWorker\n\n\n"
        "class Worker(BaseWorker):\n    def handle_task(self, body):\n        return 'slept ' + body\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop(name, None)


def test_an_installed_plugin_by_its_worker_type(installed_sleep: None) -> None:
    assert run(by_entry_point("sleepy"), "well").value == "slept well"
    with pytest.raises(PluginError, match=r"no plugin 'sloopy' is installed; there are: .*sleepy"):
        by_entry_point("sloopy")
