"""Every error taskqueue raises on purpose, split by what the caller should do about it.

This module must never import another module of the project.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence

_quoting = reprlib.Repr()
_quoting.maxstring = _quoting.maxlong = _quoting.maxother = 80
_quote = _quoting.repr
"""`repr` of a value from outside, which may be huge, or nested deeper than `repr` can go."""


class TaskqueueError(Exception):
    """The root of all errors of this project."""


class ConfigError(TaskqueueError):
    """The operator must mend a file or an option: print each of `faults`, exit with status 2.

    Each fault is one line for a person: what, where, what was expected.
    """

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class DaemonError(TaskqueueError):
    """A daemon cannot start (already running, pid file not writable): print it, exit with status 1."""


class PoolUnavailable(TaskqueueError):
    """The workerpool's status socket cannot be read: none runs here, or this user may not."""


class BrokerUnavailable(TaskqueueError):
    """The broker cannot be reached at present: try again later, nothing was lost."""


class BrokerRefused(TaskqueueError):
    """The broker answered and said no (password, vhost, permission): a person must act."""


class Unroutable(TaskqueueError):
    """No queue of that name exists: the message was returned by the broker."""


class WorkitemRefused(TaskqueueError):
    """The broker takes messages, but not this one: its body is over the broker's `max_message_size`, or its headers do
    not fit. Submit something smaller."""


class MalformedWorkitem(TaskqueueError):
    """A workitem that cannot be parsed: make it a dead letter. `reason` is one of `protocol.dead_letters.DeadReason`.

    `what` is for the log, too. `values` are what a client has put into a body or a header: they are quoted, shortened,
    in `detail` for the dead letter only.
    """

    def __init__(self, reason: str, what: str, *values: object) -> None:
        self.reason = reason
        self.what = what
        self.detail = ": ".join([what, *map(_quote, values)])
        super().__init__(self.detail)


class LinkError(TaskqueueError):
    """What came over a unix socket is not the protocol of `taskqueue.link.packets`: end that link."""


class PluginError(TaskqueueError):
    """A plugin cannot be used (not found, import failed, its factory gave no worker): back off."""


class IllegalMove(TaskqueueError):
    """A state machine was asked for a move that its table does not have: a defect of ours."""


class ResultTimeout(TaskqueueError):
    """No result came within the time given to `Client.wait`; the workitem may still be run."""


class WorkitemFailed(TaskqueueError):
    """The result of a workitem is an error; `error_type` and `trace` are what the worker reported."""

    def __init__(self, message_id: str, error_type: str, error: str, trace: str) -> None:
        super().__init__(f"{error_type}: {error}")
        self.message_id = message_id
        self.error_type = error_type
        self.error = error
        self.trace = trace
