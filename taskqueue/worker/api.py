"""The plugin API. A plugin is a class with `handle_task`, and an entry point that names its factory.

    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            return do_something_heavy(body)

    # setup.py
    entry_points={"worker.plugins": ["mytype = mypackage.mymodule:Worker.factory"]}

Plugins import these names from `taskqueue.worker`, and tracebacks show them so: `taskqueue.worker.Retry`. This module
must stay light, since every template loads it, and must never speak AMQP.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from taskqueue.errors import TaskqueueError

__all__ = ["BaseWorker", "Reject", "Retry", "SoftTimeLimitExceeded", "Task"]


class Retry(TaskqueueError):
    """Raise it in `handle_task` to have the workitem run again later.

    `delay_s`: seconds until then, up to ten years; by default what the group's `retry_delay` gives for this attempt.
    Where the group sets `max_retries`, a retry counts towards them, and the workitem fails with `reason` when they are
    used up. Where it does not, only the handler can end the retries: look at `self.task.attempt`.

    Raises `ValueError` for an impossible `delay_s`.
    """

    __module__ = "taskqueue.worker"

    delay_s: float | None = None

    def __init__(self, reason: str = "", *, delay_s: float | None = None) -> None:
        super().__init__(reason or "the worker asked for a retry")
        if delay_s is not None and not 0 <= delay_s <= 10 * 366 * 86_400:
            raise ValueError(f"delay_s is {delay_s}; expected 0 to ten years, in seconds")
        self.delay_s = delay_s


class Reject(TaskqueueError):
    """Raise it in `handle_task` to make the workitem a dead letter at once, with `reason`."""

    __module__ = "taskqueue.worker"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SoftTimeLimitExceeded(TaskqueueError):
    """Raised inside `handle_task` when the group's `soft_time_limit` is over: clean up and return, or let it pass."""

    __module__ = "taskqueue.worker"


@dataclass(frozen=True, slots=True)
class Task:
    """The workitem that is being run, and this attempt."""

    id: str
    """The `message_id`, the same for the whole life of the workitem: use it to make work idempotent."""
    worker_type: str
    attempt: int
    """The number of this attempt, from 1."""
    content_type: str | None
    """As the client set it."""
    headers: Mapping[str, Any]
    """The AMQP headers, those of the client among them."""
    deadline: float | None
    """When `time_limit` ends this attempt, in seconds on the clock of `time.monotonic()`; None without a limit."""


_task: ContextVar[Task] = ContextVar("taskqueue_task")


def logger(group: str) -> logging.Logger:
    """The logger of a group's workers."""
    return logging.getLogger(f"taskqueue.plugin.{group}")


class _TaskLog(logging.LoggerAdapter[logging.Logger]):
    """Adds the id of the workitem that is being run to each line."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        task = _task.get(None)
        return (f"{msg} task={task.id}" if task else msg), kwargs


class BaseWorker:
    """The base of a plugin's worker. One instance lives in each worker process.

    Override `handle_task`, and `setup` and `teardown` where the worker opens and closes something. `settings` and `log`
    are set before `__init__` runs.
    """

    settings: Mapping[str, Any]
    """The group's effective settings: taskqueue's keys with typed values, and the plugin's own keys as text."""
    log: logging.LoggerAdapter[logging.Logger]
    """Logs into taskqueue's log, with the group and the id of the workitem that is being run."""

    _bound: ClassVar[tuple[str, Mapping[str, Any]]] = ("worker", {})

    def __new__(cls, *arguments: Any, **keywords: Any) -> Self:
        """Give the instance its settings and its log, also where a plugin's `__init__` does not call this class's."""
        self = super().__new__(cls)
        group, self.settings = BaseWorker._bound
        self.log = _TaskLog(logger(group))
        return self

    @classmethod
    def factory(cls) -> Self:
        """Make the worker. The entry point names it; override it where `cls()` is not enough."""
        return cls()

    @property
    def task(self) -> Task:
        """The workitem that is being run. Raises `LookupError` outside of `handle_task`."""
        return _task.get()

    def setup(self) -> Any:
        """Taskqueue calls it once in each worker process, before the first workitem. It may be a coroutine function
        where `handle_task` is one. An exception makes the worker fail; it is replaced after a backoff."""

    def teardown(self) -> Any:
        """Taskqueue calls it once in each worker process that ends in good order. It may be a coroutine function where
        `handle_task` is one."""

    def handle_task(self, body: Any) -> Any:
        """Run one workitem and return its result.

        `body` is `str` for text, the parsed value for JSON, `bytes` for other content types. Return `str`, `bytes`, or
        any value that JSON has; it is published as the result. An exception fails the attempt: see `Retry` and
        `Reject`. It may be a coroutine function: then up to `concurrency` workitems run at a time.
        """
        raise NotImplementedError(f"{type(self).__name__} has no handle_task")
