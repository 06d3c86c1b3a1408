"""`/openapi.json`: OpenAPI 3.1 of this front, made of the table of routes and the schemas.

Each route of `routes.ROUTES` is an operation whose id is the route's name. This module says only what the table does
not: what goes in, what comes out. A route that is missing here is told by `_ABOUT[…]` at once.
"""

from __future__ import annotations

from typing import Any

from taskqueue.http.api.openapi_schemas import SCHEMAS
from taskqueue.http.api.problems import MEDIA_TYPE
from taskqueue.http.api.routes import ROUTES, Route, Scope

_ABOUT: dict[str, tuple[str, str | None, int, str | None]] = {
    # name of the route: summary, schema of the request, status, schema of the answer
    "miyamoto": ("Enqueue as Miyamoto did: a form, or JSON.", "Any", 200, "Scheduled"),
    "create_task": ("Enqueue a task; with ?url= the body goes on as it is.", "NewTask", 201, "Task"),
    "create_tasks": ("Enqueue up to 1,000 tasks: an array, or NDJSON.", "Any", 200, "BatchResults"),
    "list_queue_tasks": ("List the tasks of a queue.", None, 200, "Tasks"),
    "list_tasks": ("List tasks.", None, 200, "Tasks"),
    "retry_tasks": ("Retry all tasks that match.", "Bulk", 200, "Any"),
    "cancel_tasks": ("Cancel all tasks that match.", "Bulk", 200, "Any"),
    "get_task": ("Show a task; `Prefer: wait=N` waits for its end.", None, 200, "TaskSeen"),
    "cancel_task": ("Cancel a task.", None, 200, "Task"),
    "list_attempts": ("Show the last attempts of a task.", None, 200, "Attempts"),
    "run_task": ("Run a waiting task now, as rate and pause allow.", None, 200, "Task"),
    "retry_task": ("Make an ended task ready again.", None, 200, "Task"),
    "duplicate_task": ("Enqueue a task like this one.", None, 201, "Task"),
    "list_queues": ("List all queues.", None, 200, "Any"),
    "create_queue": ("Make a queue.", "Queue", 201, "Queue"),
    "get_queue": ("Show a queue.", None, 200, "Queue"),
    "put_queue": ("Make a queue, or replace all its rules.", "Queue", 200, "Queue"),
    "patch_queue": ("Change some rules of a queue.", "Queue", 200, "Queue"),
    "delete_queue": ("Delete a queue.", None, 204, None),
    "pause_queue": ("Start nothing new of a queue.", None, 200, "Queue"),
    "resume_queue": ("Go on with a queue.", None, 200, "Queue"),
    "purge_queue": ("Cancel all tasks of a queue that wait.", None, 200, "Any"),
    "list_origins": ("List the origins of targets, with their breakers.", None, 200, "Any"),
    "close_breaker": ("Send to an origin again.", None, 200, "Any"),
    "health_live": ("Whether the process lives.", None, 200, "Any"),
    "health_ready": ("Whether tasks are taken: book and broker.", None, 200, "Any"),
    "openapi": ("This document.", None, 200, "Any"),
    "list_problems": ("All problems that the API can tell.", None, 200, "Any"),
    "get_problem": ("A problem, in HTML.", None, 200, None),
}

_FILTERS = ("state", "queue", "name", "id_prefix", "url_prefix", "status_code", "tag", "text", "since", "until",
            "limit", "cursor")  # fmt: skip
_TAKES_FORM = frozenset({"miyamoto"})
_TAKES_RAW = frozenset({"create_task"})
_WITH_KEY = frozenset({"create_task", "create_tasks", "duplicate_task"})
_WITH_WAIT = frozenset({"create_task", "get_task"})


def openapi(version: str, root: str = "") -> dict[str, Any]:
    """The whole document. `version` is Taskqueue's, `root` the base_path, "" for none."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.pattern, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Taskqueue", "version": version, "description": "Tasks over HTTP."},
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "responses": {
                "Problem": {
                    "description": "A problem; its `type` is a page that says what to do.",
                    "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
                }
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    summary, takes, status, gives = _ABOUT[route.name]
    answer: dict[str, Any] = {"description": "Done."}
    if gives is not None:
        answer["content"] = {"application/json": {"schema": _ref(gives)}}
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": summary,
        "parameters": _parameters(route),
        "responses": {str(status): answer, "default": {"$ref": "#/components/responses/Problem"}},
    }
    if takes is not None:
        content: dict[str, Any] = {"application/json": {"schema": _ref(takes)}}
        if route.name in _TAKES_FORM:
            content["application/x-www-form-urlencoded"] = {"schema": {"type": "object"}}
        if route.name in _TAKES_RAW:
            content["*/*"] = {}
        found["requestBody"] = {"content": content}
    if route.scope is not Scope.NONE:
        found["security"] = [{}, {"bearer": []}, {"key": []}]
        found["x-scope"] = route.scope.value
    return found


def _parameters(route: Route) -> list[dict[str, Any]]:
    names = [part.partition("}")[0] for part in route.pattern.split("{")[1:]]
    found = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    if route.name in ("list_tasks", "list_queue_tasks"):
        found += [_optional(name, "query") for name in _FILTERS]
    if route.name in _TAKES_RAW:
        found.append(_optional("url", "query"))
    if route.name in _WITH_KEY:
        found.append(_optional("Idempotency-Key", "header"))
    if route.name in _WITH_WAIT:
        found.append(_optional("Prefer", "header"))
    return found


def _optional(name: str, where: str) -> dict[str, Any]:
    return {"name": name, "in": where, "required": False, "schema": {"type": "string"}}


def _ref(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}
