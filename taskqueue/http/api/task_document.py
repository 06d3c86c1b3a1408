"""Shows a task, its attempts and lists of tasks as the API's JSON.

`task_document(task)` gives `{"id": "…", "state": "retrying", …, "last": {"at": "…", "outcome": "answered", …}}`: the
same keys for every task, None where there is nothing. Values of headers that look like secrets are `…`. This module
must never ask the book, and never show a request's body but where it is asked to.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taskqueue.http.api.cursors import Place, cursor
from taskqueue.http.api.times import optional, rfc3339
from taskqueue.http.states import ENDED
from taskqueue.http.task import Task

HIDDEN = "…"
_SECRET = re.compile(r"auth|cookie|token|secret|key|password|passwd|credential|session|signature", re.IGNORECASE)
"""Parts of the names of headers whose values are not shown. Too many rather than one too few."""
_HARMLESS = frozenset({"idempotency-key", "sec-websocket-key"})

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(", ", ": "), check_circular=False)


def masked(name: str, value: str) -> str:
    """The value of a header as it may be shown."""
    return HIDDEN if _SECRET.search(name) and name.lower() not in _HARMLESS else value


def headers_document(pairs: Iterable[Sequence[str]] | Mapping[str, str]) -> dict[str, Any]:
    """Headers as an object; one that is there more than once has an array."""
    found: dict[str, Any] = {}
    for name, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
        shown = masked(name, value)
        if name not in found:
            found[name] = shown
        elif isinstance(found[name], list):
            found[name].append(shown)
        else:
            found[name] = [found[name], shown]
    return found


def task_document(task: Task, with_body: bool = False) -> dict[str, Any]:
    """A task as the API shows it; `with_body` adds what it sends, as `body` or `body_base64`."""
    found = {
        "id": task.id,
        "queue": task.queue,
        "name": task.name,
        "state": task.state.value,
        "reason": task.reason,
        "url": task.url,
        "worker_type": task.worker_type,
        "method": task.method,
        "headers": headers_document(task.headers),
        "created_at": rfc3339(task.created_ms),
        "scheduled_at": rfc3339(task.scheduled_ms),
        "expires_at": optional(task.expires_ms),
        "ended_at": optional(task.ended_ms),
        "attempts": task.attempts,
        "responses": task.responses,
        "next_attempt_at": optional(task.next_attempt_ms),
        "last": None if task.last is None else attempt_document(task.last),
        "result": _result(task),
        "tags": list(task.tags),
        "cancel_requested": task.cancel_requested,
        "timeout": task.timeout_s,
        "retry": None if task.retry is None else _retry(task.retry),
        "callback_url": task.callback_url,
    }
    if with_body:
        found |= {"body": None} if task.body is None else body_document(task.body)
    return found


def _retry(rules: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removesuffix("_s"): value for key, value in rules.items() if value is not None}


def _result(task: Task) -> dict[str, Any] | None:
    if task.result is None or task.state not in ENDED:
        return None
    found = dict(task.result)
    if "headers" in found and found["headers"] is not None:
        found["headers"] = headers_document(found["headers"])
    if isinstance(found.get("body"), bytes):
        found |= body_document(found.pop("body"))
    return found


def attempt_document(attempt: Mapping[str, Any]) -> dict[str, Any]:
    """One attempt: `at outcome status error duration_s address`, and what else the book noted of it."""
    found = {
        "at": optional(attempt.get("at_ms")),
        "outcome": attempt.get("outcome"),
        "status": attempt.get("status"),
        "error": attempt.get("error"),
        "duration_s": attempt.get("duration_s"),
        "address": attempt.get("address"),
    }
    for key, value in attempt.items():
        if key == "headers" and value is not None:
            found[key] = headers_document(value)
        elif key == "body" and isinstance(value, bytes):
            found |= body_document(value)
        elif key.endswith("_ms"):
            found[f"{key[:-3]}_at" if key != "at_ms" else "at"] = optional(value)
        elif key not in found:
            found[key] = value
    return found


def body_document(body: bytes) -> dict[str, str]:
    """`{"body": TEXT}` of UTF-8, `{"body_base64": …}` of anything else."""
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


def attempts_document(task: Task) -> dict[str, Any]:
    """`{"attempts": […]}`, the oldest first: the last ten at most; `left_off` counts those before."""
    shown = [attempt_document(each) for each in task.history]
    return {"attempts": shown, "left_off": max(0, task.attempts - len(shown))}


def tasks_document(tasks: Iterable[Task], next_place: Place | None) -> dict[str, Any]:
    """A page of tasks; `next_place` is where it ended, None for the last page."""
    return {
        "tasks": [task_document(each) for each in tasks],
        "next": None if next_place is None else cursor(next_place),
    }


def as_bytes(document: Mapping[str, Any]) -> bytes:
    """A document as the body of an answer, with a newline at its end for people with curl."""
    return _ENCODER.encode(document).encode(errors="backslashreplace") + b"\n"
