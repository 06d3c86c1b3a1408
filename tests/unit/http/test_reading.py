"""What the reports of listeners mean for the book."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskqueue.http.book.events import Lasts, Outcome, Returned
from taskqueue.http.book.watching import SILENT_MS
from taskqueue.http.delivery.reading import event_of
from taskqueue.protocol.dead_letters import DeadReason
from taskqueue.protocol.handout_reports import Event, HandoutReport, Slots
from taskqueue.protocol.handout_reports import Returned as Why

NOW_MS = 1_767_323_045_000


def report(event: Event = Event.DONE, worker_type: str = "webhook", **fields: Any) -> HandoutReport:
    if event is Event.DONE:
        fields = {"status": "success", "attempt": 1, "runtime_ms": 120, "content_type": "application/json", **fields}
    return HandoutReport("t", 3, event, 2, 1, "host7", worker_type, Slots(200, 100), **fields)


def webhook(**said: Any) -> Any:
    answer = {"outcome": "answered", "status": 200, "duration_s": 0.1234, "started_at": 1_767_323_044.5, **said}
    return event_of(report(body=json.dumps(answer).encode()), 10, NOW_MS)


def test_what_lasts_is_silent_for_three_minutes_at_most() -> None:
    for event in (Event.BEGUN, Event.ALIVE):
        assert event_of(report(event), 10, NOW_MS) == Lasts("t", 3, NOW_MS + SILENT_MS)
    again = event_of(report(Event.RETRYING, again_ms=NOW_MS + 60_000), 10, NOW_MS)
    assert again == Lasts("t", 3, NOW_MS + 60_000 + SILENT_MS), "counted from when its plugin runs it again"


@pytest.mark.parametrize(("why", "started"), [(Why.LATE, False), (Why.CRASHED, True), (Why.REDELIVERED, True)])
def test_what_comes_back_late_was_not_started(why: Why, started: bool) -> None:
    assert event_of(report(Event.RETURNED, returned=why), 10, NOW_MS) == Returned("t", 3, 1, started, why=why.value)


def test_an_answer_of_2xx_is_a_success_and_its_body_is_cut() -> None:
    event = webhook(body="ä" * 20, headers=[["X", "1"]], address="192.0.2.7")
    assert isinstance(event, Outcome) and event.success and event.answered and event.attempt == 2
    assert event.result == {"status": 200, "headers": [["X", "1"]], "body": "ääääa"[:4] + "ä"}
    assert event.record["address"] == "192.0.2.7" and event.record["at_ms"] == 1_767_323_044_500
    assert event.record["duration_s"] == 0.123


@pytest.mark.parametrize(
    ("said", "answered", "dead", "failing", "rests"),
    [
        ({"status": 500}, True, None, True, False),
        ({"status": 404}, True, None, False, False),
        ({"status": 429, "retry_after_s": 7}, True, None, True, True),
        ({"status": 503, "retry_after_s": 7}, True, None, True, True),
        ({"status": 503}, True, None, True, False),
        ({"status": 400, "no_retry": True}, True, "gone", False, False),
        ({"outcome": "timeout", "status": None}, False, None, True, False),
        ({"outcome": "dns", "status": None}, False, None, True, False),
        ({"outcome": "denied", "status": None}, False, "target-denied", False, False),
        ({"outcome": "error", "status": None, "permanent": True}, False, "malformed", False, False),
        ({"outcome": "error", "status": None}, False, None, False, False),
    ],
)
def test_what_is_no_success(said: dict[str, Any], answered: bool, dead: str | None, failing: bool, rests: bool) -> None:
    event = webhook(**said)
    assert not event.success
    assert (event.answered, event.dead_reason, event.failing, event.rests) == (answered, dead, failing, rests)


def test_late_and_deferred_are_no_attempts() -> None:
    assert webhook(outcome="late") == Returned("t", 3, 1, started=False, why="late")
    assert webhook(outcome="deferred", wait_s=0.5) == Returned("t", 3, 1, False, 500, "deferred")
    assert webhook(outcome="deferred", wait_s=1e9).after_ms == 60_000


@pytest.mark.parametrize("said", [b"[]", b"{}", b'{"outcome": "fine"}', b"{"])
def test_what_is_not_understood_raises(said: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        event_of(report(body=said), 10, NOW_MS)


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("application/json", b"[2, 2, 3]", [2, 2, 3]),
        ("text/plain", "ä".encode(), "ä"),
        ("application/octet-stream", b"\0\1", "AAE="),
        ("application/json", b" " * 100_000, None),
    ],
)
def test_the_value_of_a_worker_type(content_type: str, body: bytes, value: Any) -> None:
    event = event_of(report(worker_type="primes", content_type=content_type, body=body), 10, NOW_MS)
    assert isinstance(event, Outcome) and event.success and event.result == {"value": value}


@pytest.mark.parametrize(
    ("reason", "dead"),
    [
        (DeadReason.FAILED, None), (DeadReason.TIMEOUT, None), (DeadReason.REJECTED, "rejected"),
        (DeadReason.MALFORMED, "malformed"), (DeadReason.CRASHED, "crashed"),
    ],
)  # fmt: skip
def test_the_error_of_a_worker_type(reason: DeadReason, dead: str | None) -> None:
    failed = report(
        worker_type="primes", status="error", reason=reason, error_type="ValueError", error="no", trace="Traceback"
    )
    event = event_of(failed, 10, NOW_MS)
    assert isinstance(event, Outcome) and not event.success
    assert (event.dead_reason, event.failed_reason) == (dead, reason)
    assert event.record["error"] == "ValueError: no" and event.record["trace"] == "Traceback"
