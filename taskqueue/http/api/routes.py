"""The table of all routes of the API, and the search in it.

`match("POST", "/v1/queues/emails/tasks")` gives the route `create_task` and `{"queue": "emails"}`. A path that is not
there raises `Problem("unknown-route")`, a method that its path does not have `Problem("method-not-allowed")` with the
header Allow. Each segment is percent-decoded once, after the path was split: `%2F` never becomes a border.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import unquote_to_bytes

from taskqueue.config.http_values import QUEUE_NAME, RESERVED_QUEUES
from taskqueue.http.api.problems import Problem


class Scope(Enum):
    """What a token must be good for."""

    ENQUEUE = "enqueue"
    READ = "read"
    MANAGE = "manage"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. `{name}` in the pattern is a parameter: one segment, or its part before a colon."""

    method: str
    pattern: str
    name: str
    """Of the handler, and the operationId of OpenAPI."""
    scope: Scope


_ENQUEUE, _READ, _MANAGE, _NONE = Scope.ENQUEUE, Scope.READ, Scope.MANAGE, Scope.NONE

ROUTES: tuple[Route, ...] = tuple(
    Route(*line)
    for line in (
        ("POST", "/{queue}", "miyamoto", _ENQUEUE),
        # --- tasks
        ("POST", "/v1/queues/{queue}/tasks", "create_task", _ENQUEUE),
        ("POST", "/v1/queues/{queue}/tasks:batch", "create_tasks", _ENQUEUE),
        ("GET", "/v1/queues/{queue}/tasks", "list_queue_tasks", _READ),
        ("GET", "/v1/tasks", "list_tasks", _READ),
        ("POST", "/v1/tasks:retry", "retry_tasks", _MANAGE),
        ("POST", "/v1/tasks:cancel", "cancel_tasks", _MANAGE),
        ("GET", "/v1/tasks/{id}", "get_task", _READ),
        ("DELETE", "/v1/tasks/{id}", "cancel_task", _MANAGE),
        ("GET", "/v1/tasks/{id}/attempts", "list_attempts", _READ),
        ("POST", "/v1/tasks/{id}:run", "run_task", _MANAGE),
        ("POST", "/v1/tasks/{id}:retry", "retry_task", _MANAGE),
        ("POST", "/v1/tasks/{id}:duplicate", "duplicate_task", _MANAGE),
        # --- queues
        ("GET", "/v1/queues", "list_queues", _READ),
        ("POST", "/v1/queues", "create_queue", _MANAGE),
        ("GET", "/v1/queues/{queue}", "get_queue", _READ),
        ("PUT", "/v1/queues/{queue}", "put_queue", _MANAGE),
        ("PATCH", "/v1/queues/{queue}", "patch_queue", _MANAGE),
        ("DELETE", "/v1/queues/{queue}", "delete_queue", _MANAGE),
        ("POST", "/v1/queues/{queue}:pause", "pause_queue", _MANAGE),
        ("POST", "/v1/queues/{queue}:resume", "resume_queue", _MANAGE),
        ("POST", "/v1/queues/{queue}:purge", "purge_queue", _MANAGE),
        # --- targets
        ("GET", "/v1/origins", "list_origins", _READ),
        ("POST", "/v1/origins/{origin}:close-breaker", "close_breaker", _MANAGE),
        # --- about the front
        ("GET", "/health/live", "health_live", _NONE),
        ("GET", "/health/ready", "health_ready", _NONE),
        ("GET", "/openapi.json", "openapi", _NONE),
        ("GET", "/problems", "list_problems", _NONE),
        ("GET", "/problems/{type}", "get_problem", _NONE),
    )
)


@dataclass(slots=True)
class _Node:
    """A place in the tree of paths: what may follow, and what is there."""

    children: dict[str, _Node] = field(default_factory=dict)
    parameter: str = ""
    routes: dict[str, Route] = field(default_factory=dict)
    actions: dict[str, dict[str, Route]] = field(default_factory=dict)
    """By the word behind the colon, by method."""


def _tree() -> _Node:
    root = _Node()
    for route in ROUTES:
        if route.name == "miyamoto":
            continue
        node = root
        segments = route.pattern.split("/")[1:]
        action = ""
        for segment in segments:
            word, _, action = segment.partition(":")
            if word.startswith("{"):
                node = node.children.setdefault("{}", _Node())
                node.parameter = word[1:-1]
            else:
                node = node.children.setdefault(word, _Node())
        (node.actions.setdefault(action, {}) if action else node.routes)[route.method] = route
    return root


_TREE = _tree()
_MIYAMOTO = {"POST": ROUTES[0]}
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def match(method: str, path: str) -> tuple[Route, dict[str, str]]:
    """The route and its parameters. `path` is as the request line has it, without the query and base_path; HEAD is
    found where GET is. Raises `Problem`: unknown-route, method-not-allowed, malformed-request."""
    segments = path.split("/")
    if segments[0] or len(segments) < 2:
        raise _unknown(path)
    first = segments[1]
    if len(segments) == 2 and first and (first := _decoded(first)) not in RESERVED_QUEUES:
        if not QUEUE_NAME.fullmatch(first):
            raise _unknown(path, " If it is the name of a queue: letters, digits, '_', '.' and '-', at most 100.")
        return _of_method(method, _MIYAMOTO), {"queue": first}
    found: dict[str, str] = {}
    node = _TREE
    last = len(segments) - 1
    for index in range(1, len(segments)):
        segment = segments[index]
        if index == last and ":" in segment:
            word, _, action = segment.rpartition(":")
            child = _step(node, word, found)
            if child is not None and action in child.actions:
                return _of_method(method, child.actions[action]), found
        child = _step(node, segment, found)
        if child is None:
            raise _unknown(path)
        node = child
    if not node.routes:
        if node.actions:
            raise _unknown(path, f" Known endings are {', '.join(f':{each}' for each in node.actions)}.")
        raise _unknown(path)
    return _of_method(method, node.routes), found


def _step(node: _Node, segment: str, found: dict[str, str]) -> _Node | None:
    """The place that `segment` leads to; a parameter is noted in `found`."""
    child = node.children.get(segment)
    if child is not None:
        return child
    decoded = _decoded(segment)
    if decoded in node.children:
        return node.children[decoded]
    child = node.children.get("{}")
    if child is None or not decoded or (":" in decoded and child.parameter != "origin"):
        return None
    found[child.parameter] = decoded
    return child


def _decoded(segment: str) -> str:
    if "%" not in segment:
        return segment
    if _BAD_ESCAPE.search(segment):
        raise Problem("malformed-request", "The path has a '%' without two hexadecimal digits behind it.")
    try:
        found = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise Problem("malformed-request", "The path is not UTF-8 once it is percent-decoded.") from None
    if not found.isprintable():
        raise Problem("malformed-request", "The path has a control character.")
    return found


def _of_method(method: str, routes: dict[str, Route]) -> Route:
    route = routes.get("GET" if method == "HEAD" else method)
    if route is None:
        allowed = ", ".join([*routes, *(["HEAD"] if "GET" in routes else [])])
        raise Problem(
            "method-not-allowed", f"This address has {allowed}, and not {method[:40]}.", headers={"Allow": allowed}
        )
    return route


def _unknown(path: str, hint: str = "") -> Problem:
    shown = path if len(path) <= 100 else path[:99] + "…"
    if not hint and len(path) > 1 and path.endswith("/"):
        hint = " Leave out the slash at the end."
    return Problem("unknown-route", f"There is nothing at {shown}.{hint}")
