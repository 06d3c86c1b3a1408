"""The types of the values on a command line: worker types, durations, rates, times, headers.

Each function is the `type` of a click argument or option. It raises `BadParameter`, a usage error (exit status 2) in
whose message click names the argument.
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
"""Bytes of a header's name, at most (AMQP 0-9-1, 4.2.5.5: field names); a longer one is a usage error."""


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
    """A rate in 1/s, written `100`, `100/s`, `30/m`, `10/h`."""
    found = re.fullmatch(r"(\d{1,9})(?:/([smh]))?", value)
    if found is None or int(found[1]) == 0:
        raise BadParameter(f"{value!r:.80} is not a rate; expected such as 100/s, 30/m or 10/h")
    return int(found[1]) / {"s": 1, "m": 60, "h": 3600}[found[2] or "s"]


def point_in_time(value: str) -> datetime:
    """A time in the future: ISO 8601, local time where no zone is given; or a time of day, today or tomorrow."""
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
    """The type of `name=value`, a header whose value is text. `reserved`: headers with an option of their own, and
    which."""

    def convert(value: str) -> tuple[str, str]:
        name, equals, text = value.partition("=")
        if not equals or not 0 < len(name.encode("utf-8", "surrogateescape")) <= _HEADER_BYTES:
            raise BadParameter(f"{value!r:.80} is not a header; expected name=value, the name 1 to 128 bytes long")
        if name in reserved:
            raise BadParameter(f"the header {name} is taskqueue's own; use {reserved[name]}")
        return name, text

    return convert
