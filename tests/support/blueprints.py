"""Blueprints of groups for tests, written out: they need neither a config file nor a plugin."""

from __future__ import annotations

from typing import Any

from taskqueue.config.settings import AmqpSettings, GroupSettings, LoggingSettings
from taskqueue.plugins import Plugin
from taskqueue.pool.blueprint import Blueprint

AMQP = AmqpSettings(
    hosts=(("localhost", 5672),), user="guest", passwd="guest", vhost="/", heartbeat_s=60, ssl=False,
    ca_file=None, cert_file=None, key_file=None, queue_type="quorum", ingress_queue_type="classic",
)  # fmt: skip
LOGGING = LoggingSettings(level="INFO", target="stderr", format="text")


def group(worker_type: str = "worker1", **changes: Any) -> GroupSettings:
    """The settings of a group, but for `changes` the defaults."""
    defaults: dict[str, Any] = {
        "instance": None, "workers": 1, "user": None, "results_routing_key": "results", "report_results": True,
        "max_retries": 0, "retry_delay_s": 1.0, "retry_max_delay_s": 3600.0, "max_crashes": 3,
        "soft_time_limit_s": None, "time_limit_s": None, "max_tasks": None, "max_memory_bytes": None,
        "prefetch": None, "concurrency": 1, "preload": True, "own": {},
    }  # fmt: skip
    return GroupSettings(worker_type=worker_type, **{**defaults, **changes})


def plugin(worker_type: str = "worker1", version: str = "1.0") -> Plugin:
    """An installed plugin."""
    return Plugin(worker_type, f"{worker_type}.module:Worker", f"plugin-{worker_type}", version, hash(version))


def blueprint(worker_type: str = "worker1", **changes: Any) -> Blueprint:
    """A blueprint of a group, with `changes` to its settings."""
    return Blueprint(
        settings=group(worker_type, **changes), plugin=plugin(worker_type), amqp=AMQP, results_ttl_s=604_800.0,
        logging=LOGGING, log_fd=None, cgroup=None,
    )  # fmt: skip
