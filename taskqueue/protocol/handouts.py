"""A hand-out: a message that carries one attempt of a task of the HTTP half, and what its listener reports of it. Pure.

1. A front publishes an attempt to `worker_webhook`: `handout_properties` gives its properties.

       message_id: 019b7c5a-…        x-handout: 2                       the number of this hand-out of the task
       reply_to: taskqueue_http_…    x-handout-until: 1767323055000     it must be begun before (Unix time, ms)
                                     x-task-attempt: 1                  the attempt of the task that it carries
                                     x-crashes: 1                       crashes so far, counted over all hand-outs

2. A listener reads it with `handout_of`, and reports to `reply_to`, each time with `report_properties`:

       x-handout-event: begun | alive        it has lasted for a second, for another minute
                        retrying             its plugin runs it again itself, at x-handout-again
                        returned             given back, uncounted; x-returned says why
                        done                 its result or error: status, attempt, runtime_ms, error_type, x-reason

3. The front reads a report with `read_report`. Anybody may publish to its queue, so each field is checked.

This module must never decide what becomes of a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

from taskqueue.protocol.properties import ATTEMPT, CRASHES, WORKER_TYPE, Properties, clean, header

HANDOUT = "x-handout"
UNTIL = "x-handout-until"
TASK_ATTEMPT = "x-task-attempt"
EVENT = "x-handout-event"
AGAIN = "x-handout-again"
RETURNED = "x-returned"
REASON = "x-reason"
SLOTS, FREE_SLOTS = "x-slots", "x-slots-free"

EVENTS = frozenset({"begun", "alive", "returned", "retrying", "done"})
LATE, CRASHED, STOPPED, REDELIVERED, HANDED_BACK = "late", "crashed", "stopped", "redelivered", "handed-back"
RETURNS = frozenset({LATE, CRASHED, STOPPED, REDELIVERED, HANDED_BACK})
"""Why a hand-out is given back."""

_MOST = 2**53
"""Above any number that a header here can mean: milliseconds until the year 287396."""


class Handout(NamedTuple):
    """What a hand-out says of itself."""

    number: int
    valid_until_ms: int
    attempt: int
    """Of the task, from 1."""
    crashes: int


@dataclass(frozen=True, slots=True)
class HandoutReport:
    """A report of a listener, checked."""

    task_id: str
    number: int
    event: str
    attempt: int
    """Of the task, from 1."""
    crashes: int
    """So far, this one included."""
    host: str
    worker_type: str
    slots: int
    """Workitems that the listener's workers can run at once."""
    free: int
    returned: str | None
    again_ms: int | None
    status: str | None
    """Of `done`: `success` or `error`."""
    reason: str | None
    """Of an error: a value of `dead_letters.DeadReason`."""
    error_type: str | None
    runtime_ms: float
    content_type: str | None
    body: bytes


def handout_properties(
    *,
    task_id: str,
    number: int,
    valid_until_ms: int,
    attempt: int,
    crashes: int,
    reply_to: str,
    content_type: str | None,
) -> Properties:
    """The properties of a hand-out."""
    headers: dict[str, Any] = {HANDOUT: number, UNTIL: valid_until_ms, TASK_ATTEMPT: attempt}
    if crashes:
        headers[CRASHES] = crashes
    return Properties(content_type=content_type, headers=headers, reply_to=reply_to, message_id=task_id)


def handout_of(properties: Properties) -> Handout | None:
    """The hand-out that a message carries; None for an ordinary workitem, or one that only claims to be a hand-out."""
    headers = properties.headers
    if not headers or HANDOUT not in headers or not properties.reply_to or not properties.message_id:
        return None
    number, until_ms, attempt = (headers.get(name) for name in (HANDOUT, UNTIL, TASK_ATTEMPT))
    if not (_is_count(number) and _is_count(until_ms) and _is_count(attempt)):
        return None
    crashes = headers.get(CRASHES)
    return Handout(number, until_ms, attempt, crashes if _is_count(crashes) else 0)


def report_properties(
    properties: Properties,
    handout: Handout,
    event: str,
    *,
    crashes: int,
    host: str,
    worker_type: str,
    slots: int,
    free: int,
    content_type: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> Properties:
    """The properties of a report of the hand-out with `properties`; `more` are the headers of its event."""
    headers: dict[str, Any] = {
        HANDOUT: handout.number,
        EVENT: event,
        TASK_ATTEMPT: handout.attempt,
        CRASHES: crashes,
        "host": host,
        WORKER_TYPE: worker_type,
        SLOTS: slots,
        FREE_SLOTS: free,
        **(more or {}),
    }
    return Properties(
        content_type=content_type,
        headers=headers,
        correlation_id=properties.message_id,
        message_id=properties.message_id,
    )


def read_report(properties: Properties, body: bytes) -> HandoutReport:
    """The report in a message of `taskqueue_http_…`. Raises `ValueError`, with what is wrong."""
    task_id, event = properties.message_id, header(properties, EVENT)
    if not task_id or event not in EVENTS:
        raise ValueError(f"no report of a hand-out: {EVENT} is {event!r:.40}")
    number, attempt = header(properties, HANDOUT), header(properties, TASK_ATTEMPT)
    if not (_is_count(number) and _is_count(attempt)):
        raise ValueError(f"{HANDOUT} or {TASK_ATTEMPT} is no number from 1")
    crashes, slots, free = (header(properties, name) for name in (CRASHES, SLOTS, FREE_SLOTS))
    again_ms, runtime_ms = header(properties, AGAIN), header(properties, "runtime_ms")
    returned = _text(header(properties, RETURNED))
    if event == "returned" and returned not in RETURNS:
        raise ValueError(f"{RETURNED} is {returned!r:.40}")
    status = _text(header(properties, "status"))
    if event == "done" and status not in {"success", "error"}:
        raise ValueError(f"status is {status!r:.40}")
    return HandoutReport(
        task_id=task_id,
        number=number,
        event=event,
        attempt=attempt,
        crashes=crashes if _is_count(crashes) else 0,
        host=_text(header(properties, "host")) or "",
        worker_type=_text(header(properties, WORKER_TYPE)) or "",
        slots=slots if _is_count(slots) else 0,
        free=free if _is_count(free) else 0,
        returned=returned,
        again_ms=again_ms if _is_count(again_ms) else None,
        status=status,
        reason=_text(header(properties, REASON)),
        error_type=_text(header(properties, "error_type")),
        runtime_ms=float(runtime_ms) if _is_count(runtime_ms) else 0.0,
        content_type=properties.content_type,
        body=body,
    )


def kept(properties: Properties, attempt: int, crashes: int) -> Properties:
    """The properties of a copy of a hand-out that its own listener has run again later: still that hand-out."""
    headers = {
        **clean(properties.headers),
        **{name: header(properties, name) for name in (HANDOUT, UNTIL, TASK_ATTEMPT)},
    }
    headers[ATTEMPT] = attempt
    if crashes:
        headers[CRASHES] = crashes
    return properties._replace(headers=headers)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST


def _text(value: object) -> str | None:
    return value[:255] if isinstance(value, str) else None
