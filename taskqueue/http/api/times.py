"""Times and durations as the API writes and reads them. Inside they are Unix time in whole milliseconds, and seconds.

`rfc3339(1767225600123)` is `2026-01-01T00:00:00.123Z`, and `read_time` makes the same number of it, or of
`2026-01-01T01:00:00.123+01:00`. `read_duration("5m", 3600)` is 300.0. Whoever reads hands in the bounds; this module
must never ask for the time of day.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from taskqueue.http.api.problems import BadField

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,12}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?(ms|s|m|h|d)")
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

LAST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, Unix time: RFC 3339 ends there."""


class BadTime(BadField):
    """A time or duration is not one, or is out of bounds. Its text is a phrase that follows the name of the place."""


def rfc3339(ms: int) -> str:
    """Unix time in ms as RFC 3339 in UTC with milliseconds; what no year has room for is shown as the nearest."""
    at = _EPOCH + timedelta(milliseconds=max(0, min(ms, LAST_MS)))
    return f"{at.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def optional(ms: int | None) -> str | None:
    """As `rfc3339`; None for None."""
    return None if ms is None else rfc3339(ms)


def read_time(value: Any) -> int:
    """Unix time in ms of an RFC 3339 text with an offset; digits beyond ms are cut off. Raises `BadTime`."""
    if not isinstance(value, str):
        raise BadTime('must be a time such as "2026-12-24T18:00:00Z"')
    match = _RFC3339.fullmatch(value)
    if match is None:
        bare = _RFC3339.fullmatch(value + "Z") is not None
        raise BadTime(f"must end with Z or an offset such as +01:00: {_quoted(value)}" if bare else _not_a_time(value))
    year, month, day, hour, minute, second = (int(each) for each in match.groups()[:6])
    leap = second == 60
    try:
        at = datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC)
    except ValueError:
        raise BadTime(f"is a time that does not exist: {_quoted(value)}") from None
    if match[8]:
        offset_minutes = int(match[9]) * 60 + int(match[10])
        if int(match[9]) > 23 or int(match[10]) > 59:
            raise BadTime(f"has an offset that does not exist: {_quoted(value)}")
        seconds = (at - _EPOCH) // timedelta(seconds=1) + (-60 if match[8] == "+" else 60) * offset_minutes
    else:
        seconds = (at - _EPOCH) // timedelta(seconds=1)
    if leap and seconds % 86400 != 86399:
        raise BadTime(f"is a time that does not exist: {_quoted(value)}")
    return (seconds + leap) * 1000 + int((match[7] or "")[:3].ljust(3, "0"))


def read_unix_or_time(value: Any) -> int:
    """As `read_time`; numbers, and texts of one, are Unix time in seconds. Raises `BadTime`."""
    number = _number(value)
    if number is None:
        try:
            return read_time(value)
        except BadTime:
            raise BadTime(
                f"must be Unix time in seconds, or a time such as 2026-12-24T18:00:00Z{_was(value)}"
            ) from None
    ms = number * 1000
    if not -LAST_MS <= ms <= LAST_MS:
        raise BadTime(f"is a time beyond the year 9999{_was(value)}")
    return math.floor(ms + 1e-6) if ms != int(ms) else int(ms)


def read_seconds(value: Any, most_s: float) -> float:
    """Seconds of a number, or the text of one, from 0 to `most_s`: Miyamoto's countdown. Raises `BadTime`."""
    number = _number(value)
    if number is None or not 0 <= number <= most_s:
        raise BadTime(f"must be a number of seconds from 0 to {most_s:.15g}{_was(value)}")
    return number


def read_duration(value: Any, most_s: float, least_s: float = 0.0) -> float:
    """Seconds of a number, or of a text such as `5s`, `2m`, `1.5h`, `100ms`, `3d`, within bounds. Raises `BadTime`."""
    if type(value) is int or type(value) is float:
        seconds = value
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        seconds = float(match[1]) * _SECONDS[match[2]]
    else:
        raise BadTime(f'must be seconds, or a duration such as "5s", "2m", "1.5h" or "3d"{_was(value)}')
    if not least_s <= seconds <= most_s:
        raise BadTime(f"must be from {in_units(least_s)} to {in_units(most_s)}{_was(value)}")
    return float(seconds)


def in_units(seconds: float) -> str:
    """A duration in the largest unit that needs no fraction: `31d`, `90m`, `100ms`; seconds where none does."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.15g}{unit}"
    return f"{seconds * 1000:.6g}ms" if 0 < seconds < 1 else f"{seconds:.15g}s"


def _number(value: Any) -> float | None:
    if type(value) is int or type(value) is float:
        return value if abs(value) < 1e15 else None
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return None


def _not_a_time(value: str) -> str:
    return f'must be a time such as "2026-12-24T18:00:00Z": {_quoted(value)}'


def _was(value: Any) -> str:
    if isinstance(value, str):
        return f": {_quoted(value)}"
    return f": {value}" if type(value) is float or (type(value) is int and abs(value) < 1e18) else ""


def _quoted(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:39] + "…")
