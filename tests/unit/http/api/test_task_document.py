"""What the API shows of a task."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskqueue.http.api.cursors import read_cursor
from taskqueue.http.api.openapi_schemas import SCHEMAS
from taskqueue.http.api.task_document import (
    as_bytes,
    attempts_document,
    headers_document,
    masked,
    task_document,
    tasks_document,
)
from taskqueue.http.states import TaskState
from taskqueue.http.task import Task

ID = "01981a2b-0000-7000-8000-000000000001"
LAST = {
    "at_ms": 1500, "outcome": "answered", "status": 503, "error": None, "duration_s": 0.12, "address": "192.0.2.7",
}  # fmt: skip


def task(**more: Any) -> Task:
    fields: dict[str, Any] = {
        "id": ID, "queue": "emails", "name": None, "state": TaskState.RETRYING, "reason": None,
        "url": "https://x.example/", "worker_type": None, "method": "POST",
        "headers": (("X-A", "1"), ("X-A", "2"), ("Authorization", "Bearer hush")),
        "created_ms": 0, "scheduled_ms": 1000,
        "expires_ms": None, "attempts": 3, "responses": 2, "next_attempt_ms": 2000, "last": LAST, "result": None,
        "tags": ("t",),
    }  # fmt: skip
    return Task(**{**fields, **more})


def test_the_whole_document() -> None:
    assert task_document(task(retry={"max_age_s": 5.0, "max_attempts": None})) == {
        "id": ID,
        "queue": "emails",
        "name": None,
        "state": "retrying",
        "reason": None,
        "url": "https://x.example/",
        "worker_type": None,
        "method": "POST",
        "headers": {"X-A": ["1", "2"], "Authorization": "…"},
        "created_at": "1970-01-01T00:00:00.000Z",
        "scheduled_at": "1970-01-01T00:00:01.000Z",
        "expires_at": None,
        "ended_at": None,
        "attempts": 3,
        "responses": 2,
        "next_attempt_at": "1970-01-01T00:00:02.000Z",
        "last": {
            "at": "1970-01-01T00:00:01.500Z",
            "outcome": "answered",
            "status": 503,
            "error": None,
            "duration_s": 0.12,
            "address": "192.0.2.7",
        },
        "result": None,
        "tags": ["t"],
        "cancel_requested": False,
        "timeout": None,
        "retry": {"max_age": 5.0},
        "callback_url": None,
    }


def test_openapi_has_the_same_keys() -> None:
    shown = task_document(task())
    assert set(SCHEMAS["Task"]["properties"]) == set(shown)
    assert set(SCHEMAS["TaskSeen"]["properties"]) == {"waits_for"}
    assert set(SCHEMAS["Attempt"]["properties"]) == set(shown["last"])


def test_a_result_is_shown_once_it_has_ended() -> None:
    webhook = {"status": 200, "headers": [("Set-Cookie", "hush"), ("X", "y")], "body": b"ok"}
    assert task_document(task(result=webhook))["result"] is None
    assert task_document(task(result=webhook, state=TaskState.SUCCEEDED))["result"] == {
        "status": 200,
        "headers": {"Set-Cookie": "…", "X": "y"},
        "body": "ok",
    }
    assert task_document(task(result={"value": None}, state=TaskState.DEAD))["result"] == {"value": None}
    binary = task_document(task(result={**webhook, "body": b"\xff"}, state=TaskState.DEAD))["result"]
    assert (binary["body_base64"], "body" in binary) == ("/w==", False)


def test_the_body_is_shown_only_where_it_is_asked_for() -> None:
    assert "body" not in task_document(task(body=b"x"))
    assert task_document(task(body=b"x"), with_body=True)["body"] == "x"
    assert task_document(task(body=b"\xff"), with_body=True)["body_base64"] == "/w=="
    assert task_document(task(), with_body=True)["body"] is None


@pytest.mark.parametrize(
    "name",
    ["Authorization", "cookie", "X-Api-Key", "X-My-Token", "client-secret", "X-Hub-Signature", "X-Goog-IAP-Auth"],
)
def test_a_secret_is_hidden(name: str) -> None:
    assert masked(name, "hush") == "…"
    assert "hush" not in str(headers_document([(name, "hush"), (name, "hush"), (name, "hush")]))


@pytest.mark.parametrize("name", ["Content-Type", "X-Request-Id", "Idempotency-Key", "Accept"])
def test_anything_else_is_shown(name: str) -> None:
    assert masked(name, "x") == "x"


def test_attempts() -> None:
    history = [{**LAST, "attempt": 3, "headers": [("Set-Cookie", "hush")], "body": b"no", "scheduled_ms": 5}]
    found = attempts_document(task(history=history))
    assert found["left_off"] == 2
    assert found["attempts"] == [
        {
            "at": "1970-01-01T00:00:01.500Z",
            "outcome": "answered",
            "status": 503,
            "error": None,
            "duration_s": 0.12,
            "address": "192.0.2.7",
            "attempt": 3,
            "headers": {"Set-Cookie": "…"},
            "body": "no",
            "scheduled_at": "1970-01-01T00:00:00.005Z",
        }
    ]


def test_a_page_of_tasks() -> None:
    assert tasks_document([], None) == {"tasks": [], "next": None}
    found = tasks_document([task()], (5, ID))
    assert found["tasks"][0]["id"] == ID
    assert read_cursor(found["next"]) == (5, ID)


def test_bytes_for_people_with_curl() -> None:
    assert as_bytes({"a": "ü"}) == '{"a": "ü"}\n'.encode()
    assert json.loads(as_bytes(task_document(task()))) == task_document(task())
