"""What a native task's document becomes, and every fault of a bad one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from taskqueue.config.http_settings import HttpSettings, QueueSettings
from taskqueue.http.api.json_reading import read_json
from taskqueue.http.api.native_task import read_task
from taskqueue.http.api.problems import Problem
from taskqueue.http.api.target_rules import reading_rules
from taskqueue.http.task_spec import RetryOverride, TaskSpec

RULES = reading_rules(HttpSettings())
NOW_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""
OPEN = QueueSettings("emails")
TO_URL = QueueSettings("emails", target="https://mail.example/hooks/")
TO_ORIGIN = QueueSettings("emails", target="https://mail.example")
TO_WORKER = QueueSettings("emails", target="primes")
URL = "https://example.com/x"
JSON = ("Content-Type", "application/json")


def read(document: Any, queue: QueueSettings = OPEN) -> TaskSpec:
    return read_task(document, queue, RULES, NOW_MS)


def faults(document: Any, queue: QueueSettings = OPEN) -> list[tuple[str, str]]:
    with pytest.raises(Problem) as caught:
        read(document, queue)
    assert (caught.value.slug, caught.value.status) == ("validation", 422)
    return [(each["pointer"], each["detail"]) for each in caught.value.errors]


def test_all_keys_at_once() -> None:
    document = {
        "url": URL,
        "method": "put",
        "headers": {"X-A": "1", "X-B": ["2", "3"]},
        "json": {"to": "ü", "n": 12345678901234567890123},
        "at": "2026-01-01T01:00:05.5+01:00",
        "expires": "2026-01-02T00:00:00Z",
        "timeout": "1.5s",
        "name": "welcome 7",
        "retry": {
            "max_attempts": -1,
            "max_age": "1h",
            "min_backoff": "100ms",
            "max_backoff": 60,
            "max_doublings": 3,
        },
        "tags": ["a", "b", "a"],
        "callback_url": "http://example.com/done",
        "dedup": {"by": "user-7", "window": "5m"},
    }
    assert read(document) == TaskSpec(
        "emails",
        url=URL,
        method="PUT",
        headers=(("X-A", "1"), ("X-B", "2"), ("X-B", "3"), JSON),
        body='{"to":"ü","n":12345678901234567890123}'.encode(),
        at_ms=NOW_MS + 5500,
        expires_at_ms=NOW_MS + 86_400_000,
        timeout_s=1.5,
        name="welcome 7",
        retry=RetryOverride(-1, 3600.0, 0.1, 60.0, 3),
        tags=("a", "b"),
        callback_url="http://example.com/done",
        dedup_key="key:user-7",
        dedup_window_s=300.0,
    )


@pytest.mark.parametrize(
    ("keys", "body", "headers"),
    [
        ({}, b"", ()),
        ({"body": "hü"}, "hü".encode(), ()),
        ({"body": ""}, b"", ()),
        ({"body": None}, b"", ()),
        ({"json": None}, b"null", (JSON,)),
        ({"json": [1, {"a": "b"}]}, b'[1,{"a":"b"}]', (JSON,)),
        ({"json": 1, "headers": {"content-TYPE": "application/x"}}, b"1", (("content-TYPE", "application/x"),)),
        (
            {"form": {"a": "b c", "n": 1, "yes": True, "no": None, "l": ["x", 2.5]}},
            b"a=b+c&n=1&yes=true&no=&l=x&l=2.5",
            (("Content-Type", "application/x-www-form-urlencoded"),),
        ),
        ({"body_base64": "AP8="}, b"\x00\xff", ()),
        ({"body_base64": "_-8"}, b"\xff\xef", ()),
    ],
)
def test_a_body_for_a_url(keys: dict[str, Any], body: bytes, headers: tuple[tuple[str, str], ...]) -> None:
    spec = read({"url": URL, **keys})
    assert (spec.body, spec.headers) == (body, headers)


@pytest.mark.parametrize(
    ("keys", "body", "content_type"),
    [
        ({}, b"null", "application/json"),
        ({"json": 360}, b"360", "application/json"),
        ({"body": "360"}, b"360", "text/plain"),
        ({"body_base64": "AP8="}, b"\x00\xff", "application/octet-stream"),
    ],
)
def test_a_body_for_a_worker_type(keys: dict[str, Any], body: bytes, content_type: str) -> None:
    spec = read({"worker_type": "primes", **keys})
    assert spec == TaskSpec("emails", worker_type="primes", body=body, headers=(("Content-Type", content_type),))


@pytest.mark.parametrize(
    ("queue", "document", "url"),
    [
        (TO_URL, {"url": "welcome?x=1"}, "https://mail.example/hooks/welcome?x=1"),
        (TO_URL, {"url": "/welcome"}, "https://mail.example/hooks/welcome"),
        (TO_URL, {}, "https://mail.example/hooks/"),
        (TO_ORIGIN, {"url": "a/b"}, "https://mail.example/a/b"),
        (TO_ORIGIN, {"url": ".evil.example/"}, "https://mail.example/.evil.example/"),
        (TO_ORIGIN, {"url": "@evil.example/"}, "https://mail.example/@evil.example/"),
        (replace(TO_URL, target="https://mail.example/h?id="), {"url": "7"}, "https://mail.example/h?id=7"),
        (TO_URL, {"url": "a?u=http://x/../y"}, "https://mail.example/hooks/a?u=http://x/../y"),
    ],
)
def test_a_queues_target_url_is_joined(queue: QueueSettings, document: dict[str, Any], url: str) -> None:
    assert read(document, queue).url == url


PATH_ONLY = "must be a path: it is joined to the target URL of this queue"
DOTS = "must not have '.' or '..' as a segment: it would leave the target URL of this queue"


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("https://evil.example/", PATH_ONLY),
        ("HTTP:x", PATH_ONLY),
        ("//evil.example/", PATH_ONLY),
        ("\\\\evil.example/", PATH_ONLY),
        ("/\\evil.example/", PATH_ONLY),
        ("../admin", DOTS),
        ("a/%2E./b", DOTS),
        ("a/..", DOTS),
        ("a/..#x", DOTS),
        (7, "must be a path, and is a number"),
    ],
)
def test_a_task_cannot_leave_its_queues_target(path: Any, detail: str) -> None:
    assert faults({"url": path}, TO_URL) == [("#/url", detail)]


def test_a_queue_for_a_worker_type() -> None:
    assert read({"json": 1}, TO_WORKER).worker_type == "primes"
    assert read({"worker_type": "primes"}, TO_WORKER).worker_type == "primes"
    assert faults({"worker_type": "other"}, TO_WORKER) == [
        ("#/worker_type", "must be primes, the target of this queue, or absent")
    ]
    assert faults({"url": URL}, TO_WORKER) == [
        ("#/url", "must not be there: all tasks of this queue are for worker type primes")
    ]
    assert faults({"worker_type": "primes"}, TO_URL) == [
        ("#/worker_type", "must not be there: all tasks of this queue go to its target URL")
    ]


BAD: list[tuple[Any, list[tuple[str, str]]]] = [
    ([], [("#", "must be an object, and is an array")]),
    ({}, [("#/url", "is missing; say url, or worker_type for a plugin")]),
    ({"url": None}, [("#/url", "is missing; say url, or worker_type for a plugin")]),
    ({"url": 5}, [("#/url", "must be a text, and is a number")]),
    ({"url": "ftp://x/"}, [("#/url", "has the scheme ftp; expected http or https")]),
    ({"url": "/relative"}, [("#/url", "is not absolute; expected http://… or https://…")]),
    ({"url": URL, "worker_type": "t"}, [("#/url", "must not be there together with worker_type")]),
    ({"worker_type": "webhook"}, [("#/worker_type", "must not be webhook; say url instead")]),
    (
        {"worker_type": "t", "method": "GET", "form": {}},
        [
            ("#/form", "must not be there for a worker type; use json or body"),
            ("#/method", "must not be there for a worker type"),
        ],
    ),
    ({"url": URL, "metod": "GET"}, [("#/metod", "is not known; did you mean method?")]),
    ({"url": URL, "countdown": 5}, [("#/countdown", "is not known; say delay")]),
    ({"url": URL, "method": "TRACE"}, [("#/method", "must be one of POST, GET, PUT, PATCH, DELETE, HEAD, OPTIONS")]),
    ({"url": URL, "method": "GET", "body": "x"}, [("#/method", "must not be GET for a task with a body")]),
    ({"url": URL, "json": 1, "body": "x"}, [("#/json", "must not be there together with body")]),
    ({"url": URL, "json": 1e999}, [("#/json", "has a number that no JSON reader has room for, such as 1e999; "
                                   "send it as a text")]),
    ({"url": URL, "body": {}}, [("#/body", "must be a text, and is an object; use json for any JSON value")]),
    ({"url": URL, "body_base64": "?"}, [("#/body_base64", "is not base64 (RFC 4648)")]),
    ({"url": URL, "form": {"a": {}}}, [("#/form", "must have texts and numbers as values; 'a' has an object")]),
    ({"url": URL, "headers": {"X": 5}}, [("#/headers", "must have texts as values; 'X' has a number")]),
    (
        {"url": URL, "headers": {"Host": "x", "X-A": "ok", "X-B": "a\r\nY: b"}},
        [
            ("#/headers/Host", "a task may not set it; leave it out"),
            ("#/headers/X-B", "its value has control characters, as a line break is one"),
        ],
    ),
    ({"url": URL, "delay": -1}, [("#/delay", "must be from 0s to 31d: -1")]),
    ({"url": URL, "delay": True}, [("#/delay", 'must be seconds, or a duration such as "5s", "2m", "1.5h" or "3d"')]),
    ({"url": URL, "delay": float("inf")}, [("#/delay", "must be from 0s to 31d: inf")]),
    ({"url": URL, "delay": 1, "at": "2026-01-01T00:00:00Z"}, [("#/delay", "must not be there together with at")]),
    ({"url": URL, "at": 1767225600}, [("#/at", 'must be a time such as "2026-12-24T18:00:00Z"')]),
    (
        {"url": URL, "at": "2026-02-01T00:00:00.001Z"},
        [("#/at", "must not be later than 2026-02-01T00:00:00.000Z: no task waits longer")],
    ),
    (
        {"url": URL, "delay": "10s", "expires": "5s"},
        [("#/expires", "must be later than the time when the task is due")],
    ),
    (
        {"url": URL, "expires": "2025-12-31T00:00:00Z"},
        [("#/expires", "must be later than the time when the task is due")],
    ),
    ({"url": URL, "timeout": 0}, [("#/timeout", "must be from 100ms to 1d: 0")]),
    ({"url": URL, "name": ""}, [("#/name", "must have 1 to 500 characters, and has 0")]),
    ({"url": URL, "name": "a\x00b"}, [("#/name", "must not have control characters")]),
    ({"url": URL, "tags": ["a", ""]}, [("#/tags", "must have 1 to 100 characters, and has 0")]),
    ({"url": URL, "callback_url": "x"}, [("#/callback_url", "is not absolute; expected http://… or https://…")]),
    (
        {"url": URL, "retry": {"max_attempts": 0, "max_agee": 1, "min_backoff": 9, "max_backoff": 3}},
        [
            ("#/retry/max_agee", "is not known; did you mean max_age?"),
            ("#/retry/max_attempts", "must be a whole number from 1 to 1000000, or -1 for any number of attempts"),
            ("#/retry/min_backoff", "must not be longer than max_backoff"),
        ],
    ),
    ({"url": URL, "retry": 5}, [("#/retry", "must be an object, and is a number")]),
    ({"url": URL, "dedup": {"window": 5}}, [("#/dedup/by", 'is missing; say "content", or a key of your own')]),
    ({"url": URL, "dedup": {"by": 5}}, [("#/dedup/by", "must be a text, and is a number")]),
]  # fmt: skip


@pytest.mark.parametrize(("document", "expected"), BAD)
def test_every_fault_has_its_pointer(document: Any, expected: list[tuple[str, str]]) -> None:
    assert faults(document) == expected


def test_all_faults_are_told_at_once() -> None:
    found = faults({"metod": "GET", "delay": "soon", "json": 1, "body": "", "name": 5, "tags": "a"})
    assert [pointer for pointer, _ in found] == ["#/metod", "#/url", "#/json", "#/delay", "#/name", "#/tags"]


def test_no_value_of_a_header_is_told() -> None:
    with pytest.raises(Problem) as caught:
        read({"url": URL, "headers": {"Authorization": "Bearer hush\n"}})
    assert "hush" not in str(caught.value) + str(caught.value.errors)


def test_equal_contents_have_one_key() -> None:
    def key(**more: Any) -> str | None:
        return read({"url": URL, "dedup": "content", **more}).dedup_key

    first = key(headers={"A": "1", "B": "2"}, body="x")
    assert first is not None and first.startswith("content:")
    assert first == key(headers={"b": "2", "a": "1"}, body="x", delay=5, tags=["t"])
    others = [key(body="x"), key(headers={"A": "1", "B": "2"}, body="y"), key(headers={"A": "12"}, body="x")]
    assert len({first, *others}) == 4
    assert read({"url": URL, "dedup": "content"}).dedup_window_s == 600.0


def test_a_key_of_ones_own_is_never_a_hash() -> None:
    content = read({"url": URL, "dedup": "content"}).dedup_key
    assert read({"url": URL, "dedup": {"by": content}}).dedup_key == f"key:{content}"


def test_from_bytes_to_a_task() -> None:
    body = b'{"worker_type": "primes", "body": "360"}'
    assert read(read_json(body)).headers == (("Content-Type", "text/plain"),)
