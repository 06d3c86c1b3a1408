"""Runs one workitem through a worker: body in, handler under its soft time limit, report out.

Used by the serving loop of worker processes and by `taskqueue.testing`, so that both do the same. It must never
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
from time import monotonic  # as it is before a plugin puts another in its place
from typing import Any

from taskqueue.config.settings import KEY_OF_FIELD, GroupSettings
from taskqueue.errors import MalformedWorkitem, PluginError
from taskqueue.link.assignment import ERROR_LIMIT, RESULT_LIMIT, TRACE_LIMIT, Assignment, Report
from taskqueue.protocol.properties import shorten
from taskqueue.protocol.results import encode_result
from taskqueue.worker import api
from taskqueue.workitem import decode

_FRAMES = 200
"""The innermost frames of a traceback that are told; a recursion may have 100,000: half a minute (Python 3.13)."""
_class_name = type.__dict__["__name__"].__get__
"""The name of a class, whatever its metaclass says."""


def bind(settings: GroupSettings) -> None:
    """Put a group's settings and logger in force for every worker that is made from now on: once in the template, so
    that its workers share the memory."""
    api.BaseWorker._bound = (settings.name, effective(settings))
    api.logger(settings.name)


def make_worker(factory: Callable[[], Any], worker_type: str) -> Any:
    """Call a plugin's factory, or class; raises `PluginError`."""
    made = factory()
    if isinstance(made, type) or not callable(getattr(made, "handle_task", None)):
        raise PluginError(f"the factory of {worker_type} gave {made!r:.80}; expected a worker with handle_task")
    return made


def effective(settings: GroupSettings) -> Mapping[str, Any]:
    """What a plugin sees as `self.settings`: the group's settings by their names in the config file, with durations in
    seconds and sizes in bytes, and its own keys beside them as text."""
    known = asdict(settings)
    own = known.pop("own")
    by_key = {KEY_OF_FIELD.get(name, name): value for name, value in known.items()}
    return types.MappingProxyType({**by_key, **own})


def is_async(made: Any) -> bool:
    """Whether the worker's handler is a coroutine function."""
    return inspect.iscoroutinefunction(made.handle_task)


def task(assignment: Assignment, settings: GroupSettings, started: float) -> api.Task:
    """What a handler sees as `self.task`; `started` is monotonic."""
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
    """Raises `SoftTimeLimitExceeded` in the main thread while a handler runs; SIGALRM is ours in a sync worker."""

    def __init__(self, limit_s: float | None) -> None:
        self.limit_s = limit_s
        self._armed = False

    def arm(self) -> None:
        """A handler begins. Whatever the one before has done to SIGALRM is undone."""
        if self.limit_s is not None:
            signal.signal(signal.SIGALRM, self._on_alarm)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, self.limit_s)

    def disarm(self) -> None:
        """It ended."""
        if self._armed:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _on_alarm(self, signum: int, frame: object) -> None:
        if self._armed:
            self._armed = False
            raise api.SoftTimeLimitExceeded(f"soft_time_limit of {self.limit_s:g} s is over")


def run_sync(
    made: Any, assignment: Assignment, body: bytes, settings: GroupSettings, limit: SoftLimit
) -> tuple[Report, bytes]:
    """Run one workitem through a sync handler."""
    started = monotonic()
    token = api._task.set(task(assignment, settings, started))
    try:
        value = decode(body, assignment.content_type, assignment.content_encoding)
        try:
            limit.arm()
            returned = made.handle_task(value)
        finally:
            limit.disarm()
        return success(assignment, started, returned)
    except BaseException as error:  # a handler's sys.exit() is its failure, too, and not the worker's end
        return failure(assignment, started, error, settings)
    finally:
        api._task.reset(token)


def success(assignment: Assignment, started: float, returned: Any) -> tuple[Report, bytes]:
    """The report of a handler that returned; raises where the result cannot be published."""
    runtime_ms = (monotonic() - started) * 1000
    content_type, encoded = encode_result(returned)
    if len(encoded) > RESULT_LIMIT:
        raise ValueError(f"the result has {len(encoded)} bytes; at most {RESULT_LIMIT} can be published")
    return Report(assignment.tag, "success", runtime_ms, content_type), encoded


def failure(
    assignment: Assignment, started: float, error: BaseException, settings: GroupSettings
) -> tuple[Report, bytes]:
    """The report of a handler that raised."""
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
            traceback.clear_frames(error.__traceback__)  # what fills the memory: there must be some for the report
    return Report(
        tag=assignment.tag,
        outcome=outcome,
        runtime_ms=(monotonic() - started) * 1000,
        error_type=shorten(_class_name(type(error)), 200),
        error=shorten(said(error), ERROR_LIMIT),
        trace="" if outcome == "reject" else shorten(trace_of(error), TRACE_LIMIT),
        delay_s=delay_s,
    ), b""


def _is_of_memory(error: BaseException) -> bool:
    """Whether memory was refused. CPython has no exception left to set where even its traceback found no room: what
    comes then is `SystemError`."""
    return isinstance(error, MemoryError | SystemError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def said(error: BaseException) -> str:
    """`str(error)`, also where that raises."""
    try:
        return str(error)
    except BaseException as broken:
        return f"<{_class_name(type(error))} that cannot be printed: {_class_name(type(broken))}>"


def trace_of(error: BaseException) -> str:
    """The traceback as text, from the handler's frame on, also where the exception cannot be printed."""
    try:
        return "".join(traceback.format_exception(error, limit=-_FRAMES))
    except BaseException:
        return "".join(traceback.format_tb(error.__traceback__, limit=-_FRAMES)) + said(error)


def call(made: Any, name: str) -> Any:
    """Call `setup` or `teardown` where the worker has one (any object with `handle_task` will do)."""
    method = getattr(made, name, None)
    return method() if method is not None else None
