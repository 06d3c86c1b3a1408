"""Checks the values that every way to enqueue has: names, tags, headers, the method, retry rules, keys of duplicates.

Each function takes a JSON value and returns what a TaskSpec holds: `tags(["a", "b"])` gives `("a", "b")`. It raises
`BadField`, whose text follows the name of the place. This module must never know where in a request a value stood, and
never put the value of a header into a message, for it may be a secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from taskqueue.config.values import NAME
from taskqueue.http.api.problems import BadField, Fault, fault_at
from taskqueue.http.api.times import read_duration

METHODS = ("POST", "GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
WITHOUT_BODY = frozenset({"GET", "HEAD"})
"""Methods whose body means nothing: Miyamoto's params go into the query of their URL."""
NAME_LIMIT = 500
TAGS_LIMIT = 20
TIMEOUT_LIMIT_S = 86_400.0
ATTEMPTS_LIMIT = 1_000_000
DOUBLINGS_LIMIT = 64
BACKOFF_LIMIT_S = 31 * 86_400.0
AGE_LIMIT_S = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """What this front allows: made once, from its settings, and handed to every reader."""

    check_url: Callable[[str], str | None]
    """What is wrong with a target's absolute URL, as a phrase that follows its place; None: nothing."""
    check_headers: Callable[[tuple[tuple[str, str], ...]], list[tuple[str, str]]]
    """The wrong ones among headers for a target: the name of each and a phrase."""
    max_ahead_s: float = 31 * 86_400.0
    """How far ahead a task may be scheduled: `[http] max_task_age`, which would end it before its time."""


def read_field(faults: list[Fault], at: str, value: Any, reader: Callable[..., Any], *arguments: Any) -> Any:
    """What `reader` makes of `value`; None for None, and for a bad one, whose fault is added with the pointer `at`."""
    if value is None:
        return None
    try:
        return reader(value, *arguments)
    except BadField as error:
        faults.append(fault_at(at, str(error)))
        return None


def unknown_keys(
    faults: list[Fault], at: str, given: Collection[str], known: Iterable[str], hints: Mapping[str, str] | None = None
) -> None:
    """Add a fault for each key of `given` that is not `known`, with the key that was meant, where one is near."""
    names = list(known)
    for key in sorted(set(given).difference(names)):
        shown = key.replace("~", "~0").replace("/", "~1")[:100]
        near = difflib.get_close_matches(key[:100], names, 1)
        if hints and key in hints:
            meant = f"; {hints[key]}"
        else:
            meant = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(names)}"
        faults.append(fault_at(f"{at}/{shown}", f"is not known{meant}"))


def text(value: Any, most: int, least: int = 1) -> str:
    """A text of `least` to `most` characters, none of them a control character."""
    if not isinstance(value, str):
        raise BadField(f"must be a text, and is {kind_of(value)}")
    if not least <= len(value) <= most:
        raise BadField(f"must have {least} to {most} characters, and has {len(value)}")
    if not value.isprintable():
        raise BadField("must not have control characters")
    return value


def name(value: Any) -> str:
    """The name of a task."""
    given = text(value, NAME_LIMIT)
    if given != given.strip():
        raise BadField("must not begin or end with white space")
    return given


