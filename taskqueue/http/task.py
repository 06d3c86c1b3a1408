"""A task as the book has it: what the API shows, and what the front hands out. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from taskqueue.http.states import TaskState


@dataclass(slots=True)
class Task:
    """One task. Times are Unix time in milliseconds, by the book's clock; None where there is none."""

    id: str
    queue: str
    name: str | None
    state: TaskState
    """As `states.shown` gives it."""
    reason: str | None
    """Why it ended, or why it waits: `gone`, `failed`, `crashed`, …"""
    url: str | None
    worker_type: str | None
    method: str
    headers: tuple[tuple[str, str], ...]
    created_ms: int
    scheduled_ms: int
    """When its first attempt was, or is, due."""
    expires_ms: int | None
    attempts: int
    """Attempts that were counted."""
    responses: int
    """Attempts that were answered by the target."""
    next_attempt_ms: int | None
    """When the next attempt is due; None for one that runs or has ended."""
    last: dict[str, Any] | None
    """The last attempt: `at_ms outcome status error duration_s address`."""
    result: dict[str, Any] | None
    """Of a task that has ended: `status headers body` or `body_base64` of a webhook, `value` of a worker type."""
    tags: tuple[str, ...] = ()
    history: list[dict[str, Any]] = field(default_factory=list)
    """The last ten attempts, oldest first: as `last`, and with `attempt`, `headers`, `body` of the answer."""
    body: bytes | None = None
    """What it sends; None where it was dropped after its end."""
    ended_ms: int | None = None
    cancel_requested: bool = False
    timeout_s: float | None = None
    retry: dict[str, Any] | None = None
    """The rules that it sets for itself, as `task_spec.RetryOverride`; None: its queue's."""
    callback_url: str | None = None
