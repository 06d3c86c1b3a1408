"""Properties and headers of what taskqueue publishes: forwarded workitems, results, dead letters. Pure.

This module must never do I/O and never see pika: `amqp` turns its `Properties` into pika's and back.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any, NamedTuple

from taskqueue.errors import MalformedWorkitem
from taskqueue.workitem import BYTES, JSON, media_type, parse_json_value

Headers = Mapping[str, Any]

WORKER_TYPE = "worker_type"
DELAY = "x-delay"
ATTEMPT = "x-attempt"
CRASHES = "x-crashes"
"""Of the attempts so far, how many ended with the worker's death; set beside `x-attempt` by the listener."""
DELAY_TARGET = "x-delay-target"
"""On the delay ladder only: the queue that gets the workitem when its time has come."""
DELAY_DUE = "x-delay-due"
"""On the delay ladder only: when its time will have come, Unix time in milliseconds."""
DELAY_EXPIRATION = "x-delay-expiration"
"""On the delay ladder only: the client's `expiration`, which must not run out there."""

_BROKER_HEADERS = frozenset({"x-death", "x-delivery-count", "x-acquired-count", "CC", "BCC"})
"""Removed on every republish. RabbitMQ drops, without a word, what seems to cycle (x-death: dead-lettering docs,
"cycle detection"); it routes copies to what CC and BCC name (sender-selected distribution)."""
_BROKER_PREFIXES = ("x-first-death-", "x-last-death-")
_OWN_HEADERS = frozenset({DELAY, ATTEMPT, CRASHES, DELAY_TARGET, DELAY_DUE, DELAY_EXPIRATION})

DEAD_HEADERS = ("x-dead-reason", "x-dead-detail", "x-dead-queue", "x-dead-at", "x-dead-host")

DETAIL_LIMIT = 8192
"""Characters of a traceback or reason kept in a header; AMQP frames are 128 KiB by default."""
DELAY_LIMIT_MS = 10 * 366 * 86_400_000
_EXPIRATION = re.compile(r"[0-9]{1,11}")
"""Milliseconds, at most three years: RabbitMQ refuses more than ten."""


