"""One attempt: a body goes in, the handler runs under its soft time limit, a report comes out.

1. A worker process, or `taskqueue.testing`, has an `Assignment` and a body, `{"width": 640}` of `application/json`.
2. The body is decoded; a body that is not what its content type says makes the report `malformed`.
3. `self.task` is set, the soft time limit begins, and `handle_task({"width": 640})` is called.
4. It returns: `success`, with the value encoded as text, octets or JSON. Or it raises, and the exception decides:

       Retry                             retry     with its delay_s, None where the group's retry_delay counts
       Reject                            reject    without a traceback
       MemoryError under max_memory      memory    the worker ends after this report
       any other, also SystemExit        error     with class, message and traceback, each shortened

`run_sync` is for handlers that are functions, `coroutines.run_async` for coroutine functions. This module must never
raise for what a handler does, and must never do I/O of its own.
"""

from __future__ import annotations

import errno
import inspect
import signal
import traceback
import types
from collections.abc import Callable, Mapping
from dataclasses import asdict
from time import monotonic  # imported before a plugin can replace it
from typing import Any

from taskqueue.config.settings import KEY_OF_FIELD, GroupSettings
from taskqueue.errors import MalformedWorkitem, PluginError
from taskqueue.link.assignment import ERROR_LIMIT, RESULT_LIMIT, TRACE_LIMIT, Assignment, Report
from taskqueue.protocol.properties import shorten
from taskqueue.protocol.results import encode_result
from taskqueue.worker import api
from taskqueue.workitem import decode

_FRAMES = 200
"""The innermost frames of a traceback that are reported. A recursion may have 100,000, and formatting all of them takes
half a minute (Python 3.13)."""
_class_name = type.__dict__["__name__"].__get__
"""Gives the name of a class, even where its metaclass overrides `__name__`."""


def bind(settings: GroupSettings) -> None:
    """Give every `BaseWorker` that is made from now on the settings and the logger of a group.

    The template calls it once, so that its workers share the memory.
    """
    api.BaseWorker._bound = (settings.name, effective(settings))
    api.logger(settings.name)


def make_worker(factory: Callable[[], Any], worker_type: str) -> Any:
    """Call a plugin's factory, or class.

    Raises whatever the plugin raises, and `PluginError` for an object without `handle_task`.
    """
    worker = factory()
    if isinstance(worker, type) or not callable(getattr(worker, "handle_task", None)):
        raise PluginError(f"the factory of {worker_type} gave {worker!r:.80}; expected a worker with handle_task")
    return worker


def effective(settings: GroupSettings) -> Mapping[str, Any]:
    """The mapping that a plugin sees as `self.settings`: the group's settings by their names in the config file, with
    durations in seconds and sizes in bytes, and its own keys beside them as text."""
    known = asdict(settings)
    own = known.pop("own")
    by_key = {KEY_OF_FIELD.get(name, name): value for name, value in known.items()}
    return types.MappingProxyType({**by_key, **own})


def is_async(worker: Any) -> bool:
    """Whether the worker's handler is a coroutine function."""
    return inspect.iscoroutinefunction(worker.handle_task)


def task_of(assignment: Assignment, settings: GroupSettings, started: float) -> api.Task:
    """The value of `self.task` in an attempt that began at `started`, on the clock of `time.monotonic()`."""
    limit = settings.time_limit_s
    return api.Task(
        id=assignment.message_id,
        worker_type=settings.worker_type,
        attempt=assignment.attempt,
        content_type=assignment.content_type,
        headers=assignment.headers,
        deadline=None if limit is None else started + limit,
    )


