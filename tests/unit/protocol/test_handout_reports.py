"""Reports of hand-outs: what a listener writes a front reads, and whatever else comes is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.protocol.dead_letters import DeadReason
from taskqueue.protocol.handout_reports import (
    Event,
    HandoutReport,
    Returned,
    Slots,
    Subject,
    alive,
    begun,
    done,
    failure,
    read_report,
    retrying,
    returned,
)
from taskqueue.protocol.handouts import Handout
from taskqueue.protocol.properties import Properties
from taskqueue.protocol.results import Outcome

SUBJECT = Subject("t", Handout(7, 1, 2, "taskqueue_http_b"), 1, "host7", "webhook", Slots(400, 12))
READ = HandoutReport("t", 7, Event.BEGUN, 2, 1, "host7", "webhook", Slots(400, 12))
SUCCESS = Outcome("success", b"\xff\x00", "application/octet-stream", 3, 412.4)
FAILURE = failure("", "it broke", "Trace", 1, 0.0)


@pytest.mark.parametrize(
    ("properties", "body", "expected"),
    [
        (begun(SUBJECT), b"", {}),
        (alive(SUBJECT), b"", {"event": Event.ALIVE}),
        (returned(SUBJECT, Returned.HANDED_BACK), b"", {"event": Event.RETURNED, "returned": Returned.HANDED_BACK}),
        (retrying(SUBJECT, 1_767_323_055_000), b"", {"event": Event.RETRYING, "again_ms": 1_767_323_055_000}),
        (
            done(SUBJECT, SUCCESS),
            SUCCESS.body,
            {
                "event": Event.DONE, "status": "success", "attempt": 3, "runtime_ms": 412, "body": b"\xff\x00",
                "content_type": "application/octet-stream",
            },
        ),
        (
            done(SUBJECT, FAILURE, DeadReason.TIMEOUT),
            FAILURE.body,
            {
                "event": Event.DONE, "status": "error", "attempt": 1, "runtime_ms": 0, "error_type": "",
                "reason": DeadReason.TIMEOUT, "error": "it broke", "trace": "Trace",
            },
        ),
    ],
)  # fmt: skip
def test_what_a_listener_writes_a_front_reads(properties: Properties, body: bytes, expected: dict[str, Any]) -> None:
    assert read_report(properties, body) == READ._replace(**expected)
    assert properties.expiration is None and properties.correlation_id == properties.message_id == "t"


def test_the_headers_are_those_of_the_contract() -> None:
    assert done(SUBJECT, FAILURE, DeadReason.FAILED).headers == {
        "x-handout": 7, "x-handout-event": "done", "x-task-attempt": 2, "x-crashes": 1, "host": "host7",
        "worker_type": "webhook", "x-slots": 400, "x-slots-free": 12, "status": "error", "attempt": 1,
        "runtime_ms": 0, "error_type": "", "x-reason": "failed",
    }  # fmt: skip
    assert returned(SUBJECT, Returned.LATE).headers["x-returned"] == "late"  # type: ignore[index]
    assert retrying(SUBJECT, 5).headers["x-handout-again"] == 5  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-handout", None), ("x-handout", 0), ("x-handout", True), ("x-handout", 2**63), ("x-handout-event", "ended"),
        ("x-handout-event", ["done"]), ("x-task-attempt", 0), ("x-crashes", -1), ("x-crashes", 2**31), ("host", ""),
        ("host", "h" * 256), ("host", b"h"), ("worker_type", "a b"), ("worker_type", None), ("x-slots", "4"),
        ("x-slots-free", -1), ("status", "done"), ("status", None), ("attempt", 0), ("attempt", 1.0),
        ("runtime_ms", -1), ("runtime_ms", 10**13), ("error_type", None), ("error_type", "e" * 256),
        ("x-reason", None), ("x-reason", "expired"),
    ],
)  # fmt: skip
def test_each_header_is_checked(name: str, value: object) -> None:
    properties = done(SUBJECT, FAILURE, DeadReason.FAILED)
    with pytest.raises(ValueError, match=rf"not a report of a hand-out: {name} is .*; expected ") as raised:
        read_report(properties._replace(headers={**(properties.headers or {}), name: value}), FAILURE.body)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 250


@pytest.mark.parametrize(
    ("made", "name", "value"),
    [
        (lambda: returned(SUBJECT, Returned.LATE), "x-returned", "tired"),
        (lambda: retrying(SUBJECT, 5), "x-handout-again", 2**62),
        (lambda: retrying(SUBJECT, 5), "x-handout-again", None),
    ],
)
def test_so_is_what_only_one_event_has(made: Callable[[], Properties], name: str, value: object) -> None:
    properties = made()
    with pytest.raises(ValueError, match=name):
        read_report(properties._replace(headers={**(properties.headers or {}), name: value}), b"")


@pytest.mark.parametrize("changes", [{"message_id": None}, {"correlation_id": "u"}, {"headers": None}])
def test_so_are_the_properties(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a report of a hand-out: "):
        read_report(begun(SUBJECT)._replace(**changes), b"")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"error": "e"}', b'{"error": 1, "trace": ""}', b"[" * 100_000, b'{"error": NaN}', b"\xff"],
)
def test_so_is_the_body_of_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a report of a hand-out: ") as raised:
        read_report(done(SUBJECT, FAILURE, DeadReason.FAILED), body)
    assert "\n" not in str(raised.value)


def test_the_texts_of_an_error_can_be_stored() -> None:
    body = failure("E", "a\udc80b", "\ud800", 1, 0.0).body
    report = read_report(done(SUBJECT, FAILURE, DeadReason.FAILED), body)
    assert (report.error, report.trace) == ("a\\udc80b", "\\ud800")


@given(
    name=st.sampled_from(sorted(done(SUBJECT, FAILURE, DeadReason.FAILED).headers or {})),
    value=st.none() | st.integers() | st.text() | st.floats() | st.booleans() | st.binary() | st.lists(st.none()),
    body=st.binary(),
)
def test_nothing_but_value_error_is_raised(name: str, value: object, body: bytes) -> None:
    properties = done(SUBJECT, FAILURE, DeadReason.FAILED)
    try:
        read_report(properties._replace(headers={**(properties.headers or {}), name: value}), body)
    except ValueError as error:
        assert "\n" not in str(error)
