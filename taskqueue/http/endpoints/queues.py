"""The routes of queues: make, read, change, delete, pause, resume, purge. What config.ini defines is read-only here."""

from __future__ import annotations

from typing import Any

from taskqueue.config.http_settings import QueueSettings
from taskqueue.http.api.json_reading import read_json
from taskqueue.http.api.problems import Problem
from taskqueue.http.api.queue_document import QueueState, queue_document, read_queue
from taskqueue.http.api.request_headers import require_json
from taskqueue.http.book.queue_rows import CONFIG, DEFAULT, Queue
from taskqueue.http.desk import Desk
from taskqueue.http.exchange import Answer, Question, document


async def list_queues(desk: Desk, question: Question) -> Answer:
    """`GET /v1/queues`."""
    return document(200, {"queues": [await _shown(desk, queue) for queue in desk.queues()], "next": None})


async def get_queue(desk: Desk, question: Question) -> Answer:
    """`GET /v1/queues/{queue}`."""
    return document(200, await _shown(desk, _known(desk, question)))


async def create_queue(desk: Desk, question: Question) -> Answer:
    """`POST /v1/queues`: `name`, and any of the settings."""
    require_json(question.headers.get("Content-Type"))
    return await _make(desk, question, read_queue(read_json(question.body), desk.reading))


async def put_queue(desk: Desk, question: Question) -> Answer:
    """`PUT /v1/queues/{queue}`: made where there is none; what is not given has its default."""
    name = question.parameters["queue"]
    require_json(question.headers.get("Content-Type"))
    settings = read_queue(read_json(question.body) if question.body else {}, desk.reading, name=name)
    if desk.queue(name) is None:
        return await _make(desk, question, settings)
    return await _change(desk, question, settings)


async def patch_queue(desk: Desk, question: Question) -> Answer:
    """`PATCH /v1/queues/{queue}`: only what is given changes."""
    queue = _known(desk, question)
    require_json(question.headers.get("Content-Type"))
    given = read_json(question.body)
    settings = read_queue(given, desk.reading, name=queue.settings.name, base=queue.settings)
    return await _change(desk, question, settings)


async def delete_queue(desk: Desk, question: Question) -> Answer:
    """`DELETE /v1/queues/{queue}`, with all of its tasks."""
    queue = _of_api(desk, question)
    if queue.settings.name == DEFAULT:
        raise Problem("queue-in-config", "The queue default always exists.")
    await desk.delete_queue(queue.settings.name)
    return Answer(204, content_type=None)


async def pause_queue(desk: Desk, question: Question) -> Answer:
    """`POST /v1/queues/{queue}:pause`."""
    return await _paused(desk, question, paused=True)


async def resume_queue(desk: Desk, question: Question) -> Answer:
    """`POST /v1/queues/{queue}:resume`."""
    return await _paused(desk, question, paused=False)


async def purge_queue(desk: Desk, question: Question) -> Answer:
    """`POST /v1/queues/{queue}:purge`: removes what waits."""
    queue = _known(desk, question)
    return document(200, {"purged": await desk.purge(queue.settings.name)})


async def _make(desk: Desk, question: Question, settings: QueueSettings) -> Answer:
    if not await desk.make_queue(settings):
        if desk.queue(settings.name) is None:
            raise Problem("too-many-queues", "There are 1,000 queues, and no more may be.")
        raise Problem("queue-exists", f"There is a queue {settings.name!r}.")
    made = desk.queue(settings.name)
    assert made is not None
    location = {"Location": f"{question.root}/v1/queues/{settings.name}"}
    return document(201, await _shown(desk, made), location)


async def _change(desk: Desk, question: Question, settings: QueueSettings) -> Answer:
    _of_api(desk, question)
    await desk.change_queue(settings)
    return document(200, await _shown(desk, _known(desk, question)))


async def _paused(desk: Desk, question: Question, *, paused: bool) -> Answer:
    queue = _known(desk, question)
    await desk.pause(queue.settings.name, paused=paused)
    return document(200, await _shown(desk, _known(desk, question)))


async def _shown(desk: Desk, queue: Queue) -> dict[str, Any]:
    counts = await desk.counts(queue.settings.name)
    states = {key: getattr(counts, key) for key in ("ready", "scheduled", "running", "retrying", "dead")}
    return queue_document(queue.settings, QueueState(queue.source, queue.paused, states, counts.oldest_ready_ms))


def _known(desk: Desk, question: Question) -> Queue:
    queue = desk.queue(question.parameters["queue"])
    if queue is None:
        raise Problem("unknown-queue", f"There is no queue {question.parameters['queue'][:100]!r}.")
    return queue


def _of_api(desk: Desk, question: Question) -> Queue:
    queue = _known(desk, question)
    if queue.source == CONFIG:
        raise Problem(
            "queue-in-config",
            f"The queue {queue.settings.name} is defined in config.ini: change it there, and send SIGHUP.",
        )
    return queue
