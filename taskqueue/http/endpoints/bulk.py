"""The routes that change all tasks that match a filter, and those of origins.

`POST /v1/tasks:retry` with `{"filter": {"state": "dead", "queue": "emails"}, "rate": 10}` begins them anew, ten a
second: each gets a due time of its own, so that nothing has to go on after the answer. With `dry_run` they are only
counted. An answer comes after some seconds at the latest; `more` says that the same request has more to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from taskqueue.http.api.filters import TaskFilter, read_bulk
from taskqueue.http.api.json_reading import read_json
from taskqueue.http.api.problems import Problem
from taskqueue.http.api.request_headers import require_json
from taskqueue.http.api.times import rfc3339
from taskqueue.http.book.changing import Changed
from taskqueue.http.book.looking import Query
from taskqueue.http.desk import Desk
from taskqueue.http.exchange import Answer, Question, document
from taskqueue.http.task import Task

_PATIENCE_S = 10.0
"""Seconds after which the answer is given, whatever is left to do."""
_PAGE = 500


async def retry_tasks(desk: Desk, question: Question) -> Answer:
    """`POST /v1/tasks:retry`: begins all that match anew."""

    async def change(task: Task, delay_ms: int) -> Changed:
        return await desk.retry(task.id, delay_ms)

    return await _change_all(desk, question, change)


async def cancel_tasks(desk: Desk, question: Question) -> Answer:
    """`POST /v1/tasks:cancel`: cancels all that match."""

    async def change(task: Task, delay_ms: int) -> Changed:
        return await desk.cancel(task.id)

    return await _change_all(desk, question, change)


async def list_origins(desk: Desk, question: Question) -> Answer:
    """`GET /v1/origins`: those that rest, or have failed of late."""
    now_ms = desk.now_ms()
    found = [
        {
            "origin": each.origin,
            "state": "open" if each.rests_until_ms > now_ms else "closed",
            "rests_until": rfc3339(each.rests_until_ms) if each.rests_until_ms > now_ms else None,
            "failures": each.failures,
        }
        for each in await desk.origins()
    ]
    return document(200, {"origins": found, "next": None})


async def close_breaker(desk: Desk, question: Question) -> Answer:
    """`POST /v1/origins/{origin}:close-breaker`: sends to it again."""
    origin = question.parameters["origin"]
    if not await desk.close_breaker(origin):
        raise Problem("unknown-origin", f"Nothing is wrong with {origin[:200]!r}, as far as this front knows.")
    return document(200, {"origin": origin, "state": "closed"})


async def _change_all(desk: Desk, question: Question, change: Callable[[Task, int], Awaitable[Changed]]) -> Answer:
    require_json(question.headers.get("Content-Type"))
    body = read_json(question.body) if question.body else None
    wanted = read_bulk(question.query, body, desk.now_ms())
    until = time.monotonic() + _PATIENCE_S
    matched = changed = 0
    more = False
    async for page in _pages(desk, wanted.filter):
        if wanted.dry_run:
            matched += len(page)
        else:
            each_ms = 0.0 if wanted.rate is None else 1000 / wanted.rate
            done = await asyncio.gather(
                *(change(task, int((matched + number) * each_ms)) for number, task in enumerate(page))
            )
            matched += len(page)
            changed += sum(each.done for each in done)
        if time.monotonic() > until:
            more = True
            break
    return document(200, {"matched": matched, "changed": changed, "dry_run": wanted.dry_run, "more": more})


async def _pages(desk: Desk, chosen: TaskFilter) -> AsyncIterator[list[Task]]:
    """The tasks that match, newest first, a page at a time."""
    after: str | None = None
    while True:
        page = await desk.search(
            Query(
                chosen.queue, tuple(chosen.states), chosen.name, chosen.id_prefix, chosen.url_prefix,
                chosen.status_code, chosen.tag, chosen.text, chosen.since_ms, chosen.until_ms, _PAGE, after,
            )
        )  # fmt: skip
        if page.tasks:
            yield page.tasks
        if page.after is None:
            return
        after = page.after
