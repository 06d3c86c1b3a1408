"""What a dead letter says of itself, whoever made it: taskqueue (headers `x-dead-*`), or the broker (`x-death`).

The broker dead-letters by itself what expires and what passes a delivery limit; such a letter has none of our headers,
and is read here as if it had. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from taskqueue.protocol.properties import (
    ATTEMPT,
    CRASHES,
    DELAY_TARGET,
    WORKER_TYPE,
    Properties,
    clean,
    header,
    new_id,
    shorten,
)
from taskqueue.protocol.queues import WORKER_PREFIX

DEAD_HEADERS = ("x-dead-reason", "x-dead-detail", "x-dead-queue", "x-dead-at", "x-dead-host")


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


_SAID = {
    "expired": "its expiration was over before it was begun",
    "delivery-limit": "it was delivered again and again, and never settled: what took it died each time",
}
"""Details of the broker's own reasons, for people."""


class Letter(NamedTuple):
    """A dead letter; None for what it does not say."""

    message_id: str | None
    worker_type: str | None
    reason: str | None
    """One of `protocol.dead_letters.DeadReason`, or the broker's own word."""
    died_at: float | None
    """Unix time in seconds."""
    queue: str | None
    """The queue that it died in, where it goes when it is replayed."""
    host: str | None
    """Who gave it up; the broker does not say on which host it did."""
    detail: str | None


def read(properties: Properties) -> Letter:
    """Read what a dead letter carries. Anybody can publish to a queue: nothing in it is taken to be as it should be.

    `x-death` comes first: taskqueue removes it from all that it publishes, so it is newer than any header of ours.
    """
    death = _newest_death(properties)
    if death is None:
        reason, queue, at_ms, host, detail = (
            header(properties, f"x-dead-{name}") for name in ("reason", "queue", "at", "host", "detail")
        )
        died_at = at_ms / 1000 if isinstance(at_ms, int) and abs(at_ms) < _LATEST_MS else None
    else:
        reason, queue, host = death.get("reason"), death.get("queue"), None
        reason = reason.replace("_", "-") if isinstance(reason, str) else None
        detail = _SAID.get(reason or "")
        died_at = _seconds(death.get("time"))
    return Letter(
        properties.message_id,
        _worker_type(_text(queue), properties),
        _text(reason),
        died_at,
        _text(queue),
        _text(host),
        _text(detail),
    )


def revived(properties: Properties) -> Properties:
    """What a dead letter carries when it is replayed: a workitem that begins anew, with nothing of its death."""
    dropped = {*DEAD_HEADERS, ATTEMPT, CRASHES}
    headers = {name: value for name, value in clean(properties.headers, own=False).items() if name not in dropped}
    return properties._replace(headers=headers or None, message_id=properties.message_id or new_id())


_LATEST_MS = 250_000_000_000_000
"""The year 9892: what is later is no time."""


def _newest_death(properties: Properties) -> Mapping[str, Any] | None:
    """The first of `x-death` (RabbitMQ, "dead-lettered effects": sorted most recent first). `x-first-death-reason` may
    be of an earlier queue: a delay, a lease."""
    deaths = header(properties, "x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return deaths[0]
    return None


def _worker_type(queue: str | None, properties: Properties) -> str | None:
    for name in (queue, _text(header(properties, DELAY_TARGET))):
        if name is not None and name.startswith(WORKER_PREFIX):
            return name.removeprefix(WORKER_PREFIX)
    return _text(header(properties, WORKER_TYPE))


def _seconds(time: object) -> float | None:
    """AMQP's timestamp as pika has it: without a zone (1.2), or in UTC."""
    if not isinstance(time, datetime):
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
