"""A report: what a listener says of a hand-out to its front, as a message to the queue of the book. Pure.

    properties  message_id: 0197…    correlation_id: 0197…    content_type: text/plain
    headers     x-handout: 7    x-handout-event: done    x-task-attempt: 2    x-crashes: 1    host: host7
                worker_type: webhook    x-slots: 400    x-slots-free: 12
                status: success    attempt: 1    runtime_ms: 412
    body        what the handler returned

    begun      it has run for about a second             alive      it still runs, told each minute
    returned   hand it out again: `x-returned` says why  retrying   the plugin's own retry runs at `x-handout-again`
    done       it has ended: the body is its result, or for `status: error` the JSON {"error": …, "trace": …}

`begun` may come twice, and any report after `done`. A front reads each with `read_report`: anybody may publish to its
queue, so each field is checked. This module must never publish.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from taskqueue.errors import MalformedWorkitem
from taskqueue.protocol.dead_letters import DeadReason
from taskqueue.protocol.handouts import LARGEST_COUNT, LARGEST_NUMBER, LATEST_MS, Handout, is_number
from taskqueue.protocol.properties import (
    CRASHES,
    HANDOUT,
    HANDOUT_AGAIN,
    HANDOUT_EVENT,
    TASK_ATTEMPT,
    WORKER_TYPE,
    Properties,
    header,
)
from taskqueue.protocol.results import Outcome
from taskqueue.workitem import JSON, TYPE_PATTERN, parse_json_value

RETURNED = "x-returned"
SLOTS = "x-slots"
SLOTS_FREE = "x-slots-free"
REASON = "x-reason"

_REASONS = (
    DeadReason.FAILED, DeadReason.REJECTED, DeadReason.CRASHED, DeadReason.TIMEOUT, DeadReason.MALFORMED,
)  # fmt: skip
"""Why a listener gives an attempt up: what would else be the reason of its dead letter."""
_LONGEST_MS = 10**12
"""Milliseconds that a worker may say it ran: what the listener takes from it."""
_TEXT_LIMIT = 255
"""Characters of a text in a header of a report, but for what a person reads."""


class Event(StrEnum):
    """What a report tells: the header `x-handout-event`."""

    BEGUN = "begun"
    ALIVE = "alive"
    RETURNED = "returned"
    RETRYING = "retrying"
    DONE = "done"


class Returned(StrEnum):
    """Why a hand-out comes back: the header `x-returned`."""

    LATE = "late"
    """Its time was over before a worker could begin with it."""
    REDELIVERED = "redelivered"
    """The broker gave it to a listener before, which is lost, or has lost its connection: it may have been begun."""
    CRASHED = "crashed"
    """Its worker died, or ran out of memory: `x-crashes` is one higher."""
    STOPPED = "stopped"
    """The listener stops. Where it had been begun, its worker was killed."""
    HANDED_BACK = "handed-back"
    """No worker was free for a second; or its worker was killed for the time limit of another."""


class Slots(NamedTuple):
    """How many workitems a listener can run at a time, and how many more it could begin now."""

    all: int
    free: int


class Subject(NamedTuple):
    """What every report says: of which hand-out, and who says it."""

    task_id: str
    handout: Handout
    crashes: int
    """How many attempts ended with the death of their worker, over all hand-outs, this one included."""
    host: str
    worker_type: str
    slots: Slots


class HandoutReport(NamedTuple):
    """A report that was read. What its event does not have is None, or empty."""

    task_id: str
    number: int
    event: Event
    task_attempt: int
    crashes: int
    host: str
    worker_type: str
    slots: Slots
    returned: Returned | None = None
    again_ms: int | None = None
    """Of `retrying`: Unix time in milliseconds."""
    status: str | None = None
    """Of `done`, as all that follows: `success` or `error`."""
    attempt: int | None = None
    """The listener's own count inside this hand-out, from 1: more with the plugin's own retries."""
    runtime_ms: int | None = None
    error_type: str | None = None
    reason: DeadReason | None = None
    """Why there is an error: failed, rejected, crashed, timeout or malformed."""
    error: str = ""
    trace: str = ""
    content_type: str | None = None
    body: bytes = b""
    """The result of a success."""


# -- a listener writes


def begun(subject: Subject) -> Properties:
    """It has run for about a second; the body is empty."""
    return _report(subject, Event.BEGUN)


def alive(subject: Subject) -> Properties:
    """It still runs; the body is empty."""
    return _report(subject, Event.ALIVE)


def returned(subject: Subject, why: Returned) -> Properties:
    """It is not run any more here; the body is empty."""
    return _report(subject, Event.RETURNED, {RETURNED: why.value})


def retrying(subject: Subject, again_ms: int) -> Properties:
    """It failed, and runs again at `again_ms`, Unix time in milliseconds; the body is empty."""
    return _report(subject, Event.RETRYING, {HANDOUT_AGAIN: again_ms})


def done(subject: Subject, outcome: Outcome, reason: DeadReason | None = None) -> Properties:
    """It has ended with `outcome`, whose body is the report's; `reason` says why there is an error."""
    headers: dict[str, Any] = {
        "status": outcome.status,
        "attempt": outcome.attempt,
        "runtime_ms": round(outcome.runtime_ms),
    }
    if outcome.error_type is not None:
        headers["error_type"] = outcome.error_type
    if reason is not None:
        headers[REASON] = reason.value
    return _report(subject, Event.DONE, headers)._replace(content_type=outcome.content_type)


