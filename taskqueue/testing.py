"""Runs a plugin without a broker, for its author's unit tests, by the code that runs it in a worker process.

    from taskqueue.testing import Harness, run

    def test_hello():
        outcome = run(Worker.factory, "hello", settings={"size": "3"})
        assert outcome.value == "hel"

    def test_many():
        with Harness(Worker, settings={"concurrency": "20"}) as harness:    # setup() … teardown()
            outcomes = harness.run_many(["a", "b", "c"])
        assert [outcome.status for outcome in outcomes] == ["success"] * 3

It runs one attempt. It does not do what a listener does: count retries and wait between them, kill a worker at its
`time_limit` or `max_memory`. This module must never start a process, nor talk to a broker.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from taskqueue import plugins
from taskqueue.config.load import load
from taskqueue.config.settings import GroupSettings
from taskqueue.errors import ConfigError, PluginError
from taskqueue.link.assignment import Assignment, Report
from taskqueue.protocol.results import error_body
from taskqueue.worker.api import BaseWorker
from taskqueue.worker.coroutines import run_async
from taskqueue.worker.execution import SoftLimit, bind, call, is_async, make_worker, run_sync
from taskqueue.worker.loading import load_plugin
from taskqueue.workitem import BYTES, JSON, TEXT, decode

__all__ = ["Harness", "Outcome", "by_entry_point", "group_settings", "run"]

_Work = tuple[Assignment, bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one attempt."""

    status: str
    """`success`; `error` (the handler raised); `retry` or `reject` (it raised `Retry` or `Reject`); `malformed` (the
    body does not fit its content type); `memory` (a MemoryError under `max_memory`)."""
    value: Any
    """The result as a client reads it: `str` for text, the parsed value for JSON, `bytes` for other content types.
    Unless the status is `success`, it is the error result that a listener publishes where it does not try again."""
    body: bytes
    """The body of that result."""
    content_type: str
    """The content type of that result."""
    runtime_ms: float
    """Milliseconds that the attempt took."""
    error: str = ""
    """The message of the exception."""
    error_type: str = ""
    """The class of the exception."""
    trace: str = ""
    """The traceback; "" for `Reject`."""
    delay_s: float | None = None
    """Of a `Retry`: seconds until the next attempt, or None for what the group's `retry_delay` gives."""


def run(
    factory: Callable[[], Any],
    body: Any,
    *,
    settings: Mapping[str, Any] | None = None,
    worker_type: str = "test",
    **workitem: Any,
) -> Outcome:
    """Make a worker, run one workitem, end the worker. `workitem` are the keywords of `Harness.run`."""
    with Harness(factory, settings=settings, worker_type=worker_type) as harness:
        return harness.run(body, **workitem)


