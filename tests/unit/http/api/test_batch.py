"""Batches: a result for each task, in order, and no fault that reaches another one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskqueue.config.http_settings import HttpSettings, QueueSettings
from taskqueue.http.api.batch import BYTES_LIMIT, BatchItem, batch_answer, failure, read_batch, result
from taskqueue.http.api.problems import Problem
from taskqueue.http.api.request_headers import read_content_type
from taskqueue.http.api.target_rules import reading_rules

RULES = reading_rules(HttpSettings())
QUEUE = QueueSettings("q")
URL = "http://example.com/"


def read(body: bytes, content_type: str | None = "application/json") -> list[BatchItem]:
    return read_batch(body, read_content_type(content_type), QUEUE, RULES, 0)


def shape(items: list[BatchItem]) -> list[Any]:
    return [
        [each["pointer"] for each in item.problem.errors] if item.problem else item.idempotency_key for item in items
    ]


TASKS: list[Any] = [
    {"url": URL, "idempotency_key": "a-1"},
    {"url": 5},
    7,
    {"url": URL},
    {"url": URL, "idempotency_key": ""},
    {"delay": -1, "url": URL, "idempotency_key": 5},
    {"url": URL, "idempotency_key": None},
]
SHAPE = ["a-1", ["#/url"], ["#"], None, ["#/idempotency_key"], ["#/idempotency_key", "#/delay"], None]


def test_an_array() -> None:
    items = read(json.dumps(TASKS).encode())
    assert shape(items) == SHAPE
    assert items[0].document == {"url": URL}
    assert items[0].spec is not None and items[0].spec.url == URL


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json", None])
def test_a_line_each(content_type: str | None) -> None:
    assert shape(read(b"\r\n\n".join(json.dumps(each).encode() for each in TASKS), content_type)) == SHAPE


def test_a_line_that_is_no_json_fails_alone() -> None:
    items = read(b'{"url": "http://example.com/"}\n{"url": \n{"url": "http://example.com/"}\n')
    assert [item.problem and item.problem.slug for item in items] == [None, "malformed-json", None]


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (b"[" + b"{}," * 1000 + b"{}]", "too-large"),
        (b"{}\n" * 1001, "too-large"),
        (b" " * (BYTES_LIMIT + 1), "too-large"),
        (b"[]", "validation"),
        (b"", "malformed-json"),
        (b"[{]", "malformed-json"),
        (b"5", "malformed-json"),
        (b"\xff", "malformed-json"),
    ],
)
def test_a_body_that_fails_as_a_whole(body: bytes, slug: str) -> None:
    with pytest.raises(Problem) as caught:
        read(body)
    assert caught.value.slug == slug


def test_a_thousand_are_taken() -> None:
    assert len(read(b"[" + b"{}," * 999 + b"{}]")) == 1000


def test_the_answer() -> None:
    exists = Problem("task-exists", headers={"Location": "/v1/tasks/7"})
    found = json.loads(batch_answer([result(201, {"id": "1"}), result(201, {"id": "1"}, True), failure(exists)]))
    first, second, third = found["results"]
    assert first == {"status": 201, "task": {"id": "1"}}
    assert second == {**first, "replayed": True}
    assert (third["status"], third["location"], third["problem"]["type"]) == (
        409,
        "/v1/tasks/7",
        "/problems/task-exists",
    )
