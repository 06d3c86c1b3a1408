"""The properties of a workitem and its headers, and what happens to them each time it is published again. Pure.

1. A client publishes to `taskqueue`. All that it sets is kept, but for headers of these names that only taskqueue sets.

       message_id: 5e0f…    worker_type: resize    x-delay: 3000    reply_to: taskqueue_reply_9c1a…

2. A dispatcher publishes it to `worker_resize`: `forwarded` gives it a `message_id` where the client set none.
3. A listener that has it run again publishes a copy: `handed_back` adds `x-attempt: 1`, and `x-crashes: 1` where the
   worker died. `attempts` reads them at the next delivery.
4. It ends as a result (`protocol.results`), as a dead letter (`protocol.dead_letters`), or both.

A front publishes to `worker_resize` itself: a copy of such a hand-out (`protocol.handouts`) keeps its headers.

This module must never do I/O, and never see pika: `amqp` turns its `Properties` into pika's and back.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

Headers = Mapping[str, Any]

WORKER_TYPE = "worker_type"
"""The worker type. Where a client sets it, the dispatcher does not look into the body."""
DELAY = "x-delay"
"""Milliseconds until the workitem may be run; on the delay ladder, those left after this rung."""
ATTEMPT = "x-attempt"
"""How many attempts were begun so far. The listener sets it, and counts it against `max_retries`."""
CRASHES = "x-crashes"
"""How many of these attempts ended with the worker's death. The listener sets it, and counts it against
`max_crashes`."""
DELAY_TARGET = "x-delay-target"
"""On the delay ladder only: the queue that gets the workitem when its delay is over."""
DELAY_DUE = "x-delay-due"
"""On the delay ladder only: when the delay is over, Unix time in milliseconds."""
DELAY_EXPIRATION = "x-delay-expiration"
"""On the delay ladder only: the client's `expiration`, in milliseconds as text; it must not run out there."""

HANDOUT = "x-handout"
"""Of a hand-out only: its number. It and the next two are set by a front; see `protocol.handouts`."""
HANDOUT_UNTIL = "x-handout-until"
"""Of a hand-out only: the Unix time in milliseconds before which it must be begun."""
TASK_ATTEMPT = "x-task-attempt"
"""Of a hand-out only: which attempt of the front's task it is, from 1."""
HANDOUT_EVENT = "x-handout-event"
"""Of a report on a hand-out only: what has happened; see `protocol.handout_reports`."""
HANDOUT_AGAIN = "x-handout-again"
"""Of such a report only: when it is run again, Unix time in milliseconds."""
HANDOUT_HEADERS = frozenset({HANDOUT, HANDOUT_UNTIL, TASK_ATTEMPT, HANDOUT_EVENT, HANDOUT_AGAIN})
"""Headers of hand-outs and of the reports about them: no client can forge one, for a dispatcher removes them."""

_BROKER_HEADERS = frozenset({"x-death", "x-delivery-count", "x-acquired-count", "CC", "BCC"})
"""Headers that belong to the broker; they are removed whenever a message is published again. RabbitMQ silently drops
a message whose `x-death` looks like a cycle (its dead-lettering documentation, "cycle detection"), and it routes copies
to the queues that `CC` and `BCC` name ("Sender-Selected Distribution")."""
_BROKER_PREFIXES = ("x-first-death-", "x-last-death-")
"""The broker's headers whose names go on; removed like those above."""
_OWN_HEADERS = HANDOUT_HEADERS | {DELAY, ATTEMPT, CRASHES, DELAY_TARGET, DELAY_DUE, DELAY_EXPIRATION}
"""Headers that only taskqueue may set. A dispatcher removes them, so that no client can forge attempts or a delay."""

DETAIL_LIMIT = 8192
"""Characters of a reason or traceback in a header. All headers of a message must fit one AMQP frame, 128 KiB by
default in RabbitMQ (`frame_max`)."""


class Properties(NamedTuple):
    """The AMQP 0-9-1 basic properties that taskqueue keeps, by their names in the specification.

    `user_id` is not among them: RabbitMQ would compare a client's with taskqueue's own user, and refuse the message
    ("Validated User-ID").
    """

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
    """The value of one header; None where it is not set."""
    return properties.headers.get(name) if properties.headers else None


def clean(headers: Headers | None, *, own: bool = True) -> dict[str, Any]:
    """A copy of `headers` without those of the broker and, with `own`, without those that only taskqueue sets."""
    if not headers:
        return {}
    return {
        name: value
        for name, value in headers.items()
        if name not in _BROKER_HEADERS and not name.startswith(_BROKER_PREFIXES) and not (own and name in _OWN_HEADERS)
    }


def forwarded(properties: Properties, content_type: str | None) -> Properties:
    """The properties of a workitem in its worker queue: all that the client set, and a `message_id`."""
    if properties.message_id and not properties.headers and content_type == properties.content_type:
        return properties  # unchanged, and the most frequent case
    return properties._replace(
        content_type=content_type,
        headers=clean(properties.headers) or None,
        message_id=properties.message_id or new_id(),
    )


def attempts(properties: Properties) -> tuple[int, int]:
    """(attempts begun, crashes among them) before this delivery; (0, 0) for a workitem that was never run.

    A header that is not a sensible number counts as 0: any client may publish to a worker queue.
    """
    return _count(header(properties, ATTEMPT)), _count(header(properties, CRASHES))


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 1_000_000 else 0


def handed_back(properties: Properties, attempt: int, crashes: int) -> Properties:
    """The properties of a copy that goes back to its worker queue: `attempt` attempts were begun, `crashes` crashed.

    The copy of a hand-out is one, too.
    """
    headers = clean(properties.headers)
    if properties.headers and HANDOUT in properties.headers:
        headers |= {name: value for name, value in properties.headers.items() if name in HANDOUT_HEADERS}
    if attempt:
        headers[ATTEMPT] = attempt
    if crashes:
        headers[CRASHES] = crashes
    return properties._replace(headers=headers or None)


def shorten(text: str, limit: int = DETAIL_LIMIT) -> str:
    """`text`, or its beginning and end where it is longer than `limit` characters.

    A lone surrogate is written as `\\udc80`: the text can always be encoded as UTF-8, which AMQP asks for.
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > limit:
        half = (limit - 5) // 2
        text = f"{text[:half]}\n...\n{text[-half:]}"
    return text
