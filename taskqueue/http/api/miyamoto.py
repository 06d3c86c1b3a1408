"""Miyamoto's own way to enqueue: `POST /{queue}` with a form or JSON, and exactly its answers.

1. `curl -d "task.url=http://localhost:9099/worker&task.countdown=5&foo=bar" http://localhost:8088/queue` gives the task
   `POST http://localhost:9099/worker` with the body `foo=bar`, due in five seconds.
2. `curl -H "Content-Type: applicatoin/json" -d '{"url": …, "params": {"foo": "bar"}}'` gives the same, at once: a body
   that begins with `{` is JSON whatever the header says.
3. The answer is `{"status": "scheduled", "id": "7e99…"}` and a newline; `duplicate` for a `last_id` that is known.

Fields that are no `task.…` go on as they came, byte for byte. Faults are 400 here, not 422.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import quote_from_bytes, unquote, unquote_to_bytes, urlencode

from taskqueue.config.http_settings import QueueSettings
from taskqueue.http.api.json_reading import read_json
from taskqueue.http.api.native_task import own_key, read_task
from taskqueue.http.api.problems import BadField, Fault, Problem, document, fault_at, fault_of_field
from taskqueue.http.api.request_headers import read_content_type, require_utf8
from taskqueue.http.api.task_body import FORM_TYPE, form_pairs
from taskqueue.http.api.task_fields import WITHOUT_BODY, ReadingRules, read_field, text, unknown_keys
from taskqueue.http.api.task_target import is_url
from taskqueue.http.api.times import read_seconds, read_unix_or_time, rfc3339
from taskqueue.http.task_spec import Api, TaskSpec

KEYS = ("url", "method", "countdown", "eta", "last_id")
"""Of a form, behind `task.`; JSON has `params`, too."""
BODIES = ("body", "json", "body_base64")
NATIVE_KEYS = ("worker_type", "headers", *BODIES, "expires", "timeout", "name", "retry", "tags", "callback_url")
"""Of `/v1`, taken in JSON beside Miyamoto's own."""
_ZEROMQ = re.compile(r"(?:tcp|ipc|inproc|pgm|epgm)://|.*,\s*(?:tcp|ipc|inproc)://", re.DOTALL)
_SAFE = "!$&'()*+,/:;=?@-._~%"
"""Bytes of a form that may stand in a query as they are."""


def read_miyamoto_task(
    body: bytes,
    content_type: str | None,
    queue: QueueSettings,
    rules: ReadingRules,
    now_ms: int,
    trace: tuple[tuple[str, str], ...] = (),
) -> TaskSpec:
    """The task of a request. Raises `Problem`: malformed-request or malformed-json (400), unsupported-media-type."""
    kind = read_content_type(content_type)
    if kind.media.startswith("multipart/"):
        raise Problem("unsupported-media-type", "Multipart forms are not taken; send a urlencoded form, or JSON.")
    require_utf8(kind)
    is_json = body.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(b"{") or kind.media == "application/json"
    faults: list[Fault] = []
    if is_json:
        given = read_json(body)
        if type(given) is not dict:
            raise Problem("malformed-request", "A task is a JSON object, or a form.")
        unknown_keys(faults, "#", given, (*KEYS, "params", *NATIVE_KEYS), {"task.url": "in JSON, the key is url"})
        params = urlencode(read_field(faults, "#/params", given.get("params"), form_pairs) or ()).encode()
    else:
        given, params = _of_form(body, faults)
    try:
        spec = _spec(given, params, queue, rules, now_ms, faults)
    except Problem as problem:
        faults.extend(problem.errors)
    if faults:
        raise Problem("malformed-request", errors=faults if is_json else [_in_form(each) for each in faults])
    return replace(spec, trace=trace) if trace else spec


def _of_form(body: bytes, faults: list[Fault]) -> tuple[dict[str, Any], bytes]:
    """The fields `task.…` without their prefix, the first of each name, and all others as they came."""
    given: dict[str, Any] = {}
    params: list[bytes] = []
    for field in body.strip(b"\r\n").split(b"&"):
        key, _, value = field.partition(b"=")
        name = unquote(key.replace(b"+", b" ").decode(errors="replace"))
        if not name.startswith("task."):
            if field:
                params.append(field)
            continue
        try:
            given.setdefault(name[5:], unquote_to_bytes(value.replace(b"+", b" ")).decode())
        except UnicodeDecodeError:
            faults.append(fault_at(f"#/{name[5:][:100]}", "is not UTF-8"))
    unknown_keys(faults, "#", given, KEYS)
    return given, b"&".join(params)


