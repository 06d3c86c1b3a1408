"""What a listener and its workers say to each other about a workitem, and how a worker's end is to be read. Pure.

A packet to a worker is an `Assignment` with the workitem's body; from it come `["ready"]`, `["failed", trace]` and
`["done", *Report]` with the result's body.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

LONGEST_DELAY_S = 10 * 366 * 86_400
"""Seconds that a worker may ask to wait before a retry: ten years."""
_OUTCOMES = frozenset({"success", "error", "retry", "reject", "malformed", "memory"})

RESULT_LIMIT = 16 * 1024 * 1024 - 65_536
"""Bytes of a result: RabbitMQ 4.0 closes the channel on messages above 16 MiB (`max_message_size`)."""
REPORT_LIMIT = 2 * RESULT_LIMIT
"""Bytes of a whole packet from a worker that a listener reads."""
ERROR_LIMIT = 2_000
TRACE_LIMIT = 32_000
"""Characters of an error and of a traceback that leave a worker."""


class Assignment(NamedTuple):
    """What a listener hands to a worker, beside the body."""

    tag: int
    """The listener's number of this run; a report names it."""
    message_id: str
    attempt: int
    content_type: str | None
    content_encoding: str | None
    headers: Mapping[str, Any]


class Report(NamedTuple):
    """What a worker says of a run, beside the body of its result."""

    tag: int
    outcome: str
    """`success`, `error`, `retry`, `reject`, `malformed` or `memory`."""
    runtime_ms: float
    content_type: str = ""
    error_type: str = ""
    error: str = ""
    trace: str = ""
    delay_s: float | None = None
    last: bool = False
    """The worker takes no more after this one (`max_tasks`)."""


def checked(report: Report) -> Report:
    """A report comes from a process that we do not trust: raise `TypeError` or `ValueError` where a field is not what
    it must be."""
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
