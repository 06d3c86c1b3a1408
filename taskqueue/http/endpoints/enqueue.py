"""The routes that take tasks: native JSON, raw, batch, and Miyamoto's. Each answers after the book has committed."""

from __future__ import annotations

import asyncio
import hashlib
import json

from taskqueue.config.http_settings import QueueSettings
from taskqueue.errors import BookUnavailable, Collision, CommitInDoubt
from taskqueue.http.api import batch, miyamoto
from taskqueue.http.api.json_reading import read_json
from taskqueue.http.api.native_task import read_task
from taskqueue.http.api.problems import Problem
from taskqueue.http.api.raw_task import read_raw_task
from taskqueue.http.api.request_headers import (
    read_content_type,
    read_idempotency_key,
    read_prefer,
    read_trace,
    require_json,
)
from taskqueue.http.api.task_document import task_document
from taskqueue.http.book.enqueueing import Receipt, Taken
from taskqueue.http.desk import Desk
from taskqueue.http.exchange import Answer, Question, document
from taskqueue.http.states import ENDED
from taskqueue.http.task import Task
from taskqueue.http.task_spec import TaskSpec


async def create_task(desk: Desk, question: Question) -> Answer:
    """`POST /v1/queues/{queue}/tasks`: a JSON task, or with `?url=` any body."""
    queue = known_queue(desk, question.parameters["queue"])
    headers, now_ms = question.headers, desk.now_ms()
    prefer = read_prefer(headers.get("Prefer"))
    key = read_idempotency_key(headers.get("Idempotency-Key"))
    trace = read_trace(headers.get("traceparent"), headers.get("tracestate"))
    if question.query:
        pairs = list(headers.items())
        spec = read_raw_task(question.query, pairs, question.body, queue, desk.reading, now_ms, trace)
    else:
        require_json(headers.get("Content-Type"))
        spec = read_task(read_json(question.body), queue, desk.reading, now_ms, trace=trace)
    receipt = await desk.take(spec, _key(question, queue, key))
    _refuse(receipt, question, spec)
    location = f"{question.root}/v1/tasks/{receipt.task_id}"
    told = {"Location": location}
    if receipt.taken is Taken.REPLAYED:
        told["Idempotent-Replayed"] = "true"
    if prefer.wait_s is not None:
        return await _ended(desk, receipt.task_id, prefer.wait_s, told)
    status = 200 if receipt.taken is Taken.DUPLICATE else 201
    if prefer.minimal:
        return Answer(status, b"", {**told, "Preference-Applied": "return=minimal"}, None)
    return document(status, await _shown(desk, receipt, spec), told)


async def create_batch(desk: Desk, question: Question) -> Answer:
    """`POST /v1/queues/{queue}/tasks:batch`: up to 1,000 tasks, a result for each."""
    queue = known_queue(desk, question.parameters["queue"])
    trace = read_trace(question.headers.get("traceparent"), question.headers.get("tracestate"))
    content_type = read_content_type(question.headers.get("Content-Type"))
    items = batch.read_batch(question.body, content_type, queue, desk.reading, desk.now_ms(), trace)
    results = await asyncio.gather(*(_batch_item(desk, question, queue, item) for item in items))
    return Answer(200, batch.batch_answer(results))


async def create_miyamoto_task(desk: Desk, question: Question) -> Answer:
    """`POST /{queue}`: Miyamoto's, byte for byte."""
    try:
        queue = await desk.queue_or_new(question.parameters["queue"])
        if queue is None:
            known_queue(desk, question.parameters["queue"])
        assert queue is not None
        headers = question.headers
        trace = read_trace(headers.get("traceparent"), headers.get("tracestate"))
        spec = miyamoto.read_miyamoto_task(
            question.body, headers.get("Content-Type"), queue, desk.reading, desk.now_ms(), trace
        )
        key = read_idempotency_key(headers.get("Idempotency-Key"))
        receipt = await desk.take(spec, _key(question, queue, key))
        _refuse(receipt, question, spec)
    except Problem as problem:
        status, told, body = miyamoto.error_document(problem, question.instance(), question.root)
        return Answer(status, body, told)
    told = {"Location": f"{question.root}/v1/tasks/{receipt.task_id}", "X-Task-Id": receipt.task_id}
    if receipt.taken is Taken.DUPLICATE:
        return Answer(200, miyamoto.duplicate(receipt.task_id), told)
    return Answer(200, miyamoto.scheduled(receipt.task_id), told)


