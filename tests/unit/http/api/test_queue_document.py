"""Queues: what is read from POST, PUT and PATCH, and what is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.config.http_settings import HttpSettings, QueueSettings, RetrySettings
from taskqueue.config.http_values import RESERVED_QUEUES
from taskqueue.http.api.problems import Problem
from taskqueue.http.api.queue_document import QueueState, queue_document, read_queue
from taskqueue.http.api.queue_fields import rate, shown_rate
from taskqueue.http.api.target_rules import reading_rules

RULES = reading_rules(HttpSettings())
ALL = QueueSettings(
    "emails", 10.0, 20, 50, 5.0, "https://mail.example/hooks/", (404, 410), 2, True, {"X-A": "b"},
    RetrySettings(5, 3600.0, 1.0, 60.0, 3),
)  # fmt: skip
DOCUMENT: dict[str, Any] = {
    "rate_limit": "10/s", "burst": 20, "concurrency": 50, "timeout": "5s", "target": "https://mail.example/hooks/",
    "permanent_statuses": [410, 404, 410], "follow_redirects": 2, "sign": True, "headers": {"X-A": "b"},
    "retry": {"max_attempts": 5, "max_age": "1h", "min_backoff": 1, "max_backoff": "1m", "max_doublings": 3},
}  # fmt: skip


def test_all_keys() -> None:
    assert read_queue({"name": "emails", **DOCUMENT}, RULES) == ALL
    assert read_queue(DOCUMENT, RULES, name="emails") == ALL


def test_the_rules_of_retrying_may_stand_outside() -> None:
    flat = {key: value for key, value in DOCUMENT.items() if key != "retry"} | DOCUMENT["retry"]
    assert read_queue(flat, RULES, name="emails") == ALL


def test_put_takes_the_defaults_for_the_rest() -> None:
    assert read_queue({}, RULES, name="emails") == QueueSettings("emails")
    assert read_queue({"burst": 5}, RULES, name="emails") == QueueSettings("emails", burst=5)


def test_patch_changes_only_what_is_said() -> None:
    def patch(**document: Any) -> QueueSettings:
        return read_queue(document, RULES, name="emails", base=ALL)

    assert patch() == ALL
    assert patch(burst=5) == replace(ALL, burst=5)
    assert patch(rate_limit=None, timeout=None) == replace(ALL, rate_limit=None, timeout_s=30.0)
    assert patch(retry={"max_age": None, "max_attempts": 7}) == replace(ALL, retry=RetrySettings(7, None, 1.0, 60.0, 3))
    assert patch(max_attempts=None).retry == RetrySettings(None, 3600.0, 1.0, 60.0, 3)
    assert patch(retry=None).retry == RetrySettings()


def test_what_is_shown_can_be_sent_back() -> None:
    shown = queue_document(ALL, QueueState("api", True, {"ready": 3}, 0))
    assert read_queue(shown, RULES, name="emails") == ALL
    assert (shown["paused"], shown["tasks"], shown["oldest_ready_at"]) == (
        True,
        {"ready": 3},
        "1970-01-01T00:00:00.000Z",
    )
    default = queue_document(QueueSettings("q"), QueueState())
    assert read_queue(default, RULES, name="q") == QueueSettings("q")


def test_a_secret_is_hidden_and_never_taken_for_a_value() -> None:
    shown = queue_document(replace(ALL, headers={"Authorization": "Bearer hush"}), QueueState())
    assert shown["headers"] == {"Authorization": "…"}
    with pytest.raises(Problem, match="without its value; send the value"):
        read_queue(shown, RULES, name="emails")


@pytest.mark.parametrize(
    ("document", "pointer", "detail"),
    [
        ([], "#", "must be an object, and is an array"),
        ({"name": "other"}, "#/name", "must be the queue of the path, or absent"),
        ({"rate": 5}, "#/rate", "is not known; did you mean rate_limit?"),
        ({"rate_limit": 0}, "#/rate_limit", "must be more than 0; pause the queue to stop it, null is no limit"),
        ({"rate_limit": "10"}, "#/rate_limit",
         'must be a number per second, or a rate such as "10/s", "600/m" or "5000/h"'),
        ({"rate_limit": 1e9}, "#/rate_limit", "must be at most 100,000/s; null is no limit"),
        ({"rate_limit": True}, "#/rate_limit",
         'must be a number per second, or a rate such as "10/s", "600/m" or "5000/h"'),
        ({"burst": 0}, "#/burst", "must be a whole number from 1 to 1000000"),
        ({"concurrency": "5"}, "#/concurrency", "must be a whole number from 1 to 100000"),
        ({"timeout": 0}, "#/timeout", "must be from 100ms to 1d: 0"),
        ({"target": "webhook"}, "#/target", "must not be webhook; say url instead"),
        ({"target": "ftp://x/"}, "#/target", "has the scheme ftp; expected http or https"),
        ({"target": "https://x/#a"}, "#/target", "must not have a fragment"),
        ({"permanent_statuses": [200]}, "#/permanent_statuses", "must have HTTP statuses from 300 to 599"),
        ({"permanent_statuses": 410}, "#/permanent_statuses", "must be an array of HTTP statuses, and is a number"),
        ({"sign": "yes"}, "#/sign", "must be true or false, and is a text"),
        ({"headers": {"Host": "x"}}, "#/headers", "has a bad header: Host a task may not set it; leave it out"),
        ({"headers": {"A": "x", "a": "y"}}, "#/headers", "must have each header once"),
        ({"retry": {"min_backoff": "2h"}}, "#/retry/min_backoff", "must not be longer than max_backoff"),
        ({"retry": {"max_age": 1}, "max_age": 1}, "#/max_age",
         "must not be there together with the same key in retry"),
    ],
)  # fmt: skip
def test_a_bad_rule_is_told(document: Any, pointer: str, detail: str) -> None:
    with pytest.raises(Problem) as caught:
        read_queue(document, RULES, name="emails")
    assert list(caught.value.errors) == [{"pointer": pointer, "detail": detail}]


@pytest.mark.parametrize("name", ["", "-x", "a b", "x" * 101, "ü", None, 5, *sorted(RESERVED_QUEUES)])
def test_a_bad_name(name: Any) -> None:
    with pytest.raises(Problem) as caught:
        read_queue({"name": name}, RULES)
    assert [each["pointer"] for each in caught.value.errors] == ["#/name"]


@pytest.mark.parametrize(
    ("value", "per_second", "shown"),
    [(10, 10, "10/s"), ("600/m", 10, "10/s"), ("5000/h", 5000 / 3600, "5000/h"), ("1/d", 1 / 86400, "1/d"),
     (0.5, 0.5, "30/m"), ("2.5 / s", 2.5, "150/m")],
)  # fmt: skip
def test_a_rate(value: Any, per_second: float, shown: str) -> None:
    assert rate(value) == pytest.approx(per_second)
    assert shown_rate(rate(value)) == shown


@given(st.floats(1e-5, 1e5))
def test_a_shown_rate_is_read_back(per_second: float) -> None:
    assert rate(shown_rate(per_second)) == pytest.approx(per_second, rel=1e-8)