def worker_type(value: Any) -> str:
    """The worker type of a plugin; `webhook` is none, for it takes URLs."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise BadField("must be a worker type: letters, digits, '_', '.' and '-', the first a letter or digit")
    if value == "webhook":
        raise BadField("must not be webhook; say url instead")
    return value


def method(value: Any) -> str:
    """An HTTP method, in capitals."""
    given = value.upper() if isinstance(value, str) else ""
    if given not in METHODS:
        raise BadField(f"must be one of {', '.join(METHODS)}")
    return given


def tags(value: Any) -> tuple[str, ...]:
    """Up to 20 texts, each once."""
    if not isinstance(value, list):
        raise BadField(f"must be an array of texts, and is {kind_of(value)}")
    if len(value) > TAGS_LIMIT:
        raise BadField(f"must have at most {TAGS_LIMIT} items, and has {len(value)}")
    return tuple(dict.fromkeys(text(each, 100) for each in value))


def header_pairs(value: Any) -> tuple[tuple[str, str], ...]:
    """Headers of an object: values are texts, or arrays of texts for a header that is there more than once."""
    if not isinstance(value, dict):
        raise BadField(f"must be an object, and is {kind_of(value)}")
    found: list[tuple[str, str]] = []
    for key, each in value.items():
        for item in each if isinstance(each, list) else (each,):
            if not isinstance(item, str):
                raise BadField(f"must have texts as values; {key[:60]!r} has {kind_of(item)}")
            found.append((key, item))
    return tuple(found)


def headers(faults: list[Fault], at: str, value: Any, rules: ReadingRules) -> tuple[tuple[str, str], ...]:
    """As `header_pairs`, checked for a target: adds a fault for each bad header."""
    found: tuple[tuple[str, str], ...] | None = read_field(faults, at, value, header_pairs)
    if not found:
        return ()
    for key, detail in rules.check_headers(found):
        shown = key.replace("~", "~0").replace("/", "~1")[:100]
        faults.append(fault_at(f"{at}/{shown}", detail))
    return found


def url(value: Any, rules: ReadingRules) -> str:
    """An absolute URL that may be sent to, as far as its text tells."""
    if not isinstance(value, str):
        raise BadField(f"must be a text, and is {kind_of(value)}")
    fault = rules.check_url(value)
    if fault is not None:
        raise BadField(fault)
    return value


def whole_number(value: Any, least: int, most: int) -> int:
    """A whole number within bounds, as a JSON number."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not least <= value <= most:
        raise BadField(f"must be a whole number from {least} to {most}")
    return value


def max_attempts(value: Any) -> int:
    """Attempts in all; -1 for any number."""
    if type(value) is int and (value == -1 or 1 <= value <= ATTEMPTS_LIMIT):
        return value
    raise BadField(f"must be a whole number from 1 to {ATTEMPTS_LIMIT}, or -1 for any number of attempts")


RETRY_READERS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "max_attempts": ("max_attempts", max_attempts),
    "max_age": ("max_age_s", lambda value: read_duration(value, AGE_LIMIT_S)),
    "min_backoff": ("min_backoff_s", lambda value: read_duration(value, BACKOFF_LIMIT_S)),
    "max_backoff": ("max_backoff_s", lambda value: read_duration(value, BACKOFF_LIMIT_S)),
    "max_doublings": ("max_doublings", lambda value: whole_number(value, 0, DOUBLINGS_LIMIT)),
}
"""The rules of retrying by their keys in the API: the field of RetryOverride and RetrySettings, and its reader."""


def retry_fields(faults: list[Fault], at: str, value: Any) -> dict[str, Any]:
    """The fields of RetryOverride or RetrySettings that the object `value` sets; a null is left out."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        faults.append(fault_at(at, f"must be an object, and is {kind_of(value)}"))
        return {}
    unknown_keys(faults, at, value, RETRY_READERS)
    found: dict[str, Any] = {}
    for key, (field, reader) in RETRY_READERS.items():
        if value.get(key) is not None:
            found[field] = read_field(faults, f"{at}/{key}", value[key], reader)
    low, high = found.get("min_backoff_s"), found.get("max_backoff_s")
    if low is not None and high is not None and low > high:
        faults.append(fault_at(f"{at}/min_backoff", "must not be longer than max_backoff"))
    return found


def kind_of(value: Any) -> str:
    """A JSON value's kind, with its article."""
    if value is None:
        return "null"
    kinds: dict[type, str] = {
        bool: "true or false", int: "a number", float: "a number", str: "a text", list: "an array", dict: "an object",
    }  # fmt: skip
    return kinds[type(value)]
