"""Makes a TaskSpec of the JSON object that `POST /v1/queues/{queue}/tasks` takes; tells every fault at once.

`{"url": "https://example.com/x", "json": {"to": "a@b.c"}, "delay": "5s"}` gives `TaskSpec("emails",
url="https://example.com/x", headers=(("Content-Type", "application/json"),), body=b'{"to":"a@b.c"}', delay_ms=5000)`.
With `"delay": "soon"` and `"metod": "GET"` it raises `Problem("validation")` with the faults at `#/delay` and
`#/metod`. The other ways to enqueue make such an object of what they read, and end here too.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from taskqueue.config.http_settings import QueueSettings
from taskqueue.http.api import task_fields
from taskqueue.http.api.problems import BadField, Fault, Problem, fault_at
from taskqueue.http.api.task_body import read_body
from taskqueue.http.api.task_fields import ReadingRules, kind_of, read_field
from taskqueue.http.api.task_target import read_target
from taskqueue.http.api.times import read_duration, read_time, rfc3339
from taskqueue.http.task_spec import Api, RetryOverride, TaskSpec

KEYS = (
    "url", "worker_type", "method", "headers", "body", "json", "form", "body_base64", "delay", "at", "expires",
    "timeout", "name", "retry", "tags", "callback_url", "dedup",
)  # fmt: skip
"""All keys of a task's document, in the order of the documentation."""
_KNOWN = frozenset(KEYS)
_HINTS = {
    "countdown": "say delay",
    "eta": "say at",
    "schedule_at": "say at",
    "scheduled_at": "say at",
    "params": "say form",
    "data": "say body, json or form",
    "payload": "say body, json or form",
    "idempotency_key": "send the header Idempotency-Key",
    "last_id": "say dedup",
    "queue": "the path names the queue",
    "type": "say worker_type",
    "max_attempts": "say it in retry",
}
CONTENT_WINDOW_S = 600.0
"""The window of `dedup` by content: an equal task that comes later is meant."""
DEDUP_WINDOW_LIMIT_S = 31 * 86_400.0


def read_task(
    document: Any,
    queue: QueueSettings,
    rules: ReadingRules,
    now_ms: int,
    *,
    content: tuple[bytes, str | None] | None = None,
    trace: tuple[tuple[str, str], ...] = (),
    api: Api = Api.NATIVE,
) -> TaskSpec:
    """The task that `document` wants. Raises `Problem`: validation.

    `content`: the body and its type, where they did not come in the document. `now_ms`: Unix time, for `at`.
    """
    if type(document) is not dict:
        raise Problem("validation", errors=[fault_at("#", f"must be an object, and is {kind_of(document)}")])
    faults: list[Fault] = []
    if not document.keys() <= _KNOWN:
        task_fields.unknown_keys(faults, "#", document, KEYS, _HINTS)
    get = document.get
    url, worker_type = read_target(document, queue, rules, faults)
    for_worker = worker_type is not None
    body, content_type = content if content is not None else read_body(document, for_worker, faults)
    headers = task_fields.headers(faults, "#/headers", get("headers"), rules)
    if content_type is not None and not (headers and any(key.lower() == "content-type" for key, _ in headers)):
        headers = (*headers, ("Content-Type", content_type))
    delay_ms, at_ms = _due(get("delay"), get("at"), rules, now_ms, faults)
    expires_in_ms, expires_at_ms = _expiry(get("expires"), at_ms or now_ms + delay_ms, rules, now_ms, faults)
    spec = TaskSpec(
        queue=queue.name,
        url=url,
        worker_type=worker_type,
        method=_method(get("method"), for_worker, body, faults),
        headers=headers,
        body=body,
        delay_ms=delay_ms,
        at_ms=at_ms,
        expires_in_ms=expires_in_ms,
        expires_at_ms=expires_at_ms,
        timeout_s=read_field(faults, "#/timeout", get("timeout"), read_duration, task_fields.TIMEOUT_LIMIT_S, 0.1),
        name=read_field(faults, "#/name", get("name"), task_fields.name),
        retry=_retry(get("retry"), faults),
        tags=read_field(faults, "#/tags", get("tags"), task_fields.tags) or (),
        callback_url=read_field(faults, "#/callback_url", get("callback_url"), task_fields.url, rules),
        api=api,
        trace=trace,
    )
    dedup = get("dedup")
    if dedup is not None:
        spec = _with_dedup(spec, dedup, faults)
    if faults:
        raise Problem("validation", errors=faults)
    return spec


