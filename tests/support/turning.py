"""Turning a `taskqueue.foundation.loop.Loop` in the test's own thread until a fact, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from taskqueue.foundation.loop import Loop

T = TypeVar("T")


def turn_until(
    loop: Loop, fact: Callable[[], T], deadline_s: float = 10.0, what: str = "", *, wait_s: float = 0.02
) -> T:
    """The first true value of `fact()`, asked after every turn of `loop`; an `AssertionError` at the deadline."""
    deadline = time.monotonic() + deadline_s
    while not (value := fact()):
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what or fact}: last {value!r}"
        loop.turn(wait_s)
    return value