def known_queue(desk: Desk, name: str) -> QueueSettings:
    """The rules of a queue; raises `Problem` where there is none."""
    queue = desk.queue(name)
    if queue is None:
        raise Problem("unknown-queue", f"There is no queue {name[:100]!r}.")
    return queue.settings


async def _batch_item(desk: Desk, question: Question, queue: QueueSettings, item: batch.BatchItem) -> dict[str, object]:
    if item.spec is None:
        assert item.problem is not None
        return batch.failure(item.problem, question.root)
    try:
        fingerprint = ""
        if item.idempotency_key is not None:
            fingerprint = hashlib.sha256(json.dumps(item.document, sort_keys=True).encode()).hexdigest()
        receipt = await desk.take(item.spec, _scoped(question, queue, item.idempotency_key, fingerprint))
        _refuse(receipt, question, item.spec)
    except Problem as problem:
        return batch.failure(problem, question.root)
    except BookUnavailable as error:
        return batch.failure(Problem("book-unavailable", str(error)), question.root)
    except (CommitInDoubt, Collision) as error:
        return batch.failure(Problem("unknown-outcome", str(error)), question.root)
    status = 200 if receipt.taken is Taken.DUPLICATE else 201
    return batch.result(status, await _shown(desk, receipt, item.spec), receipt.taken is Taken.REPLAYED)


def _refuse(receipt: Receipt, question: Question, spec: TaskSpec) -> None:
    """Raise the `Problem` of a task that was not taken."""
    location = {"Location": f"{question.root}/v1/tasks/{receipt.task_id}"}
    if receipt.taken is Taken.NAME_TAKEN:
        raise Problem("task-exists", f"There is a task {spec.name!r} in the queue {spec.queue}.", headers=location)
    if receipt.taken is Taken.KEY_REUSED:
        raise Problem("idempotency-key-reused", "This key came before, with another request.", headers=location)


async def _shown(desk: Desk, receipt: Receipt, spec: TaskSpec) -> dict[str, object]:
    """The document of a task that was taken: a new one needs no look into the book."""
    if receipt.taken is Taken.NEW:
        return task_document(desk.new_task(receipt, spec))
    task = await desk.get(receipt.task_id)
    if task is None:  # it was pruned; its key outlives it
        return {"id": receipt.task_id, "queue": spec.queue, "state": None}
    return task_document(task)


async def _ended(desk: Desk, task_id: str, wait_s: float, told: dict[str, str]) -> Answer:
    """A task that its client waits for: 200 once it has ended, 202 if it has not."""
    task = await desk.get(task_id, wait_s)
    if task is None:
        raise Problem("unknown-task", f"The task {task_id} was removed meanwhile.")
    return ended_or_not(task, {**told, "Preference-Applied": f"wait={wait_s:g}"})


def ended_or_not(task: Task, told: dict[str, str]) -> Answer:
    """200 for a task that has ended, else 202."""
    return document(200 if task.state in ENDED else 202, task_document(task), told)


def _key(question: Question, queue: QueueSettings, key: str | None) -> tuple[str, str, str] | None:
    """(scope, key, fingerprint) of a request for the book; None without a key."""
    return None if key is None else _scoped(question, queue, key, _fingerprint(question))


def _scoped(question: Question, queue: QueueSettings, key: str | None, fingerprint: str) -> tuple[str, str, str] | None:
    """A key is its token's and its queue's own."""
    return None if key is None else (f"{question.who}/{queue.name}", key, fingerprint)


def _fingerprint(question: Question) -> str:
    """Equal for equal requests: method, path, query, content type and body."""
    kind = read_content_type(question.headers.get("Content-Type"))
    head = f"{question.method} {question.path}?{question.query}\n{kind.media}\n"
    return hashlib.sha256(head.encode() + question.body).hexdigest()
