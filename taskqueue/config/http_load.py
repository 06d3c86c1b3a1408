"""The settings of the HTTP half, of sections that are checked.

`[http]` with `queues: emails, reports` and `[http_emails]` with `rate_limit: 10/s` give two `QueueSettings`: `emails`
with that rate, and `reports` with the defaults. This module must never read a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskqueue.config.http_keys import HTTP, HTTP_QUEUE, SCHEDULE, http_kind_of, queue_of, schedule_of
from taskqueue.config.http_settings import HttpSettings, QueueSettings, RetrySettings, ScheduleSettings
from taskqueue.config.settings import FIELD_OF_KEY

_RETRY = ("max_attempts", "max_age", "min_backoff", "max_backoff", "max_doublings")


def http_settings(values: Mapping[str, Mapping[str, Any]]) -> HttpSettings:
    """The settings of [http], and of all queues and schedules; `values` are those in force, by section and key."""
    fields = _fields(values[HTTP])
    named = fields.pop("queues")
    sections = [name for name in values if http_kind_of(name) == HTTP_QUEUE]
    queues = {name: QueueSettings(name) for name in named}
    queues |= {queue_of(name): _queue(queue_of(name), values[name]) for name in sections}
    schedules = tuple(
        _schedule(schedule_of(name), values[name]) for name in sorted(values) if http_kind_of(name) == SCHEDULE
    )
    targets = fields.pop("targets")
    return HttpSettings(
        **fields,
        targets=None if targets == "auto" else targets,
        queues=tuple(queues[name] for name in sorted(queues)),
        schedules=schedules,
    )


def _queue(name: str, values: Mapping[str, Any]) -> QueueSettings:
    fields = _fields(values)
    retry = {field: fields.pop(field) for field in _fields(dict.fromkeys(_RETRY))}
    return QueueSettings(name, retry=RetrySettings(**retry), **fields)


def _schedule(name: str, values: Mapping[str, Any]) -> ScheduleSettings:
    return ScheduleSettings(name, **_fields(values))


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    return {FIELD_OF_KEY.get(key, key): value for key, value in values.items()}
