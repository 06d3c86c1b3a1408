"""What the target's answer means: its headers, Retry-After, what of it is kept. Pure.

An answer `503` with `Retry-After: 120` gives `retry_after_s(headers, now) == 120.0`; a date is compared with the
answer's own `Date`, so that a target with a wrong clock gets the wait that it meant.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

Headers = Sequence[tuple[str, str]]

HEADERS_KEPT = 8 * 1024
"""Bytes of headers in an outcome."""
LONGEST_WAIT_S = 366 * 86_400.0
"""Seconds of a Retry-After that are believed; the front caps it further."""
_SECONDS = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")


def value_of(headers: Headers, name: str) -> str | None:
    """The first value of the header `name`, which is given in lower case."""
    return next((value for each, value in headers if each.lower() == name), None)


def retry_after_s(headers: Headers, now: float) -> float | None:
    """Seconds that the target asks to wait, never negative; None where it does not. `now`: Unix seconds."""
    text = value_of(headers, "retry-after")
    if text is None:
        return None
    if _SECONDS.fullmatch(text) is not None:
        return min(float(text), LONGEST_WAIT_S)
    until = _unix_time(text)
    if until is None:
        return None
    date = _unix_time(value_of(headers, "date") or "")
    return min(max(until - (now if date is None else date), 0.0), LONGEST_WAIT_S)


def _unix_time(text: str) -> float | None:
    try:
        date: datetime = parsedate_to_datetime(text)
        seconds = (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return seconds if math.isfinite(seconds) else None


def no_retry(headers: Headers) -> bool:
    """Whether the target says that no other attempt is of use: `Taskqueue-No-Retry: 1`."""
    return value_of(headers, "taskqueue-no-retry") == "1"


def kept_headers(headers: Headers) -> list[list[str]]:
    """The headers for an outcome, in order, as many as fit."""
    kept: list[list[str]] = []
    left = HEADERS_KEPT
    for name, value in headers:
        left -= len(name.encode()) + len(value.encode())
        if left < 0:
            break
        kept.append([name, value])
    return kept


def kept_body(body: bytes, truncated: bool) -> dict[str, Any]:
    """`{"body": text}`, or `{"body_base64": …}` for what is no text. A character that the cut has split is dropped."""
    for cut in range(4 if truncated else 1):
        try:
            text = body[: len(body) - cut].decode()
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return {"body": text}
        break
    return {"body_base64": base64.b64encode(body).decode()}