class Harness:
    """One worker, as in a process of its own: `setup` when entered, any number of workitems, `teardown` at the end.

    `factory` is what the entry point names: `Worker.factory`, a class, or any callable that returns a worker.
    `settings` are keys and values as in config.ini (see `group_settings`). What `factory`, `setup` and `teardown`
    raise is raised here; a class that is no worker raises `PluginError`.

    `soft_time_limit` holds for async workers, and for sync workers in the main thread. Background tasks of an async
    worker run only while a workitem runs.
    """

    worker: Any
    """The plugin's worker, for a test to look into."""

    def __init__(
        self, factory: Callable[[], Any], *, settings: Mapping[str, Any] | None = None, worker_type: str = "test"
    ) -> None:
        self.settings: GroupSettings = group_settings(worker_type, settings or {})
        self._factory = factory
        self._numbers = itertools.count(1)
        self._stack = ExitStack()
        self._loop: asyncio.Runner | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(setattr, BaseWorker, "_bound", BaseWorker._bound)
            bind(self.settings)
            self.worker = make_worker(self._factory, self.settings.worker_type)
            if is_async(self.worker):
                self._loop = stack.enter_context(asyncio.Runner())
            self._call("setup")
            stack.callback(self._call, "teardown")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(
        self,
        body: Any,
        *,
        attempt: int = 1,
        headers: Mapping[str, Any] | None = None,
        content_type: str | None = None,
        message_id: str | None = None,
    ) -> Outcome:
        """Run one workitem. A `body` of `str` is sent as text, of `bytes` as octets, any other as JSON.

        `content_type` overrides that, and decides what the handler gets, as in production. The `message_id` is
        `test-1`, `test-2` … by default.
        """
        return self._run([self._assigned(body, attempt, headers, content_type, message_id)])[0]

    def run_many(self, bodies: Iterable[Any]) -> list[Outcome]:
        """Run a workitem for each body; an async worker runs up to `concurrency` of them at a time."""
        return self._run([self._assigned(body) for body in bodies])

    def _assigned(
        self, body: Any, attempt: int = 1, headers: Any = None, content_type: Any = None, message_id: Any = None
    ) -> _Work:
        number = next(self._numbers)
        match body:
            case str():
                encoded, described = body.encode(), TEXT
            case bytes():
                encoded, described = body, BYTES
            case _:
                encoded, described = json.dumps(body).encode(), JSON
        described = content_type or described
        return Assignment(number, message_id or f"test-{number}", attempt, described, None, headers or {}), encoded

    def _run(self, work: list[_Work]) -> list[Outcome]:
        if self._loop is not None:
            return self._loop.run(self._run_async(work))
        with _soft_limit(self.settings.soft_time_limit_s) as limit:
            return [_outcome(*run_sync(self.worker, *each, self.settings, limit), *each) for each in work]

    async def _run_async(self, work: list[_Work]) -> list[Outcome]:
        gate = asyncio.Semaphore(self.settings.concurrency)

        async def one(each: _Work) -> Outcome:
            async with gate:
                return _outcome(*await run_async(self.worker, *each, self.settings), *each)

        return await asyncio.gather(*map(one, work))

    def _call(self, name: str) -> None:
        if self._loop is None:
            call(self.worker, name)
        else:
            self._loop.run(_called(self.worker, name))


def by_entry_point(worker_type: str) -> Callable[[], Any]:
    """The factory of an installed plugin, found as the workerpool finds it. Raises `PluginError` where there is none,
    and whatever its import raises."""
    installed = plugins.installed()
    if worker_type not in installed:
        raise PluginError(f"no plugin {worker_type!r} is installed; there are: {', '.join(installed) or 'none'}")
    return load_plugin(worker_type, installed[worker_type].entry_value)


def group_settings(worker_type: str, values: Mapping[str, Any]) -> GroupSettings:
    """The settings of a group whose section in config.ini has `values`, with the defaults for all others.

    A value is written as in the file: `time_limit="5s"`, `size="3"`, also `max_retries=3`; a list gives a list.
    Raises `ConfigError` for what the workerpool would refuse.
    """
    section = "\n".join([f"[{worker_type}]", *(f"{key}: {_written(value)}" for key, value in values.items())])
    loaded = load("settings", text=section, environ={}, user_exists=lambda name: True)
    groups = loaded.groups([worker_type])
    if len(groups) != 1:
        raise ConfigError(f"settings: workers: {values['workers']!r} gives {len(groups)} groups; expected one")
    return groups[0]


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(f'"{each}"' for each in value) + ","
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    if "\n" in text:
        raise ConfigError("settings: a value of several lines; config.ini has no way to write it")
    return text


def _outcome(report: Report, returned: bytes, assignment: Assignment, sent: bytes) -> Outcome:
    body, content_type = returned, report.content_type
    if report.outcome != "success":
        body, content_type = error_body(sent, assignment.content_type, report.error, report.trace), JSON
    return Outcome(
        report.outcome, decode(body, content_type, None), body, content_type, report.runtime_ms,
        report.error, report.error_type, report.trace, report.delay_s,
    )  # fmt: skip


async def _called(worker: Any, name: str) -> None:
    returned = call(worker, name)
    if inspect.isawaitable(returned):
        await returned


@contextmanager
def _soft_limit(limit_s: float | None) -> Iterator[SoftLimit]:
    """The soft time limit of attempts in this process. SIGALRM is put back: a test runner may use it for a timeout."""
    if limit_s is None or threading.current_thread() is not threading.main_thread():
        yield SoftLimit(None)
        return
    started = time.monotonic()
    handler, (left_s, interval_s) = signal.getsignal(signal.SIGALRM), signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield SoftLimit(limit_s)
    finally:
        signal.signal(signal.SIGALRM, handler)
        if left_s:
            signal.setitimer(signal.ITIMER_REAL, max(left_s - (time.monotonic() - started), 0.001), interval_s)