class SoftLimit:
    """Raises `SoftTimeLimitExceeded` in a sync handler after `limit_s` seconds, by SIGALRM in the main thread.

    With `limit_s` None it does nothing, and SIGALRM is the plugin's.
    """

    def __init__(self, limit_s: float | None) -> None:
        self.limit_s = limit_s
        self._armed = False

    def arm(self) -> None:
        """Start the limit, as a handler begins. Whatever an earlier handler has done to SIGALRM is undone."""
        if self.limit_s is not None:
            signal.signal(signal.SIGALRM, self._on_alarm)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, self.limit_s)

    def disarm(self) -> None:
        """Stop the limit, as the handler has ended. An alarm that comes later does nothing."""
        if self._armed:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _on_alarm(self, signum: int, frame: object) -> None:
        if self._armed:
            self._armed = False
            raise api.SoftTimeLimitExceeded(f"soft_time_limit of {self.limit_s:g} s is over")


def run_sync(
    worker: Any, assignment: Assignment, body: bytes, settings: GroupSettings, limit: SoftLimit
) -> tuple[Report, bytes]:
    """Run one attempt through a sync handler; gives the report and the body of the result."""
    started = monotonic()
    token = api._task.set(task_of(assignment, settings, started))
    try:
        value = decode(body, assignment.content_type, assignment.content_encoding)
        try:
            limit.arm()
            returned = worker.handle_task(value)
        finally:
            limit.disarm()
        return success(assignment, started, returned)
    except BaseException as error:  # sys.exit() in a handler fails the attempt, and does not end the worker
        return failure(assignment, started, error, settings)
    finally:
        api._task.reset(token)


def success(assignment: Assignment, started: float, returned: Any) -> tuple[Report, bytes]:
    """The report of a handler that returned, and the body of its result.

    Raises `TypeError` or `ValueError` for a value that JSON does not have, or that is too large to be published.
    """
    runtime_ms = (monotonic() - started) * 1000
    content_type, encoded = encode_result(returned)
    if len(encoded) > RESULT_LIMIT:
        raise ValueError(f"the result has {len(encoded)} bytes; at most {RESULT_LIMIT} can be published")
    return Report(assignment.tag, "success", runtime_ms, content_type), encoded


def failure(
    assignment: Assignment, started: float, error: BaseException, settings: GroupSettings
) -> tuple[Report, bytes]:
    """The report of a handler that raised `error`; its body is empty."""
    outcome, delay_s = "error", None
    match error:
        case api.Retry():
            outcome, delay_s = "retry", error.delay_s
        case api.Reject():
            outcome = "reject"
        case MalformedWorkitem():
            outcome = "malformed"
        case _ if settings.max_memory_bytes is not None and _is_of_memory(error):
            outcome = "memory"
            traceback.clear_frames(error.__traceback__)  # the handler's variables fill the memory that the report needs
    return Report(
        tag=assignment.tag,
        outcome=outcome,
        runtime_ms=(monotonic() - started) * 1000,
        error_type=shorten(_class_name(type(error)), 200),
        error=shorten(message_of(error), ERROR_LIMIT),
        trace="" if outcome == "reject" else shorten(trace_of(error), TRACE_LIMIT),
        delay_s=delay_s,
    ), b""


def _is_of_memory(error: BaseException) -> bool:
    """Whether memory was refused. Where CPython found no room for the exception either, it raises `SystemError`."""
    return isinstance(error, MemoryError | SystemError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def message_of(error: BaseException) -> str:
    """`str(error)`; a description where that raises."""
    try:
        return str(error)
    except BaseException as broken:
        return f"<{_class_name(type(error))} that cannot be printed: {_class_name(type(broken))}>"


def trace_of(error: BaseException) -> str:
    """The traceback as text, of its innermost frames, also where the exception itself cannot be printed."""
    try:
        return "".join(traceback.format_exception(error, limit=-_FRAMES))
    except BaseException:
        return "".join(traceback.format_tb(error.__traceback__, limit=-_FRAMES)) + message_of(error)


def call(worker: Any, name: str) -> Any:
    """Call `setup` or `teardown`, where the worker has it: any object with `handle_task` is a worker."""
    method = getattr(worker, name, None)
    return method() if method is not None else None
