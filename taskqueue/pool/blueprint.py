"""The blueprint of a generation: everything that its processes are started with. It is data, and never acts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from taskqueue.config.settings import AmqpSettings, GroupSettings, LoggingSettings
from taskqueue.plugins import Plugin


@dataclass(frozen=True, slots=True)
class Blueprint:
    """All that makes one generation differ from another: a generation whose blueprint stays equal is not replaced."""

    settings: GroupSettings
    plugin: Plugin
    amqp: AmqpSettings
    results_ttl_s: float
    """Seconds that an unread result is kept."""
    logging: LoggingSettings
    log_fd: int | None
    """The descriptor that the log goes to; None where it goes to syslog or the journal."""
    cgroup: Path | None
    """The pool's own cgroup, in which a generation may have one with a memory limit; None where the host gives none."""
    descriptor_limit: int | None = None
    """Soft RLIMIT_NOFILE of the helpers, below the pool's own: a plugin may use select(2). None: inherited."""
