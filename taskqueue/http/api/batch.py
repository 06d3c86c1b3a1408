"""Reads the body of `POST /v1/queues/{queue}/tasks:batch`: up to 1,000 tasks, as an array or a line each (NDJSON).

`[{"url": …, "idempotency_key": "a-1"}, {"url": 5}]` gives two items in this order: one with a TaskSpec and the key, one
with a Problem. A bad item fails no other one. The answer has a result for each, in order:

    {"results": [{"status": 201, "task": {…}}, {"status": 422, "problem": {"type": "/problems/validation", …}}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from taskqueue.config.http_settings import QueueSettings
from taskqueue.http.api.json_reading import decode, malformed, parse_json
from taskqueue.http.api.native_task import read_task
from taskqueue.http.api.problems import Problem, fault_at, members
from taskqueue.http.api.request_headers import ContentType, fault_of_key
from taskqueue.http.api.task_fields import ReadingRules, kind_of
from taskqueue.http.task_spec import TaskSpec

ITEMS_LIMIT = 1000
BYTES_LIMIT = 16 * 1024 * 1024
NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One task of a batch: either `spec` or `problem` is set."""

    spec: TaskSpec | None = None
    problem: Problem | None = None
    idempotency_key: str | None = None
    document: Any = None
    """What the client sent, without the key: its fingerprint is made of it."""


def read_batch(
    body: bytes,
    content_type: ContentType,
    queue: QueueSettings,
    rules: ReadingRules,
    now_ms: int,
    trace: tuple[tuple[str, str], ...] = (),
) -> list[BatchItem]:
    """The items, in order. Raises `Problem` where the body as a whole can't be read: malformed-json, too-large."""
    if len(body) > BYTES_LIMIT:
        raise Problem("too-large", f"A batch may have {BYTES_LIMIT:,} bytes; this one has {len(body):,}.")
    text = decode(body)
    start = text.lstrip()[:1]
    if content_type.media in NDJSON or start == "{":
        lines = [line for line in text.split("\n") if line and not line.isspace()]
        _check_count(len(lines))
        return [_of_line(line, queue, rules, now_ms, trace) for line in lines]
    documents = parse_json(text)
    if type(documents) is not list:
        raise malformed(f"a batch is an array of tasks, or a task a line, and this is {kind_of(documents)}")
    _check_count(len(documents))
    return [_of(each, queue, rules, now_ms, trace) for each in documents]


def _check_count(count: int) -> None:
    if count > ITEMS_LIMIT:
        raise Problem("too-large", f"A batch may have {ITEMS_LIMIT:,} tasks; this one has {count:,}.")
    if not count:
        raise Problem("validation", "The batch has no task.", [fault_at("#", "must have at least one task")])


def _of_line(
    line: str, queue: QueueSettings, rules: ReadingRules, now_ms: int, trace: tuple[tuple[str, str], ...]
) -> BatchItem:
    try:
        document = parse_json(line)
    except Problem as problem:
        return BatchItem(problem=problem)
    return _of(document, queue, rules, now_ms, trace)


def _of(
    document: Any, queue: QueueSettings, rules: ReadingRules, now_ms: int, trace: tuple[tuple[str, str], ...]
) -> BatchItem:
    key = None
    problem = None
    if type(document) is dict and "idempotency_key" in document:
        key = document["idempotency_key"]
        document = {name: value for name, value in document.items() if name != "idempotency_key"}
        detail = (
            "must be a text" if not isinstance(key, str) and key is not None else fault_of_key(key) if key else None
        )
        if key == "":
            detail = fault_of_key("")
        if detail is not None:
            problem = Problem("validation", errors=[fault_at("#/idempotency_key", detail)])
            key = None
    try:
        spec = read_task(document, queue, rules, now_ms, trace=trace)
    except Problem as other:
        errors = (*(problem.errors if problem else ()), *other.errors)
        return BatchItem(problem=Problem(other.slug, errors=errors))
    if problem is not None:
        return BatchItem(problem=problem)
    return BatchItem(spec=spec, idempotency_key=key, document=document)


def result(status: int, task: dict[str, Any] | None = None, replayed: bool = False) -> dict[str, Any]:
    """The result of one item that was taken: 201 and its task, or 200 or 201 and the one that it repeats."""
    found: dict[str, Any] = {"status": status, "task": task}
    return {**found, "replayed": True} if replayed else found


def failure(problem: Problem, root: str = "") -> dict[str, Any]:
    """The result of one item that was not taken."""
    found: dict[str, Any] = {"status": problem.status, "problem": members(problem, root=root)}
    return {**found, "location": problem.headers["Location"]} if "Location" in problem.headers else found


def batch_answer(results: Sequence[dict[str, Any]] | Iterable[dict[str, Any]]) -> bytes:
    """The body of the answer, 200: a result for each item, in order."""
    return json.dumps({"results": list(results)}, ensure_ascii=False).encode() + b"\n"
