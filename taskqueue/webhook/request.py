"""The request that a workitem asks for: every field of it is checked, for the worker trusts nothing that it is handed.

    {"url": "https://example.com/hook", "headers": {"Content-Type": "text/plain"}, "body": "hello", "timeout": 10}

becomes `WebRequest(ParsedUrl("https://example.com:443/hook", …), "POST", (("Content-Type", "text/plain"),), b"hello",
timeout_s=10.0)`. Pure.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from taskqueue.targets.headers import check_headers
from taskqueue.targets.policy import Reach
from taskqueue.targets.urls import ParsedUrl, TargetRefused, check_url

KEEP_LIMIT = 64 * 1024
"""Bytes of an answer that are read, and so that can be kept, at most."""
TIMEOUT_LIMIT_S = 86_400.0
"""Seconds that one request may take, at most."""
REDIRECTS_LIMIT = 3
_METHOD = re.compile(r"[A-Z]{1,20}")
_NEVER = frozenset({"CONNECT", "TRACE", "TRACK"})
_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_BODIES = ("body", "body_base64", "json")
_FIELDS = frozenset(
    {"url", "method", "headers", *_BODIES, "timeout", "keep_response", "follow_redirects", "targets", "queue", "sign"}
)


class Malformed(Exception):
    """A workitem is no request. The message is one line; the same workitem will never be one."""


@dataclass(frozen=True, slots=True)
class WebRequest:
    """A request, before it has the headers of an attempt."""

    target: ParsedUrl
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    timeout_s: float = 30.0
    """Of all of it: name, connection, TLS, answer, redirects."""
    keep_response: int = 4096
    """Bytes of the answer's body that are kept."""
    follow_redirects: int = 0
    reach: Reach = Reach.ANY
    """How far this workitem may reach; it only narrows what the worker may."""
    queue: str | None = None
    sign: bool = False


def parse_request(workitem: object, *, handed_out: bool) -> WebRequest:
    """Check a workitem. Raises `Malformed` for the first fault.

    A front of a newer version may hand out fields that are not known here: they are ignored. From an AMQP client an
    unknown field is refused, for it may be a misspelt one; so is `sign`, for only a front's tasks are signed.
    """
    if not isinstance(workitem, dict):
        raise Malformed(f"the workitem is {_kind(workitem)}; expected a JSON object with url, method, headers, body")
    if not handed_out and (unknown := workitem.keys() - _FIELDS):
        raise Malformed(f"{min(unknown)!r:.80}: unknown field; expected some of {', '.join(sorted(_FIELDS))}")
    method = _method(workitem.get("method", "POST"))
    body, headers = _body(workitem, _pairs(workitem.get("headers", {})))
    if method == "HEAD" and body:
        raise Malformed("body: a HEAD request has none")
    sign = workitem.get("sign", False)
    if not isinstance(sign, bool) or (sign and not handed_out):
        raise Malformed("sign: expected a boolean; only tasks of a front can be signed")
    try:
        return WebRequest(
            check_url(workitem.get("url")),
            method,
            check_headers(headers, cloud_tasks=handed_out),
            body,
            _number(workitem, "timeout", 30, TIMEOUT_LIMIT_S),
            int(_number(workitem, "keep_response", 4096, KEEP_LIMIT, whole=True)),
            int(_number(workitem, "follow_redirects", 0, REDIRECTS_LIMIT, whole=True)),
            _reach(workitem.get("targets")),
            _queue(workitem.get("queue")),
            sign,
        )
    except TargetRefused as error:
        raise Malformed(str(error)) from error


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__


def _method(value: object) -> str:
    method = value.upper() if isinstance(value, str) else ""
    if _METHOD.fullmatch(method) is None or method in _NEVER:
        raise Malformed(f"method: {value!r:.40}; expected POST, GET, PUT, PATCH, DELETE, HEAD, …")
    return method


def _pairs(headers: object) -> list[tuple[object, object]]:
    """The pairs of an object, or of a list of [name, value]."""
    if isinstance(headers, Mapping):
        return list(headers.items())
    if isinstance(headers, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in headers):
        return [(name, value) for name, value in headers]
    raise Malformed("headers: expected an object, or a list of [name, value]")


def _body(
    workitem: Mapping[Any, Any], headers: list[tuple[object, object]]
) -> tuple[bytes, Iterable[tuple[object, object]]]:
    """The body's bytes, and the headers; `json` brings its Content-Type where the workitem has none."""
    given = [name for name in _BODIES if name in workitem and (name == "json" or workitem[name] is not None)]
    if len(given) > 1:
        raise Malformed(f"{' and '.join(given)}: expected one of them")
    if not given:
        return b"", headers
    name, value = given[0], workitem[given[0]]
    try:
        if name == "json":
            if not any(isinstance(each, str) and each.lower() == "content-type" for each, _ in headers):
                headers = [*headers, ("Content-Type", "application/json")]
            return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), headers
        if not isinstance(value, str):
            raise Malformed(f"{name}: {_kind(value)}; expected text")
        return (value.encode() if name == "body" else base64.b64decode(value, validate=True)), headers
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{name}: it cannot be encoded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return "a lone surrogate" if isinstance(error, UnicodeError) else str(error).partition("\n")[0]


def _number(workitem: Mapping[Any, Any], name: str, default: float, limit: float, *, whole: bool = False) -> float:
    value = workitem.get(name)
    if value is None:
        return default
    fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not fits or value < 0 or (value == 0 and not whole) or not value <= limit:  # not a number, too
        kind = "a whole number from 0" if whole else "a number above 0"
        raise Malformed(f"{name}: {value!r:.40}; expected {kind} to {limit:g}")
    return value  # type: ignore[no-any-return]


def _reach(value: object) -> Reach:
    if value is None:
        return Reach.ANY
    if not isinstance(value, str) or value not in set(Reach):
        raise Malformed(f"targets: {value!r:.40}; expected one of {', '.join(Reach)}")
    return Reach(value)


def _queue(value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and _QUEUE.fullmatch(value)):
        raise Malformed(f"queue: {value!r:.120}; expected {_QUEUE.pattern}")
    return value
