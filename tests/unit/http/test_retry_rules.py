"""Google's rules of retrying, as a table of cases."""

from __future__ import annotations

import pytest

from taskqueue.config.http_settings import RetrySettings
from taskqueue.http.retry_rules import UNLIMITED, backoff_s, effective, gives_up, wait_s
from taskqueue.http.task_spec import RetryOverride


@pytest.mark.parametrize(
    ("least", "most", "doublings", "waits"),
    [
        (10, 300, 3, [10, 20, 40, 80, 160, 240, 300, 300]),
        (0.1, 3600, 16, [0.1, 0.2, 0.4, 0.8, 1.6]),
        (5, 5, 16, [5, 5, 5]),
        (1, 100, 0, [1, 2, 3, 4]),
        (0, 3600, 16, [0, 0, 0]),
    ],
)
def test_the_waits(least: float, most: float, doublings: int, waits: list[float]) -> None:
    rules = RetrySettings(min_backoff_s=least, max_backoff_s=most, max_doublings=doublings)
    assert [round(backoff_s(rules, attempt), 6) for attempt in range(1, len(waits) + 1)] == waits


def test_a_million_attempts_do_not_overflow() -> None:
    assert backoff_s(RetrySettings(max_doublings=64, max_backoff_s=3600), 1_000_000) == 3600


@pytest.mark.parametrize(
    ("attempts", "age_s", "done", "passed_s", "over"),
    [
        (3, None, 2, 1e9, False),
        (3, None, 3, 0, True),
        (3, 60, 3, 59, False),
        (3, 60, 2, 61, False),
        (3, 60, 3, 60, True),
        (UNLIMITED, 60, 1_000_000, 59, False),
        (UNLIMITED, 60, 1, 60, True),
        (UNLIMITED, None, 1_000_000, 1e9, False),
    ],
)
def test_both_limits_must_be_over(attempts: int, age_s: float | None, done: int, passed_s: float, over: bool) -> None:
    assert gives_up(RetrySettings(max_attempts=attempts, max_age_s=age_s), done, passed_s) is over


def test_a_tasks_own_rules_come_first_and_a_worker_types_plugin_has_its_own_retries() -> None:
    queue = RetrySettings(max_backoff_s=7)
    assert effective(queue, None, worker_type=False).max_attempts == 100
    assert effective(queue, None, worker_type=True).max_attempts == 1
    assert effective(RetrySettings(max_attempts=5), None, worker_type=True).max_attempts == 5
    own = effective(queue, RetryOverride(max_attempts=2, min_backoff_s=0.0), worker_type=False)
    assert (own.max_attempts, own.min_backoff_s, own.max_backoff_s) == (2, 0.0, 7)


def test_jitter_is_a_fifth_and_never_below_retry_after() -> None:
    rules = RetrySettings(min_backoff_s=10)
    waits = [wait_s(rules, 1, None) for _ in range(1000)]
    assert 8 <= min(waits) < 8.5 and 11.5 < max(waits) <= 12
    assert wait_s(rules, 1, 60.0) == 60.0
    assert wait_s(rules, 1, 1e9) == 3600.0, "at most an hour"
