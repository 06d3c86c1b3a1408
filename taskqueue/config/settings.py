"""The settings of each role as frozen, typed data, and their way over a socket to the helper that they are for.

Apart from `config`, so that a template, a worker or a client does without the reader of files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class AmqpSettings:
    """[amqp]. `hosts` are (name or address, port), tried in turn; `heartbeat_s` in seconds, 0 for none."""

    hosts: tuple[tuple[str, int], ...]
    user: str
    passwd: str = field(repr=False)
    vhost: str
    heartbeat_s: int
    ssl: bool
    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    queue_type: str
    ingress_queue_type: str


@dataclass(frozen=True, slots=True)
class DispatcherSettings:
    """[dispatcher]. Deliveries not yet settled, at most; bytes of a workitem, at most."""

    prefetch: int
    max_body_bytes: int


@dataclass(frozen=True, slots=True)
class WorkerpoolSettings:
    """[workerpool]. `plugins` None means all; seconds from TERM to KILL; seconds a result waits to be read."""

    plugins: tuple[str, ...] | None
    stop_timeout_s: float
    results_ttl_s: float


@dataclass(frozen=True, slots=True)
class LoggingSettings:
    """[logging]. `target` None: syslog for a daemon; in the foreground stderr, or the journal where it leads there."""

    level: str
    target: str | None
    format: str


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """The workers of one type that share settings and a unix user. `None`: no limit, or the default rule.

    `workers` is a number of processes, `auto` already resolved; `own` are the keys that only the plugin knows, as
    text or lists of text.
    """

    worker_type: str
    instance: str | None
    workers: int
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

    @property
    def name(self) -> str:
        """`worker1`, or `worker2/bifh1` for a named instance."""
        return self.worker_type if self.instance is None else f"{self.worker_type}/{self.instance}"


def to_json(settings: AmqpSettings | LoggingSettings | GroupSettings) -> dict[str, Any]:
    """For json.dumps, and back with the function of its name. It holds the password: for a private socket only."""
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
