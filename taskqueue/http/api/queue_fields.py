"""Checks the values of a queue's rules: rates, statuses, headers, the target.

`rate("600/m")` gives 10.0 requests per second. Each function raises `BadField`, whose text follows the name of the
place. The keys and their bounds are those of config.ini, so that a queue may move from the API into the file.
"""

from __future__ import annotations

import re
from typing import Any

from taskqueue.http.api.problems import BadField
from taskqueue.http.api.task_document import HIDDEN
from taskqueue.http.api.task_fields import ReadingRules, header_pairs, kind_of, url, worker_type
from taskqueue.http.api.task_target import is_url

RATE_LIMIT = 100_000.0
"""Per second: more than any front can start."""
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*/\s*(s|m|h|d)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def rate(value: Any) -> float:
    """A number per second, or `10/s`, `600/m`, `5000/h`."""
    if type(value) is int or type(value) is float:
        found = float(value) if abs(value) < 1e15 else RATE_LIMIT * 2
    elif isinstance(value, str) and (match := _RATE.fullmatch(value)):
        found = float(match[1]) / _SECONDS[match[2]]
    else:
        raise BadField('must be a number per second, or a rate such as "10/s", "600/m" or "5000/h"')
    if found <= 0:
        raise BadField("must be more than 0; pause the queue to stop it, null is no limit")
    if found > RATE_LIMIT:
        raise BadField(f"must be at most {RATE_LIMIT:,.0f}/s; null is no limit")
    return found


def shown_rate(per_second: float) -> str | float:
    """A rate in the smallest unit of time that makes it a whole number: `10/s`, `5000/h`; where none does, the number
    itself, so that it can be sent back."""
    for unit, seconds in _SECONDS.items():
        count = per_second * seconds
        if 1 <= count < 1e9 and abs(count - round(count)) < 1e-9 * count:
            return f"{round(count)}/{unit}"
    return per_second


def statuses(value: Any) -> tuple[int, ...]:
    """HTTP statuses other than 2xx, each once, in order."""
    if not isinstance(value, list):
        raise BadField(f"must be an array of HTTP statuses, and is {kind_of(value)}")
    for each in value:
        if type(each) is not int or not 300 <= each <= 599:
            raise BadField("must have HTTP statuses from 300 to 599")
    return tuple(sorted(set(value)))


def yes_or_no(value: Any) -> bool:
    """true or false."""
    if type(value) is not bool:
        raise BadField(f"must be true or false, and is {kind_of(value)}")
    return value


def target(value: Any, rules: ReadingRules) -> str:
    """A URL without a fragment, or a worker type."""
    if isinstance(value, str) and (is_url(value) or "/" in value):
        if "#" in value:
            raise BadField("must not have a fragment")
        return url(value, rules)
    return worker_type(value)


def header_map(value: Any, rules: ReadingRules) -> dict[str, str]:
    """Headers that every request of a queue gets."""
    pairs = header_pairs(value)
    found = dict(pairs)
    if len(found) != len(pairs) or len({key.lower() for key in found}) != len(found):
        raise BadField("must have each header once")
    hidden = next((key for key, each in pairs if each == HIDDEN), None)
    if hidden is not None:
        raise BadField(f"has {hidden[:60]} as it is shown, without its value; send the value")
    for key, detail in rules.check_headers(pairs):
        raise BadField(f"has a bad header: {key[:60]} {detail}")
    return found
