"""What a report of a listener means for its task: an event for the book. Pure.

    begun, alive        the attempt lasts: nobody looks for three minutes
    retrying            its plugin tries it again itself, at a time that the report has
    returned            given back, uncounted; late, or its worker crashed, or its host stopped
    done                a webhook's answer, or the value or error of a worker type

A webhook worker says what the request gave (`outcome`). Which of that is a success is decided here; whether a failure
is one for good also depends on the rules of the queue, which the book has (`settling`).
"""

from __future__ import annotations

import base64
import json
from typing import Any

from taskqueue.http.book.events import Event, Lasts, Outcome, Returned
from taskqueue.http.book.rows import WEBHOOK
from taskqueue.http.book.watching import SILENT_MS
from taskqueue.protocol.handout_reports import Event as Told
from taskqueue.protocol.handout_reports import HandoutReport
from taskqueue.protocol.handout_reports import Returned as Why

OUTCOMES = frozenset({"answered", "timeout", "connect", "dns", "tls", "denied", "deferred", "late", "crashed", "error"})
"""What a webhook worker may say."""
_ERROR_LIMIT = 2_000
"""Characters of an error that are kept."""
_VALUE_LIMIT = 64 * 1024
"""Bytes of a worker type's value that are kept; of a webhook, `keep_response` says."""
_DEFERRED_MS = 500


def event_of(report: HandoutReport, keep_response_bytes: int, now_ms: int) -> Event:
    """The event of a report; `now_ms` by the book's clock. Raises `ValueError` for one that makes no sense."""
    if report.event in {Told.BEGUN, Told.ALIVE}:
        return Lasts(report.task_id, report.number, now_ms + SILENT_MS)
    if report.event is Told.RETRYING:
        return Lasts(report.task_id, report.number, max(now_ms, report.again_ms or now_ms) + SILENT_MS)
    if report.event is Told.RETURNED:
        assert report.returned is not None
        started = report.returned is not Why.LATE
        return Returned(report.task_id, report.number, report.crashes, started, why=report.returned.value)
    if report.worker_type == WEBHOOK and report.status == "success":
        return _webhook(report, keep_response_bytes, now_ms)
    return _worker_type(report, now_ms)


def _worker_type(report: HandoutReport, now_ms: int) -> Outcome:
    success = report.status == "success"
    record: dict[str, Any] = {
        "attempt": report.task_attempt,
        "at_ms": now_ms - (report.runtime_ms or 0),
        "outcome": "succeeded" if success else "crashed" if report.reason == "crashed" else "error",
        "status": None,
        "error": None,
        "duration_s": round((report.runtime_ms or 0) / 1000, 3),
        "host": report.host,
    }
    result: dict[str, Any] | None = None
    if success:
        result = {"value": _value(report.content_type, report.body)}
    else:
        kind = f"{report.error_type}: " if report.error_type else ""
        record |= {"error": f"{kind}{report.error}"[:_ERROR_LIMIT], "trace": report.trace[-_ERROR_LIMIT:]}
    lasting = {"rejected": "rejected", "malformed": "malformed", "crashed": "crashed"}
    return Outcome(
        report.task_id, report.number, report.task_attempt, success, record, result,
        dead_reason=None if success else lasting.get(report.reason or ""),
        failed_reason=report.reason or "failed", crashes=report.crashes,
    )  # fmt: skip


def _webhook(report: HandoutReport, keep_bytes: int, now_ms: int) -> Event:
    said = json.loads(report.body)
    if not isinstance(said, dict) or said.get("outcome") not in OUTCOMES:
        raise ValueError("a webhook worker reported no outcome that is known")
    outcome = said["outcome"]
    if outcome == "late":
        return Returned(report.task_id, report.number, report.crashes, started=False, why="late")
    if outcome == "deferred":
        after_ms = int(_number(said.get("wait_s"), _DEFERRED_MS / 1000) * 1000)
        return Returned(report.task_id, report.number, report.crashes, False, min(after_ms, 60_000), "deferred")
    status = said.get("status") if isinstance(said.get("status"), int) else None
    answered = outcome == "answered" and status is not None
    success = answered and status is not None and 200 <= status < 300
    answer = {key: said[key] for key in ("headers", "body", "body_base64", "truncated") if said.get(key)}
    if "body" in answer:
        answer["body"] = answer["body"].encode()[:keep_bytes].decode("utf-8", "ignore")
    started_s = _number(said.get("started_at"), now_ms / 1000)
    record = {
        "attempt": report.task_attempt,
        "at_ms": int(started_s * 1000),
        "outcome": outcome,
        "status": status,
        "error": _text(said.get("error")),
        "duration_s": round(_number(said.get("duration_s"), 0.0), 3),
        "address": _text(said.get("address")),
        "host": report.host,
        **answer,
    }
    result = {"status": status, **answer} if answered else None
    dead = None
    if outcome == "denied":
        dead = "target-denied"
    elif said.get("permanent"):
        dead = "malformed"
    elif answered and not success and said.get("no_retry"):
        dead = "gone"
    retry_after_s = None if said.get("retry_after_s") is None else _number(said["retry_after_s"], 0.0)
    return Outcome(
        report.task_id, report.number, report.task_attempt, success, record, result, answered=answered,
        dead_reason=dead,
        retry_after_s=retry_after_s, rests=status in {429, 503} and retry_after_s is not None,
        failing=outcome in {"timeout", "connect", "dns", "tls"} or status == 429 or (status or 0) >= 500,
        crashes=report.crashes,
    )  # fmt: skip


def _value(content_type: str | None, body: bytes) -> Any:
    """A worker type's value, as the API shows it: JSON as it is, text as text, other bytes as base64."""
    if len(body) > _VALUE_LIMIT:
        return None
    media = (content_type or "").partition(";")[0].strip().lower()
    if media == "application/json":
        return json.loads(body)
    if media == "text/plain":
        return body.decode("utf-8", "replace")
    return base64.b64encode(body).decode()


def _number(value: object, default: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        return default
    return float(value)


def _text(value: object) -> str | None:
    return value[:_ERROR_LIMIT] if isinstance(value, str) else None
