"""A front and its queues at one moment, for `taskqueue status`: how it is, and how many tasks are in which state."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from taskqueue.errors import FrontRefused, FrontUnavailable
from taskqueue.operations.front import Front

STATES = ("ready", "scheduled", "running", "retrying", "dead")


@dataclass(frozen=True, slots=True)
class TaskQueue:
    """A queue of tasks, and how many are in which state."""

    name: str
    paused: bool
    counts: dict[str, int]
    """By state, all of `STATES`."""

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to say of it."""
        return not self.paused and not any(self.counts.values())


@dataclass(slots=True)
class FrontSeen:
    """What a front says of itself. `trouble`: why it does not, or not all."""

    url: str
    book: str | None = None
    """`up` or `down`; None where the front does not answer."""
    broker: str | None = None
    reasons: list[str] = field(default_factory=list)
    """Why book or broker is down."""
    queues: list[TaskQueue] = field(default_factory=list)
    trouble: str | None = None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def see_front(front: Front) -> FrontSeen:
    """Ask `front` how it is. It never raises: what goes wrong is in `trouble`."""
    seen = FrontSeen(front.url)
    try:
        _status, health, _reason = front.answer("GET", "/health/ready")
        if not isinstance(health, dict) or "book" not in health:
            seen.trouble = f"front {front.url}: what answers there is no taskqueue front"
            return seen
        seen.book, seen.broker = str(health["book"]), str(health["broker"])
        seen.reasons = [str(each) for each in health.get("reasons", [])]
        seen.queues = [_queue(each) for each in front.get("/v1/queues")["queues"]]
    except (FrontUnavailable, FrontRefused) as error:
        seen.trouble = str(error)
    return seen


def _queue(document: dict[str, Any]) -> TaskQueue:
    counts = document["tasks"] or {}
    return TaskQueue(document["name"], bool(document["paused"]), {state: int(counts.get(state, 0)) for state in STATES})
