"""Properties and headers of what taskqueue publishes: forwarded workitems, results, dead letters. Pure.

This module must never do I/O and never see pika: `amqp` turns its `Properties` into pika's and back.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

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


DETAIL_LIMIT = 8192
"""Characters of a traceback or reason kept in a header; AMQP frames are 128 KiB by default."""


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


def forwarded(properties: Properties, content_type: str | None) -> Properties:
    """What a dispatched workitem carries: all that the client set, and a `message_id`."""
    if properties.message_id and not properties.headers and content_type == properties.content_type:
        return properties  # most of them
    return properties._replace(
        content_type=content_type,
        headers=clean(properties.headers) or None,
        message_id=properties.message_id or new_id(),
    )


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


def shorten(text: str, limit: int = DETAIL_LIMIT) -> str:
    """`text`, or its beginning and end where it is longer than `limit` characters; always encodable as UTF-8."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > limit:
        half = (limit - 5) // 2
        text = f"{text[:half]}\n...\n{text[-half:]}"
    return text
