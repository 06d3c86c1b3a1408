"""An attempt on the link between listener and worker: an assignment on the way there, a report on the way back. Pure.

    to the worker     [17, "5e0f…", 1, "application/json", null, {"worker_type": "resize"}]      body: the workitem's
    from the worker   ["ready"]                            once, before the first assignment
                      ["failed", "Traceback …"]            instead: it cannot serve
                      ["done", 17, "success", 412.3, "application/json", "", "", "", null, false]  body: the result's

A worker runs plugin code: the listener reads a report only through `checked`. This module must never decide what
becomes of a workitem.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

LONGEST_DELAY_S = 10 * 366 * 86_400
"""Seconds that a worker may ask to wait before a retry, ten years; a report with more is refused."""
_OUTCOMES = frozenset({"success", "error", "retry", "reject", "malformed", "memory"})
"""The values of `Report.outcome`."""

RESULT_LIMIT = 16 * 1024 * 1024 - 65_536
"""Bytes of a result. A larger one fails the attempt, for RabbitMQ 4.0 closes the channel on a message above 16 MiB
(`max_message_size`); 64 KiB are left for properties."""
REPORT_LIMIT = 2 * RESULT_LIMIT
"""Bytes of a packet from a worker. A listener does not read a larger one, so that no worker can fill its memory."""
ERROR_LIMIT = 2_000
"""Characters of an error's message. The worker shortens it; a listener refuses a report with more."""
TRACE_LIMIT = 32_000
"""Characters of a traceback, likewise."""


class Assignment(NamedTuple):
    """A workitem for a worker to run; its body travels beside it."""

    tag: int
    """The listener's number of this attempt; the report repeats it."""
    message_id: str
    attempt: int
    """The number of this attempt of the workitem, from 1."""
    content_type: str | None
    content_encoding: str | None
    headers: Mapping[str, Any]


class Report(NamedTuple):
    """A worker's report of an attempt; the body of a result travels beside it."""

    tag: int
    outcome: str
    """`success`, `error`, `retry`, `reject`, `malformed` or `memory`."""
    runtime_ms: float
    """Milliseconds from before the body was decoded until the handler ended."""
    content_type: str = ""
    """Of the result; "" without one."""
    error_type: str = ""
    """The class of the exception."""
    error: str = ""
    """The message of the exception."""
    trace: str = ""
    """The traceback."""
    delay_s: float | None = None
    """Of a `retry`: seconds until then, or None for what the group's `retry_delay` gives."""
    last: bool = False
    """Whether the worker ends after this report (`max_tasks`)."""


def checked(report: Report) -> Report:
    """`report`, where each of its fields has the right type and size. It comes from a process that runs plugin code.

    Raises `TypeError` or `ValueError` (of which `UnicodeEncodeError` is one) otherwise.
    """
    tag, outcome, runtime_ms, content_type, error_type, error, trace, delay_s, last = report
    texts = (content_type, error_type, error, trace)
    if not (
        isinstance(tag, int)
        and outcome in _OUTCOMES
        and isinstance(runtime_ms, int | float)
        and 0 <= runtime_ms < 1e12
        and all(isinstance(text, str) for text in texts)
        and max(len(content_type.encode()), len(error_type.encode())) < 256  # AMQP short string; headers in one frame
        and len(error) <= ERROR_LIMIT
        and len(trace) <= TRACE_LIMIT
        and (delay_s is None or (isinstance(delay_s, int | float) and 0 <= delay_s <= LONGEST_DELAY_S))
        and isinstance(last, bool)
    ):
        raise TypeError("a field of the report has the wrong type")
    return report
