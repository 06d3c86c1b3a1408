"""What the front tells the book of a hand-out, once a report came: `delivery.reading` makes these. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from taskqueue.http.states import TaskState


@dataclass(frozen=True, slots=True)
class Lasts:
    """It was begun, still runs, or waits for its plugin's own retry."""

    task_id: str
    handout: int
    until_ms: int
    """When somebody has to look, if nothing was heard until then; by the book's clock."""


@dataclass(frozen=True, slots=True)
class Returned:
    """It was not run to an end: given back, uncounted."""

    task_id: str
    handout: int
    crashes: int
    """Crashes of the task so far."""
    started: bool
    """Whether a request was started: then its token is spent."""
    after_ms: int = 0
    """Milliseconds until it is due again."""
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """An attempt has ended."""

    task_id: str
    handout: int
    attempt: int
    """The number of the attempt, from 1: the outcome of an attempt that the book has counted before is old."""
    success: bool
    record: dict[str, Any]
    """For the history: `attempt at_ms outcome status error duration_s address headers body`, and more."""
    result: dict[str, Any] | None
    """What the API shows as the result, if this ends the task."""
    answered: bool = False
    """Whether the target answered, whatever it said."""
    dead_reason: str | None = None
    """Why no other attempt makes sense; None where one may."""
    failed_reason: str = "failed"
    """Why it is dead, if no attempt is left."""
    retry_after_s: float | None = None
    failing: bool = False
    """Whether the target itself is in trouble: it counts for the breaker of its origin."""
    rests: bool = False
    """Whether the whole origin rests for `retry_after_s` (429 and 503)."""
    crashes: int = 0


Event = Lasts | Returned | Outcome


@dataclass(frozen=True, slots=True)
class Settled:
    """What an event made of its task."""

    task_id: str
    queue: str | None
    """None where the event was old, and changed nothing."""
    worker_type: str = ""
    state: TaskState | None = None
    due_ms: int | None = None
    """When its next attempt is due."""
    attempts: int = 0
    callback: dict[str, Any] = field(default_factory=dict)


OLD = Settled("", None)
