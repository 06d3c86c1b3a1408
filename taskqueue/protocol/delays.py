"""The delay of a workitem, and its way down the delay ladder. Pure: the caller hands in the time, and publishes.

RabbitMQ has no delayed messages. It has queues whose messages expire: the rungs, one for each power of two.

1. A client submits a workitem with `x-delay: 3000` (milliseconds). A dispatcher reads it with `delay_ms`.
2. `next_step` gives the rung of the delay's highest bit, and the headers that the workitem has there:

       queue taskqueue_delay_11           holds a message for 2**11 = 2048 ms
       x-delay-target: worker_resize      the queue at the end
       x-delay: 960                       milliseconds that are left after this rung (3000 is rounded up to 3008)
       x-delay-due: 1767323048000         when the delay is over, Unix time in milliseconds
       x-delay-expiration: 60000          the client's `expiration`, which must not run out on the ladder

3. After 2048 ms the broker moves it to `taskqueue_delay_step`. Any dispatcher takes it from there, reads with
   `delay_left_ms` what is left, and asks `next_step` again: 512 ms, 256, 128, 64.
4. When nothing is left, `next_step` gives the target, and the workitem is as it was before the ladder.

A retry begins at step 2, in a listener.
"""

from __future__ import annotations

import re

from taskqueue.errors import MalformedWorkitem
from taskqueue.protocol.properties import DELAY, DELAY_DUE, DELAY_EXPIRATION, DELAY_TARGET, Properties, clean, header
from taskqueue.protocol.queues import Queue, next_rung

DELAY_LIMIT_MS = 10 * 366 * 86_400_000
"""Milliseconds of the longest delay, ten years: a header beyond it makes the workitem malformed."""

_EXPIRATION = re.compile(r"[0-9]{1,11}")
"""Milliseconds, up to three years: what is put back as `expiration`. RabbitMQ refuses one of more than ten years (its
queues documentation, "TTL"), and a forged header would have it refuse the workitem each time."""


def delay_ms(properties: Properties) -> int:
    """The header `x-delay` in milliseconds, 0 where there is none; raises `MalformedWorkitem`."""
    value = header(properties, DELAY)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= DELAY_LIMIT_MS:
        raise MalformedWorkitem("malformed", f"{DELAY} is not 0 to {DELAY_LIMIT_MS} milliseconds", value)
    return value


def next_step(properties: Properties, target: Queue, left_ms: int, due_ms: int) -> tuple[Queue, Properties]:
    """Where a workitem with `left_ms` milliseconds of delay goes next, and with which properties: a rung or `target`.

    `due_ms` is when the delay is over, Unix time in milliseconds; it stays the same from rung to rung.
    """
    step = next_rung(left_ms)
    if step is None:
        return target, off_ladder(properties)
    rung, left_after_ms = step
    return rung, on_ladder(properties, target.name, left_after_ms, due_ms)


def delay_left_ms(properties: Properties, now_ms: int) -> tuple[int, int]:
    """(milliseconds left, when the delay is over) of a workitem between two rungs; raises `MalformedWorkitem`.

    A rung that took longer than it should is made up for on the next ones. The rungs ahead take never longer than
    planned: where the clocks of two hosts differ, a delay can be shorter by that difference, and never longer.
    """
    left_ms = delay_ms(properties)
    due_ms = header(properties, DELAY_DUE)
    if not isinstance(due_ms, int):
        return left_ms, now_ms + left_ms
    return min(left_ms, max(0, due_ms - now_ms)), due_ms


def off_rung(properties: Properties, now_ms: int) -> Properties:
    """The properties of a workitem that somebody took off its rung too early, to be put into `taskqueue_delay_step`.

    The dispatcher that takes it from there sends it to the rung of what is left.
    """
    due_ms = header(properties, DELAY_DUE)
    if not isinstance(due_ms, int):
        return properties
    return properties._replace(headers={**(properties.headers or {}), DELAY: max(0, due_ms - now_ms)})


def on_ladder(properties: Properties, target: str, left_ms: int, due_ms: int) -> Properties:
    """The properties of a workitem on a rung, with `left_ms` milliseconds left after that rung."""
    headers = clean(properties.headers, own=False)
    headers[DELAY_TARGET] = target
    headers[DELAY] = left_ms
    headers[DELAY_DUE] = due_ms
    if properties.expiration is not None:
        headers[DELAY_EXPIRATION] = properties.expiration
    return properties._replace(headers=headers, expiration=None)


def off_ladder(properties: Properties) -> Properties:
    """The properties of a workitem whose delay is over: those that it had before the ladder."""
    headers = clean(properties.headers, own=False)
    headers.pop(DELAY_TARGET, None)
    headers.pop(DELAY, None)
    headers.pop(DELAY_DUE, None)
    expiration = headers.pop(DELAY_EXPIRATION, None)
    if not isinstance(expiration, str) or _EXPIRATION.fullmatch(expiration) is None:  # none, or a client's forgery
        expiration = properties.expiration
    return properties._replace(headers=headers or None, expiration=expiration)
