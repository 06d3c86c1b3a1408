"""The plugin API: what a plugin author imports. A plugin is one class with `handle_task` and one entry point.

    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            return do_something_heavy(body)

    # setup.py
    entry_points={"worker.plugins": ["mytype = mypackage.mymodule:Worker.factory"]}

This module must stay light, since every template imports it, and must never speak AMQP.
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

    `delay_s`: seconds to wait; by default what the group's `retry_delay` gives for this attempt. Where the group sets
    `max_retries`, it counts towards them, and the workitem fails with `reason` when they are used up; where it does
    not, only the handler itself ends it: look at `self.task.attempt`.
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
    """The workitem that is being run."""

    id: str
    """The `message_id`, the same for the whole life of the workitem: use it to make work idempotent."""
    worker_type: str
    attempt: int
    """Which run of this workitem this is, from 1."""
    content_type: str | None
    headers: Mapping[str, Any]
    deadline: float | None
    """When `time_limit` ends this run, on the clock of `time.monotonic()`; None without a limit."""


_task: ContextVar[Task] = ContextVar("taskqueue_task")


def logger(group: str) -> logging.Logger:
    """What the workers of a group log to."""
    return logging.getLogger(f"taskqueue.plugin.{group}")


class _TaskLog(logging.LoggerAdapter[logging.Logger]):
    """Adds the id of the workitem to each line."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        task = _task.get(None)
        return (f"{msg} task={task.id}" if task else msg), kwargs


class BaseWorker:
    """The base of all workers. One instance lives in each worker process.

    Override `handle_task`; `setup` and `teardown` where something must be opened and closed. `settings` is there
    before `__init__` runs.
    """

    settings: Mapping[str, Any]
    """The group's effective settings: taskqueue's keys with typed values, and the plugin's own keys as text."""
    log: logging.LoggerAdapter[logging.Logger]
    """Goes to taskqueue's log with the group, and the id of the workitem that is being run."""

    _bound: ClassVar[tuple[str, Mapping[str, Any]]] = ("worker", {})

    def __new__(cls, *arguments: Any, **keywords: Any) -> Self:
        """Give the instance its settings and log, whether or not `__init__` is overridden."""
        self = super().__new__(cls)
        group, self.settings = BaseWorker._bound
        self.log = _TaskLog(logger(group))
        return self

    @classmethod
    def factory(cls) -> Self:
        """Make the worker; what the entry point names. Override it where making one takes more than `cls()`."""
        return cls()

    @property
    def task(self) -> Task:
        """The workitem that is being run; raises `LookupError` outside of `handle_task`."""
        return _task.get()

    def setup(self) -> Any:
        """Called once in each worker process before its first workitem; may be a coroutine for async workers."""

    def teardown(self) -> Any:
        """Called once in each worker process that ends in good order; may be a coroutine for async workers."""

    def handle_task(self, body: Any) -> Any:
        """Run one workitem and return its result.

        `body` is `str` for text, the parsed value for JSON, `bytes` for other types. Return `str`, `bytes`, or
        anything that JSON can hold; it is published as the result. An exception makes the attempt fail.
        May be a coroutine function: then up to `concurrency` workitems run at a time.
        """
        raise NotImplementedError(f"{type(self).__name__} has no handle_task")
