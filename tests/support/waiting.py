"""Waiting for a fact, with a deadline: the only way in which a test may let time pass. Standard library only."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.02


def wait_for(
    fact: Callable[[], T],
    deadline_s: float = 10.0,
    what: str = "",
    *,
    poll_s: float = POLL_S,
    otherwise: Callable[[], object] = lambda: "",
) -> T:
    """The first true value of `fact()`; an `AssertionError` with its last value when `deadline_s` seconds are over.

    `otherwise()` is called only then: it gives what a person needs to understand why.
    """
    deadline = time.monotonic() + deadline_s
    while not (value := fact()):
        if time.monotonic() > deadline:
            lines = [f"not within {deadline_s:g} s: {what or fact}: last {value!r}", str(otherwise())]
            raise AssertionError("\n".join(filter(None, lines)))
        time.sleep(poll_s)
    return value
