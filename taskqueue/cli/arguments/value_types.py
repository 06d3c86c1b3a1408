"""The kinds of value that commands take on their command line. What is wrong with one is a usage error: status 2.

Each function is the `type` of a click argument or option; what it raises names that in click's message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from click import BadParameter

from taskqueue.config import values
from taskqueue.config.values import BadValue
from taskqueue.errors import MalformedWorkitem
from taskqueue.protocol.delays import DELAY_LIMIT_MS
from taskqueue.workitem import TYPE_PATTERN
from taskqueue.workitem import worker_type as checked

_LONGEST = f"{DELAY_LIMIT_MS // 86_400_000}d"
_HEADER_BYTES = 128
"""Of a header's name (AMQP 0-9-1, 4.2.5.5: field names)."""


def worker_type(value: str) -> str:
    """A worker type's name."""
    try:
        return checked(value)
    except MalformedWorkitem:
        raise BadParameter(f"{value!r:.80} is not a worker type; expected {TYPE_PATTERN.pattern}") from None


def duration(value: str) -> float:
    """Seconds, written as in the config file: `30`, `1.5s`, `5m`, `2h`, `7d`."""
    try:
        return values.duration(value, "0", _LONGEST)
    except BadValue as error:
        raise BadParameter(str(error)) from None


def rate(value: str) -> float:
    """So many a second, written `100`, `100/s`, `30/m`, `10/h`."""
    found = re.fullmatch(r"(\d{1,9})(?:/([smh]))?", value)
    if found is None or int(found[1]) == 0:
        raise BadParameter(f"{value!r:.80} is not a rate; expected such as 100/s, 30/m or 10/h")
    return int(found[1]) / {"s": 1, "m": 60, "h": 3600}[found[2] or "s"]


def point_in_time(value: str) -> datetime:
    """A time to come: ISO 8601, local where it names no zone; or a time of day, the next one."""
    now = datetime.now().astimezone()
    try:
        if re.fullmatch(r"\d\d:\d\d(:\d\d)?", value):
            today = datetime.fromisoformat(f"{now.date()}T{value}")
            found = today.astimezone()
            if found <= now:
                found = (today + timedelta(days=1)).astimezone()
        else:
            found = datetime.fromisoformat(value).astimezone()
    except (ValueError, OverflowError):
        expected = "such as 21:30, 2030-01-31T21:30 or 2030-01-31T21:30+01:00"
        raise BadParameter(f"{value!r:.80} is not a time; expected {expected}") from None
    if found <= now:
        raise BadParameter(f"{value} is over: it was {found.isoformat(' ', 'seconds')}")
    return found


def header(reserved: Mapping[str, str]) -> Callable[[str], tuple[str, str]]:
    """`name=value`, a header that is a text. `reserved`: headers that have an option of their own, and which."""

    def convert(value: str) -> tuple[str, str]:
        name, equals, text = value.partition("=")
        if not equals or not 0 < len(name.encode("utf-8", "surrogateescape")) <= _HEADER_BYTES:
            raise BadParameter(f"{value!r:.80} is not a header; expected name=value, the name 1 to 128 bytes long")
        if name in reserved:
            raise BadParameter(f"the header {name} is taskqueue's own; use {reserved[name]}")
        return name, text

    return convert
