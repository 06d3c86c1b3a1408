"""The headers that a task may send, and what is wrong with the others. Pure.

`check_headers([("Content-Type", "text/plain")])` gives the same pairs, in order and case. A name that the transport, a
gateway or Taskqueue itself owns is refused, and so is every value that could begin another header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from taskqueue.errors import TargetRefused

__all__ = ["HEADERS_LIMIT", "TargetRefused", "check_header_value", "check_headers"]

HEADERS_LIMIT = 80 * 1024
"""Bytes of all headers of a task together, as Cloud Tasks has it."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A field name, RFC 9110, 5.6.2."""
_NOT_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_FORBIDDEN = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer", "expect"}
)
_FORBIDDEN_PREFIXES = ("proxy-", "x-appengine-", "x-google-", "webhook-", "x-task")
_CLOUD_TASKS = "x-cloudtasks-"


def check_headers(pairs: Iterable[tuple[object, object]], *, cloud_tasks: bool = False) -> tuple[tuple[str, str], ...]:
    """The headers, checked; their order and case are kept. Raises `TargetRefused` for the first that is refused.

    `cloud_tasks`: whether `X-CloudTasks-…` is allowed, which only a front's hand-out may have.
    """
    checked: list[tuple[str, str]] = []
    size = 0
    for name, value in pairs:
        if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
            raise TargetRefused(f"header {name!r:.80}: no header name; expected letters, digits and !#$%&'*+-.^_`|~")
        lower = name.lower()
        if (
            lower in _FORBIDDEN
            or lower.startswith(_FORBIDDEN_PREFIXES)
            or (lower.startswith(_CLOUD_TASKS) and not cloud_tasks)
        ):
            raise TargetRefused(f"header {name:.80}: a task may not set it; leave it out")
        text = check_header_value(name, value)
        size += len(name) + len(text.encode()) + 4  # ": " and CR LF
        if size > HEADERS_LIMIT:
            raise TargetRefused(f"the headers are more than {HEADERS_LIMIT // 1024} KiB together")
        checked.append((name, text))
    return tuple(checked)


def check_header_value(name: str, value: object) -> str:
    """A value without blanks at its ends. Raises `TargetRefused` for what is no text, or has control characters."""
    if not isinstance(value, str):
        raise TargetRefused(f"header {name:.80}: its value is {type(value).__name__}; expected text")
    if _NOT_IN_VALUE.search(value) is not None:
        raise TargetRefused(f"header {name:.80}: its value has control characters, as a line break is one")
    return value.strip(" \t")
