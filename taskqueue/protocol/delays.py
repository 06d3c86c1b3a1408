"""The delay of a workitem: what it carries on the delay ladder, and how much of it is left. Pure."""

from __future__ import annotations

import re

from taskqueue.errors import MalformedWorkitem
from taskqueue.protocol.properties import DELAY, DELAY_DUE, DELAY_EXPIRATION, DELAY_TARGET, Properties, clean, header

DELAY_LIMIT_MS = 10 * 366 * 86_400_000

_EXPIRATION = re.compile(r"[0-9]{1,11}")
"""Milliseconds, at most three years: RabbitMQ refuses more than ten."""


def delay_ms(properties: Properties) -> int:
    """The header `x-delay` in milliseconds, 0 where there is none; raises `MalformedWorkitem`."""
    value = header(properties, DELAY)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= DELAY_LIMIT_MS:
        raise MalformedWorkitem("malformed", f"{DELAY} is not 0 to {DELAY_LIMIT_MS} milliseconds", value)
    return value


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
