"""Whatever a client sends, a reader gives data or a Problem, and nothing else: no crash, no endless work."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.config.http_settings import HttpSettings, QueueSettings
from taskqueue.http.api import native_task, queue_document
from taskqueue.http.api.filters import read_bulk, read_filter
from taskqueue.http.api.miyamoto import read_miyamoto_task
from taskqueue.http.api.native_task import read_task
from taskqueue.http.api.problems import Problem, document
from taskqueue.http.api.queue_document import read_queue
from taskqueue.http.api.raw_task import read_raw_task
from taskqueue.http.api.target_rules import reading_rules

RULES = reading_rules(HttpSettings())
QUEUES = [
    QueueSettings("q"),
    QueueSettings("q", target="primes"),
    QueueSettings("q", target="https://x.example"),
    QueueSettings("q", target="https://x.example/h/"),
]
NOW_MS = 1_767_225_600_000

SAMPLES: st.SearchStrategy[Any] = st.sampled_from(
    ["content", "5s", "1e9d", "http://x/", "a", "", "GET", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", -1, 0,
     1, 10**400, 1e308, 2.5, True, None, [], {}, ["a"], {"a": "b"}, {"by": "content", "window": 5}, {"max_age": 5}]
)  # fmt: skip
VALUES = SAMPLES | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def document_with(keys: tuple[str, ...]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(keys) | st.text(), VALUES, max_size=6) | VALUES


def check_problem(problem: Problem) -> None:
    assert 400 <= problem.status < 500
    json.loads(document(problem, "/x")[2])


@given(document_with(native_task.KEYS), st.sampled_from(QUEUES))
def test_any_native_document(given_document: Any, queue: QueueSettings) -> None:
    try:
        spec = read_task(given_document, queue, RULES, NOW_MS)
    except Problem as problem:
        check_problem(problem)
    else:
        assert (spec.url is None) != (spec.worker_type is None)
        if queue.target is not None and spec.url is not None:
            assert f"{spec.url}/".startswith("https://x.example/")


@given(document_with(queue_document.KEYS), st.none() | st.just(QUEUES[3]))
def test_any_queue(given_document: Any, base: QueueSettings | None) -> None:
    try:
        read_queue(given_document, RULES, name="q", base=base)
    except Problem as problem:
        check_problem(problem)


FORM = st.lists(
    st.sampled_from(["task.url=", "task.url=http://x/", "task.eta=", "task.countdown=", "task.method=", "&", "=", "%",
                     "{", "1e5", "5", "GET", "a=b", "task.last_id=", "&&", "%ff"]) | st.text(max_size=5), max_size=12
).map(lambda parts: "".join(parts).encode())  # fmt: skip


@given(FORM | st.binary(max_size=40), st.none() | st.text(max_size=20), st.sampled_from(QUEUES))
def test_any_miyamoto_request(body: bytes, content_type: str | None, queue: QueueSettings) -> None:
    try:
        spec = read_miyamoto_task(body, content_type, queue, RULES, NOW_MS)
    except Problem as problem:
        check_problem(problem)
    else:
        assert (spec.url is None) != (spec.worker_type is None)


MIYAMOTO_KEYS = ("url", "params", "countdown", "eta", "last_id", "method", "json", "worker_type")


@given(st.dictionaries(st.sampled_from(MIYAMOTO_KEYS), VALUES, max_size=5))
def test_any_miyamoto_json(given_document: Any) -> None:
    try:
        read_miyamoto_task(json.dumps(given_document).encode(), None, QUEUES[0], RULES, NOW_MS)
    except Problem as problem:
        check_problem(problem)


HEADERS = st.lists(
    st.tuples(st.sampled_from(["Task-Delay", "Task-At", "Task-Tags", "Task-Dedup", "Task-Forward-", "Task-Forward-X",
                               "Task-X", "Content-Type", "Task-Max-Attempts"]),
              st.text(max_size=8) | st.sampled_from(["\udcff", "content"])), max_size=5
)  # fmt: skip


@given(st.text(max_size=30), HEADERS, st.sampled_from(QUEUES))
def test_any_raw_request(query: str, headers: list[tuple[str, str]], queue: QueueSettings) -> None:
    try:
        read_raw_task(query, headers, b"x", queue, RULES, NOW_MS)
    except Problem as problem:
        check_problem(problem)


@given(st.text(max_size=60))
def test_any_query(query: str) -> None:
    try:
        read_filter(query, NOW_MS)
    except Problem as problem:
        check_problem(problem)


@given(document_with(("filter", "dry_run", "rate", "state", "since", "status_code", "all")), st.text(max_size=10))
def test_any_bulk_request(given_document: Any, query: str) -> None:
    try:
        read_bulk(query, given_document, NOW_MS)
    except Problem as problem:
        check_problem(problem)


@pytest.mark.parametrize("number", [10**400, -(10**400), 1e308, float("inf"), float("nan")])
@pytest.mark.parametrize("key", ["delay", "timeout", "expires", "at", "name"])
def test_numbers_without_measure(key: str, number: float) -> None:
    with pytest.raises(Problem) as caught:
        read_task({"url": "http://x/", key: number}, QUEUES[0], RULES, NOW_MS)
    check_problem(caught.value)
