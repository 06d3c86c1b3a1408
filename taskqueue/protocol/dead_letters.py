"""A dead letter: a workitem that nobody will run again by itself, in the queue `taskqueue_dead`. Pure.

1. A dispatcher or a listener gives a workitem up. `dead_letter` keeps the client's properties and adds five headers:

       x-dead-reason: failed                  one of `DeadReason`
       x-dead-detail: Traceback (most …       why, for a person
       x-dead-queue:  worker_resize           the queue in which it died
       x-dead-at:     1767323045000           Unix time in milliseconds
       x-dead-host:   host7.example           the host that gave it up

   Where the broker refuses that message, for its size, `reduced` drops the client's own headers.
2. Or the broker gives it up: its `expiration` ran out, or it passed the queue's delivery limit. Such a dead letter has
   none of these headers; it has RabbitMQ's `x-death`, a list with the newest death first:

       x-death: [{"queue": "worker_resize", "reason": "expired", "time": 2026-01-02 03:04:05, "count": 1, …}]

3. A person looks at it (`taskqueue dead`). `read_dead_letter` gives one `DeadLetter` for both kinds. Any client may
   publish to the queue, so each field is checked.
4. A person drops it, or replays it: `for_replay` removes all that tells of the death, and the workitem begins anew in
   the queue in which it died.

This module must never decide that a workitem is dead.
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
    HANDOUT_HEADERS,
    WORKER_TYPE,
    Properties,
    clean,
    header,
    new_id,
    shorten,
)
from taskqueue.protocol.queues import WORKER_PREFIX

DEAD_HEADERS = ("x-dead-reason", "x-dead-detail", "x-dead-queue", "x-dead-at", "x-dead-host")
"""The headers that taskqueue adds to a workitem that it gives up; a replay removes them."""

_REDUCED_DETAIL_LIMIT = 200
"""Characters of the detail in a reduced dead letter: all its properties then fit the smallest frame that a broker may
ask for (4096 bytes: the constant `frame-min-size` of AMQP 0-9-1)."""

_LATEST_MS = 250_000_000_000_000
"""Unix time in milliseconds (the year 9892) from which `x-dead-at` is not believed, nor one before 1970: `datetime`
knows the years 1 to 9999 only, and a forged number would raise where the time is shown."""

_BROKERS_DETAILS = {
    "expired": "its expiration was over before it was begun",
    "delivery-limit": "it was delivered again and again, and never settled: what took it died each time",
}
"""The detail, for a person, of each reason that the broker gives."""


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


class DeadLetter(NamedTuple):
    """The content of a dead letter's headers. A field is None where the message has no such header, or a wrong one."""

    message_id: str | None
    worker_type: str | None
    reason: str | None
    """A value of `DeadReason`, or another reason of the broker's."""
    died_at: float | None
    """Unix time in seconds."""
    queue: str | None
    """The queue in which the workitem died; a replay publishes to it."""
    host: str | None
    """The host that gave the workitem up; None where the broker did."""
    detail: str | None


def dead_letter(
    properties: Properties, reason: DeadReason, detail: str, *, queue: str, at_s: float, host: str
) -> Properties:
    """The properties of a dead letter: those of the workitem, and why, where and when it died.

    `at_s` is Unix time in seconds. A dead letter has no `expiration`: it waits until a person has seen it.
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


def reduced(properties: Properties) -> Properties:
    """The smallest form of a dead letter, for a broker that refused the whole: id, type, and the headers of its death.

    It is equal to its argument where that is reduced already: then there is nothing smaller to try.
    """
    headers = {name: header(properties, name) for name in DEAD_HEADERS}
    headers["x-dead-detail"] = shorten(headers["x-dead-detail"], _REDUCED_DETAIL_LIMIT)
    return Properties(properties.content_type, properties.content_encoding, headers, message_id=properties.message_id)


def read_dead_letter(properties: Properties) -> DeadLetter:
    """Read the properties of a message in `taskqueue_dead`. It never raises, whatever a client has published there.

    `x-death` counts before `x-dead-*`: taskqueue removes it from all that it publishes, so it is the newer death.
    """
    death = _newest_death(properties)
    if death is None:
        reason, queue, at_ms, host, detail = (
            header(properties, f"x-dead-{name}") for name in ("reason", "queue", "at", "host", "detail")
        )
        died_at = at_ms / 1000 if isinstance(at_ms, int) and 0 <= at_ms < _LATEST_MS else None
    else:
        reason, queue, host = death.get("reason"), death.get("queue"), None
        reason = reason.replace("_", "-") if isinstance(reason, str) else None
        detail = _BROKERS_DETAILS.get(reason or "")
        died_at = _unix_time(death.get("time"))
    return DeadLetter(
        properties.message_id,
        _worker_type(_text(queue), properties),
        _text(reason),
        died_at,
        _text(queue),
        _text(host),
        _text(detail),
    )


def for_replay(properties: Properties) -> Properties:
    """The properties of a dead letter that is replayed: a workitem without attempts, with no header of its death.

    It is nobody's hand-out: the front that made it has gone on without it.
    """
    dropped = {*DEAD_HEADERS, *HANDOUT_HEADERS, ATTEMPT, CRASHES}
    headers = {name: value for name, value in clean(properties.headers, own=False).items() if name not in dropped}
    return properties._replace(headers=headers or None, message_id=properties.message_id or new_id())


def _newest_death(properties: Properties) -> Mapping[str, Any] | None:
    """The first entry of `x-death`; RabbitMQ sorts them, most recent first ("Dead-Lettered Effects on Messages").

    `x-first-death-reason` would not do: it may tell of an earlier queue, a rung of the delay ladder or a lease.
    """
    deaths = header(properties, "x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return deaths[0]
    return None


def _worker_type(queue: str | None, properties: Properties) -> str | None:
    for name in (queue, _text(header(properties, DELAY_TARGET))):
        if name is not None and name.startswith(WORKER_PREFIX):
            return name.removeprefix(WORKER_PREFIX)
    return _text(header(properties, WORKER_TYPE))


def _unix_time(time: object) -> float | None:
    """The Unix time, in seconds, of an AMQP timestamp as pika decodes it: without a zone (pika 1.2), or in UTC."""
    if not isinstance(time, datetime):
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
