"""When a failed task is tried again, by the rules of Google Cloud Tasks (design-http, section 5). Pure.

With `min_backoff` 10 s, `max_backoff` 300 s and `max_doublings` 3 the waits are 10, 20, 40, 80, 160, 240, 300, 300 …
seconds: doubled three times, then longer by the same 80 s each time, then capped. A jitter of 20 % comes on top.
"""

from __future__ import annotations

import random
from dataclasses import replace

from taskqueue.config.http_settings import RetrySettings
from taskqueue.http.task_spec import RetryOverride

_JITTER = 0.2
_LONGEST_AFTER_S = 3600.0
"""Seconds of a `Retry-After` that are kept at most."""
_ATTEMPTS_OF_URL, _ATTEMPTS_OF_WORKER_TYPE = 100, 1
UNLIMITED = -1
"""`max_attempts` for any number."""


def effective(queue: RetrySettings, task: RetryOverride | None, *, worker_type: bool) -> RetrySettings:
    """The rules of one task: its own, else its queue's. The plugin of a worker type has its own retries, so that
    `max_attempts` is 1 there unless somebody says otherwise."""
    rules = queue
    if task is not None:
        own = {key: value for key in RetryOverride.__slots__ if (value := getattr(task, key)) is not None}
        rules = replace(queue, **own)
    if rules.max_attempts is None:
        rules = replace(rules, max_attempts=_ATTEMPTS_OF_WORKER_TYPE if worker_type else _ATTEMPTS_OF_URL)
    return rules


def gives_up(rules: RetrySettings, attempts: int, age_s: float) -> bool:
    """Whether there is no other attempt after `attempts`; `age_s` is since the first one began.

    Both limits must be over. One that is not set does not count, and without any it never gives up.
    """
    limits = []
    if rules.max_attempts not in {None, UNLIMITED}:
        assert rules.max_attempts is not None
        limits.append(attempts >= rules.max_attempts)
    if rules.max_age_s is not None:
        limits.append(age_s >= rules.max_age_s)
    return bool(limits) and all(limits)


def backoff_s(rules: RetrySettings, attempts: int) -> float:
    """Seconds to wait after failed attempt number `attempts`, without jitter."""
    doubled = min(attempts - 1, rules.max_doublings, 64)
    wait_s = rules.min_backoff_s * 2.0**doubled
    if attempts - 1 > doubled:
        wait_s *= attempts - doubled
    return min(wait_s, rules.max_backoff_s)


def wait_s(rules: RetrySettings, attempts: int, retry_after_s: float | None) -> float:
    """Seconds until the next attempt: the back-off with jitter, and never sooner than the target asked for."""
    wait = backoff_s(rules, attempts) * random.uniform(1 - _JITTER, 1 + _JITTER)
    return max(wait, min(retry_after_s or 0.0, _LONGEST_AFTER_S))
