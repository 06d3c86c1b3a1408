"""The schemas of `/openapi.json`, written by hand: what each document of the API has. Data only.

A test holds the keys of `NewTask` and `Queue` to the readers, and those of `Task` to what is shown.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_INTEGER: Schema = {"type": "integer"}
_MAYBE_NUMBER: Schema = {"type": ["number", "null"]}
_YES_NO: Schema = {"type": "boolean"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_HEADERS: Schema = {
    "type": "object",
    "additionalProperties": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]},
}
_DURATION: Schema = {
    "description": 'Seconds, or a text such as "100ms", "5s", "2m", "1.5h", "3d".',
    "type": ["number", "string", "null"],
}
_TAGS: Schema = {"type": "array", "items": _TEXT, "maxItems": 20}
_STATE: Schema = {"$ref": "#/components/schemas/State"}


def _object(properties: Schema, description: str, **more: Any) -> Schema:
    return {"type": "object", "description": description, "properties": properties, **more}


_RETRY = _object(
    {
        "max_attempts": {"type": ["integer", "null"], "description": "-1: any number."},
        "max_age": _DURATION,
        "min_backoff": _DURATION,
        "max_backoff": _DURATION,
        "max_doublings": {"type": ["integer", "null"], "minimum": 0},
    },
    "When a task that failed is tried again. It is given up when both max_attempts and max_age are over.",
    additionalProperties=False,
)
_ATTEMPT = _object(
    {
        "at": _MAYBE_TIME,
        "outcome": {
            "enum": ["answered", "timeout", "connect", "dns", "tls", "denied", "deferred", "crashed", "error", None]
        },
        "status": {"type": ["integer", "null"]},
        "error": _MAYBE_TEXT,
        "duration_s": _MAYBE_NUMBER,
        "address": _MAYBE_TEXT,
    },
    "One attempt.",
)

SCHEMAS: dict[str, Schema] = {
    "State": {
        "enum": ["scheduled", "ready", "running", "retrying", "succeeded", "dead", "cancelled", "expired"],
    },
    "Retry": _RETRY,
    "Attempt": _ATTEMPT,
    "NewTask": _object(
        {
            "url": {**_MAYBE_TEXT, "description": "Absolute; a path where the queue has a target URL."},
            "worker_type": {**_MAYBE_TEXT, "description": "A plugin, in place of url."},
            "method": {"enum": ["POST", "GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", None], "default": "POST"},
            "headers": _HEADERS,
            "body": {**_MAYBE_TEXT, "description": "Sent as UTF-8. At most one of body, json, form, body_base64."},
            "json": {"description": "Any JSON value; sent as application/json."},
            "form": {"type": ["object", "null"], "description": "Sent urlencoded."},
            "body_base64": {**_MAYBE_TEXT, "contentEncoding": "base64"},
            "delay": _DURATION,
            "at": _MAYBE_TIME,
            "expires": {**_DURATION, "description": "A duration from now, or a time."},
            "timeout": _DURATION,
            "name": {**_MAYBE_TEXT, "description": "Unique in its queue.", "maxLength": 500},
            "retry": {"$ref": "#/components/schemas/Retry"},
            "tags": _TAGS,
            "callback_url": _MAYBE_TEXT,
            "dedup": _object(
                {"by": {**_TEXT, "description": '"content", or a key of your own.'}, "window": _DURATION},
                "A second task with the same key, within the window, is the first one.",
            ),
        },
        "A task that is wanted.",
        additionalProperties=False,
    ),
    "Task": _object(
        {
            "id": {"type": "string", "format": "uuid"},
            "queue": _TEXT,
            "name": _MAYBE_TEXT,
            "state": _STATE,
            "reason": _MAYBE_TEXT,
            "url": _MAYBE_TEXT,
            "worker_type": _MAYBE_TEXT,
            "method": _TEXT,
            "headers": _HEADERS,
            "created_at": _TIME,
            "scheduled_at": _TIME,
            "expires_at": _MAYBE_TIME,
            "ended_at": _MAYBE_TIME,
            "attempts": _INTEGER,
            "responses": _INTEGER,
            "next_attempt_at": _MAYBE_TIME,
            "last": {"anyOf": [{"$ref": "#/components/schemas/Attempt"}, {"type": "null"}]},
            "result": {"type": ["object", "null"], "description": "Once it has ended."},
            "tags": _TAGS,
            "cancel_requested": _YES_NO,
            "timeout": _MAYBE_NUMBER,
            "retry": {"type": ["object", "null"]},
            "callback_url": _MAYBE_TEXT,
        },
        "A task.",
    ),
    "TaskSeen": {
        "allOf": [{"$ref": "#/components/schemas/Task"}],
        "type": "object",
        "properties": {
            "waits_for": {**_MAYBE_TEXT, "description": "What it waits for, in words; null where it runs or has ended."}
        },
    },
    "Tasks": _object(
        {"tasks": {"type": "array", "items": {"$ref": "#/components/schemas/Task"}}, "next": _MAYBE_TEXT},
        "A page of tasks; `next` is the cursor of the next one.",
    ),
    "Attempts": _object(
        {"attempts": {"type": "array", "items": {"$ref": "#/components/schemas/Attempt"}}, "left_off": _INTEGER},
        "The last ten attempts of a task.",
    ),
    "Queue": _object(
        {
            "name": {**_TEXT, "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"},
            "source": {"enum": ["config", "api"], "readOnly": True},
            "paused": {**_YES_NO, "readOnly": True},
            "rate_limit": {"type": ["number", "string", "null"], "examples": ["10/s", "600/m"]},
            "burst": {"type": ["integer", "null"], "minimum": 1},
            "concurrency": {"type": ["integer", "null"], "minimum": 1},
            "timeout": _DURATION,
            "target": {**_MAYBE_TEXT, "description": "A URL that a task's path is joined to, or a worker type."},
            "permanent_statuses": {"type": ["array", "null"], "items": _INTEGER},
            "follow_redirects": {"type": ["integer", "null"], "minimum": 0},
            "sign": {"type": ["boolean", "null"]},
            "headers": _HEADERS,
            "retry": {"$ref": "#/components/schemas/Retry"},
            "tasks": {"type": ["object", "null"], "readOnly": True, "description": "Tasks by state."},
            "oldest_ready_at": {**_MAYBE_TIME, "readOnly": True},
        },
        "A queue and its rules.",
    ),
    "Scheduled": _object(
        {"status": {"enum": ["scheduled", "duplicate"]}, "id": {"type": "string", "format": "uuid"}},
        "Miyamoto's answer.",
    ),
    "BatchResults": _object(
        {"results": {"type": "array", "items": {"type": "object"}}}, "A result for each task of a batch, in order."
    ),
    "Bulk": _object(
        {
            "filter": {"type": "object", "description": "Conditions, as in the query of GET /v1/tasks."},
            "all": {**_YES_NO, "description": "Needed where there is no condition."},
            "dry_run": {**_YES_NO, "description": "Only count."},
            "rate": {"type": ["number", "string", "null"]},
        },
        "Which tasks, and how fast.",
    ),
    "Problem": _object(
        {
            "type": {"type": "string", "format": "uri-reference"},
            "title": _TEXT,
            "status": {"type": ["integer", "string"], "description": 'Miyamoto\'s route says "error" here.'},
            "detail": _TEXT,
            "instance": _TEXT,
            "errors": {"type": "array", "items": {"type": "object"}},
            "error": {"type": "object", "description": "The same for Google's clients."},
        },
        "What went wrong (RFC 9457).",
    ),
    "Any": {"type": "object"},
}