def failure_body(error: str, trace: str) -> bytes:
    """The JSON body of an error. The front has the workitem, so it is not in there."""
    return json.dumps({"error": error, "trace": trace}).encode()


def failure(error_type: str, error: str, trace: str, attempt: int, runtime_ms: float) -> Outcome:
    """The outcome of an error, for `done`; `runtime_ms` is in milliseconds."""
    return Outcome("error", failure_body(error, trace), JSON, attempt, runtime_ms, error_type)


def _report(subject: Subject, event: Event, more: dict[str, Any] | None = None) -> Properties:
    """A report has no `expiration`: a front that was away for days still learns what became of its tasks."""
    headers = {
        HANDOUT: subject.handout.number,
        HANDOUT_EVENT: event.value,
        TASK_ATTEMPT: subject.handout.task_attempt,
        CRASHES: subject.crashes,
        "host": subject.host,
        WORKER_TYPE: subject.worker_type,
        SLOTS: subject.slots.all,
        SLOTS_FREE: subject.slots.free,
        **(more or {}),
    }
    return Properties(headers=headers, correlation_id=subject.task_id, message_id=subject.task_id)


# -- a front reads


def read_report(properties: Properties, body: bytes) -> HandoutReport:
    """The report in a message, each field of it checked; raises `ValueError` with one line that says what is wrong."""
    task_id = properties.message_id
    if not task_id or properties.correlation_id != task_id:
        raise ValueError("not a report of a hand-out: message_id and correlation_id are not one task's id")
    event = _one_of(properties, HANDOUT_EVENT, Event)
    report = HandoutReport(
        task_id,
        _number(properties, HANDOUT, 1, LARGEST_NUMBER),
        event,
        _number(properties, TASK_ATTEMPT, 1),
        _number(properties, CRASHES),
        _text(properties, "host"),
        _text(properties, WORKER_TYPE),
        Slots(_number(properties, SLOTS), _number(properties, SLOTS_FREE)),
    )
    if TYPE_PATTERN.fullmatch(report.worker_type) is None:
        raise _wrong(properties, WORKER_TYPE, "a worker type")
    match event:
        case Event.RETURNED:
            return report._replace(returned=_one_of(properties, RETURNED, Returned))
        case Event.RETRYING:
            return report._replace(again_ms=_number(properties, HANDOUT_AGAIN, 0, LATEST_MS))
        case Event.DONE:
            return _read_done(report, properties, body)
        case Event.BEGUN | Event.ALIVE:
            return report


def _read_done(report: HandoutReport, properties: Properties, body: bytes) -> HandoutReport:
    status = _text(properties, "status")
    report = report._replace(
        status=status,
        attempt=_number(properties, "attempt", 1),
        runtime_ms=_number(properties, "runtime_ms", 0, _LONGEST_MS),
    )
    if status == "success":
        return report._replace(content_type=properties.content_type, body=body)
    if status != "error":
        raise _wrong(properties, "status", "success or error")
    try:
        failure = parse_json_value(body, "utf-8") if properties.content_type == JSON else None
    except MalformedWorkitem as malformed:
        raise ValueError(f"not a report of a hand-out: its body is {malformed}") from None
    match failure:
        case {"error": str(error), "trace": str(trace)}:
            return report._replace(
                error_type=_text(properties, "error_type", least=0),
                reason=_one_of(properties, REASON, _REASONS),
                error=_encodable(error),
                trace=_encodable(trace),
            )
    raise ValueError("not a report of a hand-out: the body of an error is not JSON with the texts error and trace")


def _number(properties: Properties, name: str, least: int = 0, most: int = LARGEST_COUNT) -> int:
    value = header(properties, name)
    if not is_number(value, least, most):
        raise _wrong(properties, name, f"a whole number from {least} to {most}")
    return value


def _text(properties: Properties, name: str, least: int = 1) -> str:
    value = header(properties, name)
    if not isinstance(value, str) or not least <= len(value) <= _TEXT_LIMIT:
        raise _wrong(properties, name, f"a text of {least} to {_TEXT_LIMIT} characters")
    return value


_Choice = TypeVar("_Choice", bound=StrEnum)


def _one_of(properties: Properties, name: str, choices: Iterable[_Choice]) -> _Choice:
    value = header(properties, name)
    for choice in choices:
        if value == choice.value:
            return choice
    raise _wrong(properties, name, f"one of {', '.join(choices)}")


def _encodable(text: str) -> str:
    """`text` as UTF-8 can carry it: in JSON a lone surrogate is `\\udc80`, and a database would refuse it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _wrong(properties: Properties, name: str, expected: str) -> ValueError:
    return ValueError(f"not a report of a hand-out: {name} is {header(properties, name)!r:.80}; expected {expected}")
