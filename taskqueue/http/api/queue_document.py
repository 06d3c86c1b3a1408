"""Reads a queue's rules from `POST`, `PUT` and `PATCH` of `/v1/queues`, and shows a queue.

`PUT /v1/queues/emails` with `{"rate_limit": "10/s", "retry": {"max_attempts": 5}}` gives `QueueSettings("emails",
rate_limit=10.0, retry=RetrySettings(max_attempts=5))`: what is not said is the default. `PATCH` changes only what is
said, and null there means the default. The keys are those of `[http_emails]`; those of `retry` may stand outside, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from taskqueue.config.http_settings import QueueSettings, RetrySettings
from taskqueue.config.http_values import QUEUE_NAME, RESERVED_QUEUES
from taskqueue.http.api import queue_fields
from taskqueue.http.api.problems import BadField, Fault, Problem, fault_at
from taskqueue.http.api.task_document import masked
from taskqueue.http.api.task_fields import (
    RETRY_READERS,
    TIMEOUT_LIMIT_S,
    ReadingRules,
    kind_of,
    read_field,
    retry_fields,
    unknown_keys,
    whole_number,
)
from taskqueue.http.api.times import optional, read_duration

BURST_LIMIT = 1_000_000
CONCURRENCY_LIMIT = 100_000
REDIRECTS_LIMIT = 3

_READERS: Mapping[str, tuple[str, Callable[[Any, ReadingRules], Any]]] = {
    "rate_limit": ("rate_limit", lambda value, rules: queue_fields.rate(value)),
    "burst": ("burst", lambda value, rules: whole_number(value, 1, BURST_LIMIT)),
    "concurrency": ("concurrency", lambda value, rules: whole_number(value, 1, CONCURRENCY_LIMIT)),
    "timeout": ("timeout_s", lambda value, rules: read_duration(value, TIMEOUT_LIMIT_S, 0.1)),
    "target": ("target", queue_fields.target),
    "permanent_statuses": ("permanent_statuses", lambda value, rules: queue_fields.statuses(value)),
    "follow_redirects": ("follow_redirects", lambda value, rules: whole_number(value, 0, REDIRECTS_LIMIT)),
    "sign": ("sign", lambda value, rules: queue_fields.yes_or_no(value)),
    "headers": ("headers", queue_fields.header_map),
}
KEYS = (*_READERS, "retry", *RETRY_READERS)
"""All keys of a queue's document that may be written, but for `name`."""
_HINTS = {
    "rate": "did you mean rate_limit?",
    "max_retries": "say max_attempts, which counts the first one, too",
    "state": "pause and resume the queue by :pause and :resume",
}
READ_ONLY = ("source", "paused", "tasks", "oldest_ready_at", "created_at")
"""Keys that are shown, and ignored where a client sends back what it got."""


def read_queue(
    document: Any, rules: ReadingRules, *, name: str | None = None, base: QueueSettings | None = None
) -> QueueSettings:
    """The rules that `document` wants. Raises `Problem`: validation.

    `name`: the queue that the path names; None where the document must. `base`: the rules of now, for PATCH; None for
    the defaults.
    """
    if type(document) is not dict:
        raise Problem("validation", errors=[fault_at("#", f"must be an object, and is {kind_of(document)}")])
    faults: list[Fault] = []
    unknown_keys(faults, "#", [key for key in document if key not in READ_ONLY], ("name", *KEYS), _HINTS)
    given = document.get("name")
    if name is None:
        name = read_field(faults, "#/name", "" if given is None else given, queue_name)
    elif given not in (None, name):
        faults.append(fault_at("#/name", "must be the queue of the path, or absent"))
    start = base if base is not None else QueueSettings(name or "")
    defaults = QueueSettings(start.name)
    fields: dict[str, Any] = {}
    for key, (field, reader) in _READERS.items():
        if key in document:
            value = document[key]
            default = getattr(defaults, field)
            fields[field] = default if value is None else read_field(faults, f"#/{key}", value, reader, rules)
    fields["retry"] = _retry(document, start.retry, faults)
    if faults:
        raise Problem("validation", errors=faults)
    return replace(start, **fields)


def _retry(document: dict[str, Any], start: RetrySettings, faults: list[Fault]) -> RetrySettings:
    """The rules of retrying, from `retry` and from the same keys outside of it."""
    nested = document.get("retry")
    if nested is None and "retry" in document:
        start = RetrySettings()
    fields = retry_fields(faults, "#/retry", nested)
    outside = {key: document[key] for key in RETRY_READERS if key in document}
    for key in outside:
        if isinstance(nested, dict) and key in nested:
            faults.append(fault_at(f"#/{key}", "must not be there together with the same key in retry"))
    flat: list[Fault] = []
    fields |= retry_fields(flat, "#", outside)
    faults.extend(flat)
    nulls = {**outside, **(nested if isinstance(nested, dict) else {})}
    for key, (field, _) in RETRY_READERS.items():
        if key in nulls and nulls[key] is None:
            fields[field] = getattr(RetrySettings(), field)
    found = replace(start, **fields)
    if not faults and found.min_backoff_s > found.max_backoff_s:
        faults.append(fault_at("#/retry/min_backoff", "must not be longer than max_backoff"))
    return found


def queue_name(value: Any) -> str:
    """The name of a queue that may be made. Raises `BadField`."""
    if not isinstance(value, str) or not QUEUE_NAME.fullmatch(value):
        raise BadField("must be letters, digits, '_', '.' and '-', the first a letter or digit, at most 100")
    if value in RESERVED_QUEUES:
        raise BadField("must not be a word that the API keeps for itself")
    return value


@dataclass(frozen=True, slots=True)
class QueueState:
    """What the book knows of a queue beside its rules."""

    source: str = "api"
    """`config` or `api`."""
    paused: bool = False
    tasks: Mapping[str, int] | None = None
    """Tasks by state, as they are shown; None where they were not counted."""
    oldest_ready_ms: int | None = None
    """When the task that has waited longest for its turn was due, Unix time."""


def queue_document(settings: QueueSettings, state: QueueState) -> dict[str, Any]:
    """A queue as the API shows it. What `PUT` takes is in it under the same keys; durations are seconds."""
    retry = settings.retry
    return {
        "name": settings.name,
        "source": state.source,
        "paused": state.paused,
        "rate_limit": None if settings.rate_limit is None else queue_fields.shown_rate(settings.rate_limit),
        "burst": settings.burst,
        "concurrency": settings.concurrency,
        "timeout": settings.timeout_s,
        "target": settings.target,
        "permanent_statuses": list(settings.permanent_statuses),
        "follow_redirects": settings.follow_redirects,
        "sign": settings.sign,
        "headers": {key: masked(key, value) for key, value in settings.headers.items()},
        "retry": {
            "max_attempts": retry.max_attempts,
            "max_age": retry.max_age_s,
            "min_backoff": retry.min_backoff_s,
            "max_backoff": retry.max_backoff_s,
            "max_doublings": retry.max_doublings,
        },
        "tasks": None if state.tasks is None else dict(state.tasks),
        "oldest_ready_at": optional(state.oldest_ready_ms),
    }