def _spec(
    given: dict[str, Any], params: bytes, queue: QueueSettings, rules: ReadingRules, now_ms: int, faults: list[Fault]
) -> TaskSpec:
    wanted = {key: value for key, value in given.items() if value not in (None, "") or key in BODIES}
    native = {key: wanted[key] for key in ("url", "method", *NATIVE_KEYS) if key in wanted}
    url = native.get("url")
    zeromq = isinstance(url, str) and _ZEROMQ.match(url)
    if zeromq:
        faults.append(fault_at("#/url", "must be http:// or https://; Miyamoto's ZeroMQ targets are not supported"))
    to_worker = "worker_type" in native or (queue.target is not None and not is_url(queue.target))
    in_query = not to_worker and str(native.get("method", "")).upper() in WITHOUT_BODY
    own_body = next((key for key in BODIES if key in native), None)
    if own_body and params and not in_query:
        faults.append(fault_at(f"#/{own_body}", "must not be there together with params"))
    content = None if own_body else (b"", None) if in_query or not params else (params, FORM_TYPE)
    spec = TaskSpec(queue.name)
    try:
        spec = read_task(native, queue, rules, now_ms, content=content, api=Api.MIYAMOTO)
    except Problem as problem:
        faults.extend(each for each in problem.errors if not (zeromq and each["pointer"] == "#/url"))
    if in_query and params and spec.url is not None:
        spec = replace(spec, url=_with_query(spec.url, params))
    last_id = read_field(faults, "#/last_id", wanted.get("last_id"), _last_id)
    delay_ms, at_ms = 0, read_field(faults, "#/eta", wanted.get("eta"), _eta, now_ms, rules)
    if "eta" not in wanted and "countdown" in wanted:
        seconds = read_field(faults, "#/countdown", wanted["countdown"], read_seconds, rules.max_ahead_s)
        delay_ms = round((seconds or 0) * 1000)
    return replace(spec, delay_ms=delay_ms, at_ms=at_ms, dedup_key=None if last_id is None else own_key(last_id))


def _with_query(url: str, params: bytes) -> str:
    path, hash_sign, fragment = url.partition("#")
    joint = "" if path.endswith(("?", "&")) else "&" if "?" in path else "?"
    return f"{path}{joint}{quote_from_bytes(params, _SAFE)}{hash_sign}{fragment}"


def _eta(value: Any, now_ms: int, rules: ReadingRules) -> int:
    ms = read_unix_or_time(value)
    last_ms = now_ms + round(rules.max_ahead_s * 1000)
    if ms > last_ms:
        raise BadField(f"must not be later than {rfc3339(last_ms)}: no task waits longer")
    return max(ms, 0)


def _last_id(value: Any) -> str:
    return text(str(value) if type(value) is int else value, 255)


def _in_form(fault: Fault) -> Fault:
    """A fault of the document, at its place in a form: `task.url` for `#/url`."""
    detail = fault["detail"].replace("say url, or worker_type for a plugin", "every task needs one")
    return fault_of_field(f"task.{fault['pointer'][2:]}", detail)


def scheduled(task_id: str) -> bytes:
    """The body of the answer for a task that was stored: Miyamoto's very bytes."""
    return b'{"status": "scheduled", "id": "%b"}\n' % task_id.encode()


def duplicate(task_id: str) -> bytes:
    """The body of the answer for a `last_id` that is known; `task_id` is the first one's."""
    return b'{"status": "duplicate", "id": "%b"}\n' % task_id.encode()


def error_document(problem: Problem, instance: str, root: str = "") -> tuple[int, dict[str, str], bytes]:
    """As `problems.document`, with Miyamoto's members: `status` is `error` here, and `reason` says why."""
    merged = Problem(problem.slug, problem.detail, problem.errors, problem.headers,
                     {**problem.members, "status": "error", "reason": problem.detail})  # fmt: skip
    return document(merged, instance, root)
