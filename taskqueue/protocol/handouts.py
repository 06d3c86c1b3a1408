"""A hand-out: one message that carries one attempt of a front's task, straight to a worker queue. Pure.

1. A front publishes attempt 2 of task "0197…" to `worker_webhook`, as `handout` makes it:

       message_id: 0197…    reply_to: taskqueue_http_5e0f
       x-handout: 7    x-handout-until: 1767323055000    x-task-attempt: 2    x-crashes: 1

2. A listener reads that with `handout_of`, and has a worker run it as any workitem.
3. What it knows of the hand-out it says to the queue `reply_to`: see `protocol.handout_reports`.

A hand-out is known by its number. This module must never decide what counts for the task: that is the front's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

from taskqueue.protocol import queues
from taskqueue.protocol.properties import CRASHES, HANDOUT, HANDOUT_UNTIL, TASK_ATTEMPT, Properties, clean

LATEST_MS = 250_000_000_000_000
"""Unix time in milliseconds (the year 9892) beyond which no time is believed."""
LARGEST_NUMBER = 2**53
"""The largest number of a hand-out: the largest that all programs agree on."""
LARGEST_COUNT = 1_000_000
"""The largest count of attempts, crashes or slots."""


class Handout(NamedTuple):
    """What a listener must know of a hand-out, beside what any workitem has."""

    number: int
    until_ms: int
    """It must be begun before: Unix time in milliseconds."""
    task_attempt: int
    """Which attempt of the task it is, from 1."""
    reply_to: str
    """The queue that gets the reports."""


def handout(
    *,
    task_id: str,
    number: int,
    until_ms: int,
    task_attempt: int,
    crashes: int,
    book_id: str,
    content_type: str | None = None,
    content_encoding: str | None = None,
    headers: Mapping[str, Any] | None = None,
    priority: int | None = None,
) -> Properties:
    """The properties of a hand-out; its body is the workitem.

    `number` and `task_attempt` count from 1; `until_ms` is Unix time in milliseconds; `crashes` are those of all
    hand-outs before. Of `headers` all is kept but what only taskqueue and the broker set.
    """
    own = {HANDOUT: number, HANDOUT_UNTIL: until_ms, TASK_ATTEMPT: task_attempt}
    if crashes:
        own[CRASHES] = crashes
    return Properties(
        content_type,
        content_encoding,
        {**clean(headers), **own},
        priority,
        reply_to=queues.outcomes(book_id).name,
        message_id=task_id,
    )


def handout_of(properties: Properties) -> Handout | None:
    """What makes a message a hand-out; None where it is an ordinary workitem.

    A message whose number, time or `reply_to` are not sensible is ordinary, too, and one without id: no front has made
    it, but a client that may publish to worker queues. Its crashes are read by `protocol.properties.attempts`.
    """
    headers = properties.headers
    if not headers or HANDOUT not in headers:
        return None
    number, until_ms, attempt = headers[HANDOUT], headers.get(HANDOUT_UNTIL), headers.get(TASK_ATTEMPT)
    reply_to = properties.reply_to or ""
    if not (
        properties.message_id
        and reply_to.startswith(queues.OUTCOMES_PREFIX)
        and is_number(number, 1, LARGEST_NUMBER)
        and is_number(until_ms, 0, LATEST_MS)
    ):
        return None
    return Handout(number, until_ms, attempt if is_number(attempt, 1, LARGEST_COUNT) else 1, reply_to)


def is_number(value: object, least: int, most: int) -> TypeGuard[int]:
    """Whether the value of a header is a whole number of that range."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