def _method(value: Any, for_worker: bool, body: bytes, faults: list[Fault]) -> str:
    if value is None:
        return "POST"
    if for_worker:
        faults.append(fault_at("#/method", "must not be there for a worker type"))
        return "POST"
    method: str = read_field(faults, "#/method", value, task_fields.method) or "POST"
    if body and method in task_fields.WITHOUT_BODY:
        faults.append(fault_at("#/method", f"must not be {method} for a task with a body"))
    return method


def _due(delay: Any, at: Any, rules: ReadingRules, now_ms: int, faults: list[Fault]) -> tuple[int, int | None]:
    """(milliseconds from now, Unix time in ms or None)."""
    if at is None:
        seconds = read_field(faults, "#/delay", delay, read_duration, rules.max_ahead_s)
        return (round(seconds * 1000) if seconds else 0), None
    if delay is not None:
        faults.append(fault_at("#/delay", "must not be there together with at"))
    return 0, read_field(faults, "#/at", at, _ahead, now_ms, rules)


def _ahead(value: Any, now_ms: int, rules: ReadingRules) -> int:
    ms = read_time(value)
    last_ms = now_ms + round(rules.max_ahead_s * 1000)
    if ms > last_ms:
        raise BadField(f"must not be later than {rfc3339(last_ms)}: no task waits longer")
    return max(ms, 0)


def _expiry(
    value: Any, due_ms: int, rules: ReadingRules, now_ms: int, faults: list[Fault]
) -> tuple[int | None, int | None]:
    """(milliseconds from now or None, Unix time in ms or None): a duration, or a time."""
    if value is None:
        return None, None
    if isinstance(value, str) and len(value) > 15:
        at_ms = read_field(faults, "#/expires", value, read_time)
        in_ms = None
    else:
        seconds = read_field(faults, "#/expires", value, read_duration, rules.max_ahead_s, 0.001)
        at_ms = None
        in_ms = None if seconds is None else round(seconds * 1000)
    ends_ms = at_ms if at_ms is not None else None if in_ms is None else now_ms + in_ms
    if ends_ms is not None and ends_ms <= max(due_ms, now_ms):
        faults.append(fault_at("#/expires", "must be later than the time when the task is due"))
    return in_ms, at_ms


def _retry(value: Any, faults: list[Fault]) -> RetryOverride | None:
    found = task_fields.retry_fields(faults, "#/retry", value)
    return RetryOverride(**found) if found else None


def _with_dedup(spec: TaskSpec, value: Any, faults: list[Fault]) -> TaskSpec:
    """`spec` with its key: `content:HASH`, or `key:TEXT` for the client's own."""
    given = value if isinstance(value, dict) else {"by": value}
    task_fields.unknown_keys(faults, "#/dedup", given, ("by", "window"))
    by = given.get("by")
    if by is None:
        faults.append(fault_at("#/dedup/by", 'is missing; say "content", or a key of your own'))
        return spec
    window = read_field(faults, "#/dedup/window", given.get("window"), read_duration, DEDUP_WINDOW_LIMIT_S, 1.0)
    if by == "content":
        key = "" if faults else f"content:{content_hash(spec)}"
        return replace(spec, dedup_key=key, dedup_window_s=window or CONTENT_WINDOW_S)
    own = read_field(faults, "#/dedup/by", by, task_fields.text, 255)
    return replace(spec, dedup_key=own_key(own or ""), dedup_window_s=window)


def own_key(key: str) -> str:
    """A client's own key as TaskSpec.dedup_key has it: it can't be taken for the hash of a content."""
    return f"key:{key}"


def content_hash(spec: TaskSpec) -> str:
    """SHA-256 of what the target would get: the target, the method, the headers in any order, and the body."""
    digest = hashlib.sha256()
    headers = sorted((key.lower(), value) for key, value in spec.headers)
    for part in (spec.url or "", spec.worker_type or "", spec.method, *(part for pair in headers for part in pair)):
        data = part.encode()
        digest.update(b"%d:%b" % (len(data), data))
    digest.update(b"#")
    digest.update(spec.body)
    return digest.hexdigest()
