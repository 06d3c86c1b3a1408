"""Which endpoint each route of `api.routes` has, and how large its body may be. A test holds this table to that one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from taskqueue.config.http_settings import HttpSettings
from taskqueue.http.api.batch import BYTES_LIMIT
from taskqueue.http.desk import Desk
from taskqueue.http.endpoints import bulk, enqueue, health, queues, tasks
from taskqueue.http.exchange import Answer, Question

Endpoint = Callable[[Desk, Question], Awaitable[Answer]]

ENDPOINTS: Mapping[str, Endpoint] = {
    "miyamoto": enqueue.create_miyamoto_task,
    "create_task": enqueue.create_task,
    "create_tasks": enqueue.create_batch,
    "list_queue_tasks": tasks.list_tasks,
    "list_tasks": tasks.list_tasks,
    "get_task": tasks.get_task,
    "cancel_task": tasks.cancel_task,
    "list_attempts": tasks.get_attempts,
    "run_task": tasks.run_task,
    "retry_task": tasks.retry_task,
    "duplicate_task": tasks.duplicate_task,
    "retry_tasks": bulk.retry_tasks,
    "cancel_tasks": bulk.cancel_tasks,
    "list_origins": bulk.list_origins,
    "close_breaker": bulk.close_breaker,
    "list_queues": queues.list_queues,
    "create_queue": queues.create_queue,
    "get_queue": queues.get_queue,
    "put_queue": queues.put_queue,
    "patch_queue": queues.patch_queue,
    "delete_queue": queues.delete_queue,
    "pause_queue": queues.pause_queue,
    "resume_queue": queues.resume_queue,
    "purge_queue": queues.purge_queue,
    "health_live": health.live,
    "health_ready": health.ready,
    "openapi": health.api_document,
    "list_problems": health.list_problems,
    "get_problem": health.problem_page,
}


def body_limit(route: str, settings: HttpSettings) -> int:
    """Bytes of a request's body, at most."""
    return BYTES_LIMIT if route == "create_tasks" else settings.max_body_bytes
