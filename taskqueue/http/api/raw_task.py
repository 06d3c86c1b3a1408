"""Makes a TaskSpec of a raw request: `POST /v1/queues/{queue}/tasks?url=…`, whose body goes on as it is.

    curl --data-binary @cat.png -H 'Content-Type: image/png' -H 'Task-Delay: 5m' -H 'Task-Forward-X-Owner: ann' \\
        'http://localhost:8088/v1/queues/default/tasks?url=https://example.com/thumbnail'

The query names the target, headers `Task-…` all the rest, and what follows `Task-Forward-` is a header for the target.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from taskqueue.config.http_settings import QueueSettings
from taskqueue.http.api.native_task import read_task
from taskqueue.http.api.problems import Fault, Problem, fault_of_field, fault_of_header
from taskqueue.http.api.task_fields import ReadingRules, unknown_keys
from taskqueue.http.task_spec import TaskSpec

FORWARD = "task-forward-"
_KEYS = {
    "task-method": "method",
    "task-delay": "delay",
    "task-at": "at",
    "task-expires": "expires",
    "task-timeout": "timeout",
    "task-name": "name",
    "task-tags": "tags",
    "task-callback-url": "callback_url",
    "task-dedup": "dedup/by",
    "task-dedup-window": "dedup/window",
    "task-max-attempts": "retry/max_attempts",
    "task-max-age": "retry/max_age",
    "task-min-backoff": "retry/min_backoff",
    "task-max-backoff": "retry/max_backoff",
    "task-max-doublings": "retry/max_doublings",
}
"""Headers in lower case, and the keys of a native task that they stand for."""
_NUMBERS = frozenset({"delay", "expires", "timeout", "max_attempts", "max_age", "min_backoff", "max_backoff",
                      "max_doublings", "window"})  # fmt: skip


def read_raw_task(
    query: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    queue: QueueSettings,
    rules: ReadingRules,
    now_ms: int,
    trace: tuple[tuple[str, str], ...] = (),
) -> TaskSpec:
    """The task of a raw request: `query` without its question mark, all headers as they came. Raises `Problem`."""
    faults: list[Fault] = []
    document: dict[str, Any] = _target(query, faults)
    places = {"#/url": ("field", "url"), "#/worker_type": ("field", "worker_type")}
    forwarded: dict[str, list[str]] = {}
    content_type: str | None = None
    unknown: list[str] = []
    for name, value in headers:
        low = name.lower()
        if low == "content-type":
            bad = [fault_of_header(name, detail) for _, detail in rules.check_headers(((name, value),))]
            faults.extend(bad)
            content_type = None if bad else value.strip() or None
        elif low.startswith(FORWARD):
            forwarded.setdefault(name[len(FORWARD) :], []).append(value.strip())
        elif low in _KEYS:
            if f"#/{_KEYS[low]}" in places:
                faults.append(fault_of_header(name, "must be there once"))
            places[f"#/{_KEYS[low]}"] = ("header", name)
            _put(document, _KEYS[low], value.strip())
        elif low.startswith("task-"):
            unknown.append(low)
    near: list[Fault] = []
    unknown_keys(near, "#", unknown, [*_KEYS, FORWARD + "*"])
    faults.extend(fault_of_header(each["pointer"][2:], each["detail"]) for each in near)
    if forwarded:
        document["headers"] = forwarded
    places.setdefault("#/method", ("header", "Task-Method"))
    try:
        spec = read_task(document, queue, rules, now_ms, content=(body, content_type), trace=trace)
    except Problem as problem:
        faults.extend(_moved(each, places) for each in problem.errors)
        raise Problem("validation", errors=faults) from None
    if faults:
        raise Problem("validation", errors=faults)
    return spec


def _target(query: str, faults: list[Fault]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in ("url", "worker_type"):
            hint = "; percent-encode the target URL, as curl's --data-urlencode does" if "url" in document else ""
            faults.append(fault_of_field(key[:100], f"is not known; the query has url or worker_type{hint}"))
        elif key in document:
            faults.append(fault_of_field(key, "must be there once"))
        else:
            document[key] = value
    return document


def _put(document: dict[str, Any], key: str, value: str) -> None:
    outer, _, inner = key.rpartition("/")
    at = document.setdefault(outer, {}) if outer else document
    if inner == "tags":
        at[inner] = [tag for each in value.split(",") if (tag := each.strip())]
    elif inner in _NUMBERS and re.fullmatch(r"-?[0-9]{1,15}", value):
        at[inner] = int(value)
    elif inner in _NUMBERS and re.fullmatch(r"[0-9]{1,15}\.[0-9]{1,9}", value):
        at[inner] = float(value)
    else:
        at[inner] = value


def _moved(fault: Fault, places: dict[str, tuple[str, str]]) -> Fault:
    """A fault of the native document, at its place in the raw request."""
    pointer = fault["pointer"]
    if pointer.startswith("#/headers/"):
        return fault_of_header(f"Task-Forward-{pointer[10:]}", fault["detail"])
    kind, place = places.get(pointer, ("header", f"Task-{pointer.rpartition('/')[2].replace('_', '-').title()}"))
    return {kind: place, "detail": fault["detail"]}
