"""A task as a row: which columns there are, what is in the JSON of three of them, and a `Task` of it again.

    spec      {"method": "POST", "headers": [["X-A", "1"]], "timeout_s": 10, "tags": ["a"], "api": "native", …}
              what the client asked for, and no column needs; a key that is not there has its default
    history   [{"attempt": 1, "at_ms": …, "outcome": "timeout", …}, …]    the last ten attempts, oldest first
    result    {"status": 200, "headers": […], "body": "…"}, or {"value": …}

Pure. This module must never run a statement.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from taskqueue.http.book.connection import Row
from taskqueue.http.states import TaskState, shown
from taskqueue.http.task import Task
from taskqueue.http.task_spec import RetryOverride, TaskSpec

WEBHOOK = "webhook"
"""The worker type whose workers make HTTP requests: that of every task with a URL."""

HISTORY_LIMIT = 10
"""Attempts of which everything is kept."""

COLUMNS = (
    "id, queue, worker_type, state, due_ms, ended_ms, created_ms, scheduled_ms, expires_ms, url, name, attempts, "
    "responses, cancel_requested, reason, spec, history, result"
)
"""What `task_of` reads, in its order."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def encode(value: Any) -> str:
    """JSON, as short as it can be. A lone surrogate or a NUL, which PostgreSQL has in no text, becomes `\\ufffd`."""
    text = _encode(value)
    if "\\u0000" in text:
        text = text.replace("\\u0000", "\\ufffd")
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text


def spec_json(spec: TaskSpec) -> str:
    """The column `spec`."""
    kept: dict[str, Any] = {"method": spec.method, "headers": spec.headers, "api": spec.api.value}
    if spec.timeout_s is not None:
        kept["timeout_s"] = spec.timeout_s
    if spec.retry is not None:
        kept["retry"] = {key: value for key, value in asdict(spec.retry).items() if value is not None}
    if spec.tags:
        kept["tags"] = spec.tags
    if spec.callback_url is not None:
        kept["callback_url"] = spec.callback_url
    if spec.trace:
        kept["trace"] = spec.trace
    return encode(kept)


def retry_of(spec: dict[str, Any]) -> RetryOverride | None:
    """The rules that a task sets for itself."""
    rules = spec.get("retry")
    return RetryOverride(**rules) if rules else None


def origin_of(url: str | None) -> str | None:
    """`scheme://host:port` of a URL that was checked before; None for a worker type."""
    if url is None:
        return None
    scheme, _, rest = url.partition("://")
    for end, character in enumerate(rest):
        if character in "/?#":
            rest = rest[:end]
            break
    host = rest.lower()
    if ":" not in host.rpartition("]")[2]:
        host += ":443" if scheme.lower() == "https" else ":80"
    return f"{scheme.lower()}://{host}"


def task_of(row: Row, now_ms: int, body: bytes | None = None) -> Task:
    """The task of a row of `COLUMNS`, as it is shown at `now_ms`."""
    (
        task_id, queue, worker_type, state, due_ms, ended_ms, created_ms, scheduled_ms, expires_ms, url, name, attempts,
        responses, cancel_requested, reason, spec_text, history_text, result_text,
    ) = row  # fmt: skip
    spec = json.loads(spec_text)
    history = json.loads(history_text) if history_text else []
    return Task(
        id=task_id,
        queue=queue,
        name=name,
        state=shown(TaskState(state), due_ms, now_ms),
        reason=reason,
        url=url,
        worker_type=None if url is not None else worker_type,
        method=spec["method"],
        headers=tuple((key, value) for key, value in spec["headers"]),
        created_ms=created_ms,
        scheduled_ms=scheduled_ms,
        expires_ms=expires_ms,
        attempts=attempts,
        responses=responses,
        next_attempt_ms=due_ms,
        last=history[-1] if history else None,
        result=json.loads(result_text) if result_text else None,
        tags=tuple(spec.get("tags", ())),
        history=history,
        body=body,
        ended_ms=ended_ms,
        cancel_requested=bool(cancel_requested),
        timeout_s=spec.get("timeout_s"),
        retry=spec.get("retry"),
        callback_url=spec.get("callback_url"),
    )
