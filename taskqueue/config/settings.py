"""The settings of each role as frozen, typed data, and their way over a socket to the helper that they are for.

1. `config.load` makes them from the checked values: `time_limit: 5m` becomes `GroupSettings(time_limit_s=300.0, …)`.
2. The pool sends `to_json(group)` to a template and a listener; `group_from_json` makes the same `GroupSettings` there.
3. A worker shows them to its plugin by their keys again: `self.settings["time_limit"]` is 300.0.

Every process imports this module, also a worker: it must never import the reader of files, nor configobj.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FIELD_OF_KEY: Mapping[str, str] = {
    "heartbeat": "heartbeat_s",
    "max_body": "max_body_bytes",
    "stop_timeout": "stop_timeout_s",
    "results_ttl": "results_ttl_s",
    "retry_delay": "retry_delay_s",
    "retry_max_delay": "retry_max_delay_s",
    "soft_time_limit": "soft_time_limit_s",
    "time_limit": "time_limit_s",
    "max_memory": "max_memory_bytes",
    # of the HTTP half
    "idempotency_ttl": "idempotency_ttl_s",
    "name_ttl": "name_ttl_s",
    "keep_finished": "keep_finished_s",
    "keep_dead": "keep_dead_s",
    "keep_body": "keep_body_s",
    "keep_body_size": "keep_body_size_bytes",
    "keep_response": "keep_response_bytes",
    "max_task_age": "max_task_age_s",
    "timeout": "timeout_s",
    "max_age": "max_age_s",
    "min_backoff": "min_backoff_s",
    "max_backoff": "max_backoff_s",
    "every": "every_s",
    "jitter": "jitter_s",
}
"""The keys of config.ini whose field has its unit in its name: `_s` for seconds, `_bytes` for bytes. The field of any
other key has the key's own name."""

KEY_OF_FIELD: Mapping[str, str] = {name: key for key, name in FIELD_OF_KEY.items()}
"""The way back."""


@dataclass(frozen=True, slots=True)
class AmqpSettings:
    """[amqp]."""

    hosts: tuple[tuple[str, int], ...]
    """(Name or address, port), tried in turn: the keys `host` and `port`."""
    user: str
    passwd: str = field(repr=False)
    vhost: str
    heartbeat_s: int
    """0 for no heartbeat."""
    ssl: bool
    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    queue_type: str
    ingress_queue_type: str


@dataclass(frozen=True, slots=True)
class DispatcherSettings:
    """[dispatcher]."""

    prefetch: int
    """Deliveries not yet settled, at most."""
    max_body_bytes: int
    """Bytes of a workitem, at most; a larger one becomes a dead letter."""


@dataclass(frozen=True, slots=True)
class WorkerpoolSettings:
    """[workerpool]."""

    plugins: tuple[str, ...] | None
    """The worker types to run; None for all."""
    stop_timeout_s: float
    """Seconds from TERM to KILL."""
    results_ttl_s: float
    """Seconds that an unread result is kept."""


@dataclass(frozen=True, slots=True)
class LoggingSettings:
    """[logging]."""

    level: str
    target: str | None
    """None: syslog for a daemon; in the foreground stderr, or the journal where stderr leads there."""
    format: str


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """The workers of one type that share settings and a unix user. None is for no limit, or for the default rule."""

    worker_type: str
    instance: str | None
    workers: int
    """Processes; `auto` is resolved already."""
    user: str | None
    results_routing_key: str
    report_results: bool
    max_retries: int
    retry_delay_s: float
    retry_max_delay_s: float
    max_crashes: int
    soft_time_limit_s: float | None
    time_limit_s: float | None
    max_tasks: int | None
    max_memory_bytes: int | None
    prefetch: int | None
    concurrency: int
    preload: bool
    own: Mapping[str, str | list[str]] = field(repr=False)
    """Keys that only the plugin knows, as text or lists of text."""

    @property
    def name(self) -> str:
        """`worker1`, or `worker2/bifh1` for a named instance."""
        return self.worker_type if self.instance is None else f"{self.worker_type}/{self.instance}"


def to_json(settings: AmqpSettings | LoggingSettings | GroupSettings) -> dict[str, Any]:
    """For `json.dumps`; the function below of that type's name is the way back. It may hold a password: for a private
    socket only."""
    return dataclasses.asdict(settings)


def amqp_from_json(data: Mapping[str, Any]) -> AmqpSettings:
    """Back from `to_json`."""
    return AmqpSettings(**{**data, "hosts": tuple((host, port) for host, port in data["hosts"])})


def logging_from_json(data: Mapping[str, Any]) -> LoggingSettings:
    """Back from `to_json`."""
    return LoggingSettings(**data)


def group_from_json(data: Mapping[str, Any]) -> GroupSettings:
    """Back from `to_json`."""
    return GroupSettings(**data)
