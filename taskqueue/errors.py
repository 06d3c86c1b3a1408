"""Every error that taskqueue raises on purpose, one class for each way to react.

A class's first sentence says what happened; the second one says what its catcher does. This module must never import
another module of the project.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence

_quoting = reprlib.Repr()
_quoting.maxstring = _quoting.maxlong = _quoting.maxother = 80
_quote = _quoting.repr
"""`repr` in at most some 80 characters: a client's value may be huge, or nested deeper than `repr` can go."""


class TaskqueueError(Exception):
    """The root of all errors of this project."""


class ConfigError(TaskqueueError):
    """A config file, an option or the environment is wrong. A command prints each of `faults` and exits with status 2.

    Each fault is one line for an operator: where it is, what is wrong, what was expected.
    """

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class TargetRefused(TaskqueueError):
    """A URL, a header or an address may not be a target of a request. The front answers 422; the webhook worker ends
    the task.

    The message is one clear line, and quotes nothing of a header's value.
    """


class DaemonError(TaskqueueError):
    """A daemon cannot start: it runs already, or its pid file cannot be written. The command prints the message and
    exits with status 1."""


class PoolUnavailable(TaskqueueError):
    """The status socket cannot be read: no workerpool runs here, or this user may not connect. The command says so."""


class BrokerUnavailable(TaskqueueError):
    """The broker cannot be reached, or did not answer in time. The caller tries again later.

    A workitem without a confirm may have been submitted: submit it again with the same `message_id`.
    """


class BrokerRefused(TaskqueueError):
    """The broker refused the connection or an operation, for a password, a vhost or a permission. An operator must act
    before another try can succeed."""


class Unroutable(TaskqueueError):
    """The broker returned a message, for no queue has that name. The caller declares the queue, or names another."""


class WorkitemRefused(TaskqueueError):
    """The broker refused this message: its body is larger than the broker's `max_message_size`, or its headers do not
    fit a frame. The caller submits a smaller one."""


class MalformedWorkitem(TaskqueueError):
    """A workitem cannot be parsed. A dispatcher makes it a dead letter; a worker fails it.

    `reason` is a value of `protocol.dead_letters.DeadReason`. `what` is a phrase that may be logged. `values` come from
    the client's body or headers: `detail`, for the dead letter only, quotes them behind `what`, shortened.
    """

    def __init__(self, reason: str, what: str, *values: object) -> None:
        self.reason = reason
        self.what = what
        self.detail = ": ".join([what, *map(_quote, values)])
        super().__init__(self.detail)


class LinkError(TaskqueueError):
    """A unix socket brought something that is no packet or order of `taskqueue.link`, or its other end is gone. The
    reader closes the link."""


class PluginError(TaskqueueError):
    """A plugin cannot be used: it is not installed, or its entry point or factory gives something that is no worker.
    Its group is started again after a backoff."""


class IllegalMove(TaskqueueError):
    """A state machine was asked for a move that its table does not have. It is a defect of taskqueue, and no caller
    handles it."""


class ResultTimeout(TaskqueueError):
    """No result came within the time that `Client.wait` was given. The workitem may still be run; the caller may wait
    again."""


class WorkitemFailed(TaskqueueError):
    """The result of a workitem is an error. `error_type`, `error` and `trace` are the class, the message and the
    traceback of the handler's exception, as text."""

    def __init__(self, message_id: str, error_type: str, error: str, trace: str) -> None:
        super().__init__(f"{error_type}: {error}")
        self.message_id = message_id
        self.error_type = error_type
        self.error = error
        self.trace = trace
