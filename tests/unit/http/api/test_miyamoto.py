"""Miyamoto's requests, those of the seed verbatim among them, and its answers."""

from __future__ import annotations

import json

import pytest

from taskqueue.config.http_settings import HttpSettings, QueueSettings
from taskqueue.http.api.miyamoto import duplicate, error_document, read_miyamoto_task, scheduled
from taskqueue.http.api.problems import Problem
from taskqueue.http.api.target_rules import reading_rules
from taskqueue.http.task_spec import Api, TaskSpec

RULES = reading_rules(HttpSettings())
NOW_MS = 1_767_225_600_000
QUEUE = QueueSettings("queue")
URL = "http://localhost:9099/worker"
FORM = "application/x-www-form-urlencoded"
ID = "7e998f34-bed7-44f4-80cd-49620b0ab562"


def read(body: str | bytes, content_type: str | None = FORM, queue: QueueSettings = QUEUE) -> TaskSpec:
    data = body.encode() if isinstance(body, str) else body
    return read_miyamoto_task(data, content_type, queue, RULES, NOW_MS)


def wanted(body: bytes = b"foo=bar", delay_ms: int = 0, url: str = URL) -> TaskSpec:
    headers = (("Content-Type", FORM),) if body else ()
    return TaskSpec("queue", url=url, headers=headers, body=body, delay_ms=delay_ms, api=Api.MIYAMOTO)


def test_the_seeds_form() -> None:
    assert read("task.url=http://localhost:9099/worker&task.countdown=5&foo=bar") == wanted(delay_ms=5000)


def test_the_seeds_json_with_its_misspelt_type() -> None:
    body = '{"url": "http://localhost:9099/worker", "params": {"foo": "bar"}}'
    assert read(body, "applicatoin/json") == wanted()
    assert read(body, FORM) == wanted()
    assert read("\n  " + body, None) == wanted()


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("", b""),
        ("&b=2&a=1&b=1", b"b=2&a=1&b=1"),
        ("&empty=&bare", b"empty=&bare"),
        ("&x=a%20b+c%ff%00", b"x=a%20b+c%ff%00"),
        ("&&a=1&", b"a=1"),
        ("&a=b=c;d", b"a=b=c;d"),
        ("&taskurl=1", b"taskurl=1"),
    ],
)
def test_params_go_on_as_they_came(form: str, body: bytes) -> None:
    assert read(f"task.url={URL}{form}").body == body


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("http://x.example/w", "http://x.example/w?a=1&b=%20c%C3%BC"),
        ("http://x.example/w%3Fq%3D1", "http://x.example/w?q=1&a=1&b=%20c%C3%BC"),
        ("http://x.example/w%3F", "http://x.example/w?a=1&b=%20c%C3%BC"),
    ],
)
def test_params_of_a_get_go_into_the_query(url: str, whole: str) -> None:
    spec = read(f"task.url={url}&task.method=get&a=1&b=%20cü")
    assert (spec.method, spec.url, spec.body, spec.headers) == ("GET", whole, b"", ())


def test_json_params_may_be_numbers_and_arrays() -> None:
    spec = read(json.dumps({"url": URL, "params": {"a": [1, "x y"], "b": None, "c": True}}))
    assert spec.body == b"a=1&a=x+y&b=&c=true"


def test_json_may_have_keys_of_the_native_api() -> None:
    spec = read(json.dumps({"url": URL, "json": {"a": 1}, "headers": {"X-A": "b"}, "countdown": 1}))
    assert (spec.body, spec.delay_ms, spec.headers[0]) == (b'{"a":1}', 1000, ("X-A", "b"))


@pytest.mark.parametrize(
    ("fields", "delay_ms", "at_ms"),
    [
        ("task.countdown=1.5", 1500, None),
        ("task.countdown=", 0, None),
        ("task.eta=1767225605.25", 0, NOW_MS + 5250),
        ("task.eta=2026-01-01T00:00:05Z", 0, NOW_MS + 5000),
        ("task.eta=1767225605&task.countdown=99", 0, NOW_MS + 5000),
        ("task.eta=5", 0, 5000),
    ],
)
def test_when_it_is_due(fields: str, delay_ms: int, at_ms: int | None) -> None:
    spec = read(f"task.url={URL}&{fields}")
    assert (spec.delay_ms, spec.at_ms) == (delay_ms, at_ms)


