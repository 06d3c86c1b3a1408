"""What the headers of a request mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.http.api.problems import Problem
from taskqueue.http.api.request_headers import (
    ContentType,
    Preferences,
    fingerprint,
    read_content_type,
    read_idempotency_key,
    read_prefer,
    read_trace,
    require_json,
)

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, Preferences()),
        ("wait=10", Preferences(10.0)),
        ("return=minimal, wait = 0", Preferences(0.0, True)),
        ('WAIT="5"; x=1, respond-async', Preferences(5.0)),
        ("wait=3600", Preferences(60.0)),
        ("wait=-1", Preferences()),
        ("wait=1, wait=2", Preferences(1.0)),
        ("wait=soon, return=representation", Preferences()),
        (",,;=", Preferences()),
    ],
)
def test_prefer(value: str | None, expected: Preferences) -> None:
    assert read_prefer(value) == expected


@given(st.text())
def test_any_text_as_prefer(value: str) -> None:
    read_prefer(value)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (None, None),
        ("a-1", "a-1"),
        ('"a-1"', "a-1"),
        (' "a \\"b\\" \\\\" ', 'a "b" \\'),
        ('a"b', 'a"b'),
        ('"', '"'),
        ("x" * 255, "x" * 255),
    ],
)
def test_an_idempotency_key(value: str | None, key: str | None) -> None:
    assert read_idempotency_key(value) == key


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ("", "must have 1 to 255 characters, and has 0"),
        ('""', "must have 1 to 255 characters, and has 0"),
        ("x" * 256, "must have 1 to 255 characters, and has 256"),
        ("ü", "must have printable ASCII characters only"),
        ("a\tb", "must have printable ASCII characters only"),
        ('"a', "is not a well-formed quoted text"),
        ('"a"b"', "is not a well-formed quoted text"),
        ('"a\\b"', "is not a well-formed quoted text"),
    ],
)
def test_a_bad_idempotency_key(value: str, detail: str) -> None:
    with pytest.raises(Problem) as caught:
        read_idempotency_key(value)
    assert caught.value.status == 400
    assert list(caught.value.errors) == [{"header": "Idempotency-Key", "detail": detail}]


def test_a_fingerprint_tells_requests_apart() -> None:
    requests = [
        ("POST", "/v1/queues/a/tasks", "", "application/json", b"{}"),
        ("PUT", "/v1/queues/a/tasks", "", "application/json", b"{}"),
        ("POST", "/v1/queues/b/tasks", "", "application/json", b"{}"),
        ("POST", "/v1/queues/a/tasks", "url=x", "application/json", b"{}"),
        ("POST", "/v1/queues/a/tasks", "", "", b"application/json{}"),
        ("POST", "/v1/queues/a/tasks", "", "application/json", b"{ }"),
    ]
    assert len({fingerprint(*each) for each in requests}) == len(requests)
    assert fingerprint(*requests[0]) == fingerprint(*requests[0])


@pytest.mark.parametrize(
    ("parent", "state", "expected"),
    [
        (PARENT, None, (("traceparent", PARENT),)),
        (PARENT, "a=1,b=2", (("traceparent", PARENT), ("tracestate", "a=1,b=2"))),
        (PARENT, "a\nb", (("traceparent", PARENT),)),
        ("cc" + PARENT[2:] + "-more", None, (("traceparent", "cc" + PARENT[2:] + "-more"),)),
        (None, "a=1", ()),
        (PARENT + "-more", None, ()),
        ("ff" + PARENT[2:], None, ()),
        (PARENT.upper(), None, ()),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None, ()),
        (f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01", None, ()),
        (PARENT + "\r\nX: y", None, ()),
    ],
)
def test_trace_context(parent: str | None, state: str | None, expected: tuple[tuple[str, str], ...]) -> None:
    assert read_trace(parent, state) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ContentType("", None)),
        ("Application/JSON; charset=UTF-8", ContentType("application/json", "utf-8")),
        ('text/plain;a=b ; Charset="latin-1"', ContentType("text/plain", "latin-1")),
        ("nonsense", ContentType("", None)),
    ],
)
def test_content_type(value: str | None, expected: ContentType) -> None:
    assert read_content_type(value) == expected


@pytest.mark.parametrize(
    "value", [None, "", "application/json", "application/json;charset=utf-8", "application/ld+json",
              "application/x-www-form-urlencoded", "text/plain; charset=us-ascii"]
)  # fmt: skip
def test_json_is_taken(value: str | None) -> None:
    require_json(value)


@pytest.mark.parametrize(
    "value", ["application/json; charset=utf-16", "application/xml", "multipart/form-data", "image/png"]
)
def test_anything_else_is_not_taken_as_json(value: str) -> None:
    with pytest.raises(Problem) as caught:
        require_json(value)
    assert (caught.value.slug, caught.value.status) == ("unsupported-media-type", 415)
