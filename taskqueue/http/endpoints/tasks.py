"""The routes of tasks that are in the book: one, its attempts, lists, and what can be done to one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from taskqueue.http.api.filters import read_filter
from taskqueue.http.api.problems import Problem
from taskqueue.http.api.request_headers import read_prefer
from taskqueue.http.api.task_document import attempts_document, task_document, tasks_document
from taskqueue.http.book.changing import Changed
from taskqueue.http.book.looking import Query
from taskqueue.http.desk import Desk
from taskqueue.http.endpoints.enqueue import known_queue
from taskqueue.http.exchange import Answer, Question, document
from taskqueue.http.ids import is_task_id
from taskqueue.http.states import ENDED
from taskqueue.http.task import Task


async def get_task(desk: Desk, question: Question) -> Answer:
    """`GET /v1/tasks/{id}`, with `Prefer: wait=N` when it has ended; it also says what a task waits for."""
    wait_s = read_prefer(question.headers.get("Prefer")).wait_s
    task = await _task(desk, question, wait_s)
    shown = {**task_document(task), "waits_for": await desk.waits_for(task)}
    if wait_s is None:
        return document(200, shown)
    return document(200 if task.state in ENDED else 202, shown, {"Preference-Applied": f"wait={wait_s:g}"})


async def get_attempts(desk: Desk, question: Question) -> Answer:
    """`GET /v1/tasks/{id}/attempts`: the last ten, oldest first."""
    return document(200, attempts_document(await _task(desk, question)))


async def list_tasks(desk: Desk, question: Question) -> Answer:
    """`GET /v1/tasks`, `GET /v1/queues/{queue}/tasks`: newest first, a page at a time."""
    queue = question.parameters.get("queue")
    if queue is not None:
        known_queue(desk, queue)
    chosen = read_filter(question.query, desk.now_ms(), queue)
    after = None if chosen.after is None else str(chosen.after[0])
    page = await desk.search(
        Query(
            chosen.queue, tuple(chosen.states), chosen.name, chosen.id_prefix, chosen.url_prefix, chosen.status_code,
            chosen.tag, chosen.text, chosen.since_ms, chosen.until_ms, chosen.limit, after,
        )
    )  # fmt: skip
    shown = tasks_document(page.tasks, None if page.after is None else (page.after,))
    headers = {}
    if shown["next"] is not None:
        rest = "&".join(each for each in question.query.split("&") if each and not each.startswith("cursor="))
        target = f"{question.instance()}?{rest}{'&' if rest else ''}cursor={shown['next']}"
        headers["Link"] = f'<{target}>; rel="next"'
    return document(200, shown, headers)


async def cancel_task(desk: Desk, question: Question) -> Answer:
    """`DELETE /v1/tasks/{id}`."""
    return await _changed(question, desk.cancel, "task-ended")


async def run_task(desk: Desk, question: Question) -> Answer:
    """`POST /v1/tasks/{id}:run`: due now."""
    return await _changed(question, desk.run_now, "task-ended")


async def retry_task(desk: Desk, question: Question) -> Answer:
    """`POST /v1/tasks/{id}:retry`: anew, after its end."""
    task = await _task(desk, question)
    missing = task.ended_ms is not None and task.body is None
    return await _changed(question, desk.retry, "body-dropped" if missing else "task-not-ended")


async def duplicate_task(desk: Desk, question: Question) -> Answer:
    """`POST /v1/tasks/{id}:duplicate`: another one like it, due at once."""
    task = await _task(desk, question)
    if task.body is None:
        raise Problem("body-dropped", f"The body of task {task.id} was dropped after its end.")
    known_queue(desk, task.queue)
    spec = desk.again(task)
    receipt = await desk.take(spec)
    location = {"Location": f"{question.root}/v1/tasks/{receipt.task_id}"}
    return document(201, task_document(desk.new_task(receipt, spec)), location)


async def _changed(question: Question, change: Callable[[str], Awaitable[Changed]], otherwise: str) -> Answer:
    task_id = _id(question)
    changed = await change(task_id)
    if changed.task is None:
        raise _unknown(task_id)
    if not changed.done:
        raise Problem(otherwise, f"The task {task_id} is {changed.task.state.value}.")
    return document(200, task_document(changed.task))


async def _task(desk: Desk, question: Question, wait_s: float | None = None) -> Task:
    task_id = _id(question)
    task = await desk.get(task_id, wait_s)
    if task is None:
        raise _unknown(task_id)
    return task


def _id(question: Question) -> str:
    task_id = question.parameters["id"]
    if not is_task_id(task_id):
        raise _unknown(task_id)
    return task_id


def _unknown(task_id: str) -> Problem:
    return Problem("unknown-task", f"There is no task {task_id[:100]!r}.")