class Properties(NamedTuple):
    """The AMQP 0-9-1 basic properties that taskqueue keeps. `user_id` is not among them: the broker would check it
    against our own user (RabbitMQ, "validated user-id")."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Headers | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    type: str | None = None
    app_id: str | None = None


class DeadReason(StrEnum):
    """Why a workitem became a dead letter: the header `x-dead-reason`."""

    MALFORMED = "malformed"
    UNKNOWN_FORMAT = "unknown-format"
    TOO_LARGE = "too-large"
    FAILED = "failed"
    REJECTED = "rejected"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    EXPIRED = "expired"
    DELIVERY_LIMIT = "delivery-limit"


def new_id() -> str:
    """A new `message_id`."""
    return str(uuid.uuid4())


def header(properties: Properties, name: str) -> Any:
    """One header, or None."""
    return properties.headers.get(name) if properties.headers else None


def clean(headers: Headers | None, *, own: bool = True) -> dict[str, Any]:
    """`headers` without those that belong to the broker and, with `own`, those that taskqueue sets itself."""
    if not headers:
        return {}
    return {
        name: value
        for name, value in headers.items()
        if name not in _BROKER_HEADERS and not name.startswith(_BROKER_PREFIXES) and not (own and name in _OWN_HEADERS)
    }


def delay_ms(properties: Properties) -> int:
    """The header `x-delay` in milliseconds, 0 where there is none; raises `MalformedWorkitem`."""
    value = header(properties, DELAY)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= DELAY_LIMIT_MS:
        raise MalformedWorkitem("malformed", f"{DELAY} is not 0 to {DELAY_LIMIT_MS} milliseconds", value)
    return value


def forwarded(properties: Properties, content_type: str | None) -> Properties:
    """What a dispatched workitem carries: all that the client set, and a `message_id`."""
    if properties.message_id and not properties.headers and content_type == properties.content_type:
        return properties  # most of them
    return properties._replace(
        content_type=content_type,
        headers=clean(properties.headers) or None,
        message_id=properties.message_id or new_id(),
    )


def delay_left_ms(properties: Properties, now_ms: int) -> tuple[int, int]:
    """(milliseconds left, when its time will have come) of a workitem between two rungs; raises `MalformedWorkitem`.

    What it was late by on the rungs behind it is taken off those ahead. Never more is left than they were to take:
    clocks of hosts that differ can make a delay shorter by as much as they differ, never longer.
    """
    left_ms = delay_ms(properties)
    due_ms = header(properties, DELAY_DUE)
    if not isinstance(due_ms, int):
        return left_ms, now_ms + left_ms
    return min(left_ms, max(0, due_ms - now_ms)), due_ms


def off_rung(properties: Properties, now_ms: int) -> Properties:
    """What a delayed workitem carries when it is taken off its rung before its time, to be sent to the rung for what is
    left by whoever sends workitems from rung to rung."""
    due_ms = header(properties, DELAY_DUE)
    if not isinstance(due_ms, int):
        return properties
    return properties._replace(headers={**(properties.headers or {}), DELAY: max(0, due_ms - now_ms)})


def on_ladder(properties: Properties, target: str, left_ms: int, due_ms: int) -> Properties:
    """What a workitem carries on the delay ladder: where it goes at last, what is left after this rung, and when its
    time will have come (Unix time in milliseconds)."""
    headers = clean(properties.headers, own=False)
    headers[DELAY_TARGET] = target
    headers[DELAY] = left_ms
    headers[DELAY_DUE] = due_ms
    if properties.expiration is not None:
        headers[DELAY_EXPIRATION] = properties.expiration
    return properties._replace(headers=headers, expiration=None)


def off_ladder(properties: Properties) -> Properties:
    """What it carries when its time has come: as before the ladder."""
    headers = clean(properties.headers, own=False)
    headers.pop(DELAY_TARGET, None)
    headers.pop(DELAY, None)
    headers.pop(DELAY_DUE, None)
    expiration = headers.pop(DELAY_EXPIRATION, None)
    if not isinstance(expiration, str) or _EXPIRATION.fullmatch(expiration) is None:  # none, or a client's forgery
        expiration = properties.expiration
    return properties._replace(headers=headers or None, expiration=expiration)


def attempts(properties: Properties) -> tuple[int, int]:
    """(attempts begun, crashes among them) before this delivery; (0, 0) for a workitem that was never run."""
    return _count(header(properties, ATTEMPT)), _count(header(properties, CRASHES))


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 1_000_000 else 0


def handed_back(properties: Properties, attempt: int, crashes: int) -> Properties:
    """A copy of a workitem that goes back to its queue, with `attempt` attempts and `crashes` crashes behind it."""
    headers = clean(properties.headers)
    if attempt:
        headers[ATTEMPT] = attempt
    if crashes:
        headers[CRASHES] = crashes
    return properties._replace(headers=headers or None)


def dead_letter(
    properties: Properties, reason: DeadReason, detail: str, *, queue: str, at_s: float, host: str
) -> Properties:
    """What a dead letter carries: the workitem's own properties, and why, where and when it died.

    `at_s` is Unix time. It has no `expiration`: a dead letter waits for a person.
    """
    headers = clean(properties.headers, own=False)
    headers |= {
        "x-dead-reason": reason.value,
        "x-dead-detail": shorten(detail),
        "x-dead-queue": queue,
        "x-dead-at": int(at_s * 1000),
        "x-dead-host": host,
    }
    return properties._replace(headers=headers, expiration=None, message_id=properties.message_id or new_id())


def reduced(letter: Properties) -> Properties:
    """A dead letter with no more than tells what it is and why: for where the broker does not take all of it."""
    headers = {name: header(letter, name) for name in DEAD_HEADERS}
    headers["x-dead-detail"] = shorten(headers["x-dead-detail"], 200)
    return Properties(letter.content_type, letter.content_encoding, headers, message_id=letter.message_id)


class Outcome(NamedTuple):
    """How a workitem ended, as its listener publishes it."""

    status: str
    """`success` or `error`."""
    body: bytes
    content_type: str
    attempt: int
    runtime_ms: float
    error_type: str | None = None


def result(properties: Properties, outcome: Outcome, *, worker_type: str, host: str, ttl_s: float) -> Properties:
    """What a result carries. `ttl_s` becomes its `expiration` (a string of milliseconds, as AMQP wants it)."""
    headers: dict[str, Any] = {
        WORKER_TYPE: worker_type,
        "task_id": properties.message_id,
        "status": outcome.status,
        "attempt": outcome.attempt,
        "runtime_ms": round(outcome.runtime_ms),
        "host": host,
    }
    if outcome.error_type is not None:
        headers["error_type"] = outcome.error_type
    return Properties(
        content_type=outcome.content_type,
        headers=headers,
        priority=properties.priority,
        correlation_id=properties.correlation_id or properties.message_id,
        expiration=str(max(1, int(ttl_s * 1000))),
        message_id=properties.message_id,
    )


def encode_result(value: object) -> tuple[str, bytes]:
    """(content type, body) of what a handler returned; raises `TypeError` or `ValueError` where JSON has no way."""
    if isinstance(value, str):
        return "text/plain", value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return BYTES, bytes(value)
    return JSON, _encode(value).encode()


_encode = json.JSONEncoder(allow_nan=False).encode
"""Made once, before a plugin can put another `json.dumps` in place of the module's."""


def error_body(body: bytes, content_type: str | None, error: str, trace: str) -> bytes:
    """The JSON body of an error result.

    Where the workitem is a JSON object, that object with `error` and `trace` set, so that a Ruote workflow gets its
    workitem back; else `{"error", "trace", "workitem"}` with the body as text.
    """
    told = {"error": error, "trace": trace}
    media, charset = media_type(content_type)
    if media == JSON or (not media and body.lstrip()[:1] == b"{"):
        # nested so deeply that it can be read and no longer be written, or with a number beyond any float
        with suppress(MalformedWorkitem, RecursionError, ValueError):
            value = parse_json_value(body, charset)
            whole = value | told if isinstance(value, dict) else {**told, "workitem": value}
            return json.dumps(whole, allow_nan=False).encode()
    return json.dumps({**told, "workitem": body.decode("utf-8", "backslashreplace")}).encode()


def shorten(text: str, limit: int = DETAIL_LIMIT) -> str:
    """`text`, or its beginning and end where it is longer than `limit` characters; always encodable as UTF-8."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > limit:
        half = (limit - 5) // 2
        text = f"{text[:half]}\n...\n{text[-half:]}"
    return text