def test_last_id_is_a_key() -> None:
    assert read(f"task.url={URL}&task.last_id=a-7").dedup_key == "key:a-7"
    assert read(json.dumps({"url": URL, "last_id": 7})).dedup_key == "key:7"
    assert read(f"task.url={URL}").dedup_key is None


def test_a_queues_target_holds_here_too() -> None:
    assert read("task.url=w&a=1", queue=QueueSettings("queue", target="http://x.example/")).url == "http://x.example/w"
    spec = read("a=1", queue=QueueSettings("queue", target="primes"))
    assert (spec.worker_type, spec.body) == ("primes", b"a=1")


@pytest.mark.parametrize(
    ("body", "content_type", "slug", "errors"),
    [
        ("foo=bar", FORM, "malformed-request", [{"field": "task.url", "detail": "is missing; every task needs one"}]),
        (
            "task.url=tcp://127.0.0.1:5555,tcp://127.0.0.1:5556",
            FORM,
            "malformed-request",
            [
                {
                    "field": "task.url",
                    "detail": "must be http:// or https://; Miyamoto's ZeroMQ targets are not supported",
                }
            ],
        ),
        (
            f"task.url={URL}&task.countdown=5m&task.metod=GET",
            FORM,
            "malformed-request",
            [
                {"field": "task.metod", "detail": "is not known; did you mean method?"},
                {"field": "task.countdown", "detail": "must be a number of seconds from 0 to 2678400: '5m'"},
            ],
        ),
        (
            '{"countdown": -1}',
            "application/json",
            "malformed-request",
            [
                {"pointer": "#/url", "detail": "is missing; say url, or worker_type for a plugin"},
                {"pointer": "#/countdown", "detail": "must be a number of seconds from 0 to 2678400: -1"},
            ],
        ),
        ('{"url": "x", "url": "y"}', FORM, "malformed-json", [{"pointer": "#/url", "detail": "is there twice"}]),
        ("[]", "application/json", "malformed-request", []),
        ("{", FORM, "malformed-json", []),
        ("x", "multipart/form-data; boundary=x", "unsupported-media-type", []),
        (f"task.url={URL}", FORM + "; charset=utf-16", "unsupported-media-type", []),
        (
            "task.url=%ff",
            FORM,
            "malformed-request",
            [
                {"field": "task.url", "detail": "is not UTF-8"},
                {"field": "task.url", "detail": "is missing; every task needs one"},
            ],
        ),
    ],
)
def test_a_bad_request_is_told(body: str, content_type: str, slug: str, errors: list[dict[str, str]]) -> None:
    with pytest.raises(Problem) as caught:
        read(body, content_type)
    assert (caught.value.slug, list(caught.value.errors)) == (slug, errors)
    assert caught.value.status in (400, 415)


def test_answers_have_miyamotos_bytes() -> None:
    assert scheduled(ID) == b'{"status": "scheduled", "id": "7e998f34-bed7-44f4-80cd-49620b0ab562"}\n'
    assert duplicate(ID) == b'{"status": "duplicate", "id": "7e998f34-bed7-44f4-80cd-49620b0ab562"}\n'


def test_an_error_speaks_to_both_worlds() -> None:
    status, headers, body = error_document(Problem("unknown-queue", "No queue 'x'."), "/x")
    found = json.loads(body)
    assert (status, headers["Content-Type"]) == (404, "application/problem+json")
    assert (found["status"], found["reason"], found["type"]) == ("error", "No queue 'x'.", "/problems/unknown-queue")
    assert found["error"]["code"] == 404


def test_the_first_of_two_urls_counts() -> None:
    assert read(f"task.url={URL}&task.url=http://other.example/").url == URL
