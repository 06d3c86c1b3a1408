"""The states of a workitem inside its listener, between delivery and settle, and every move between them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class RunState(Enum):
    """Where a workitem is inside its listener."""

    WAITING = "waiting"
    """Delivered; no worker has it."""
    ASSIGNED = "assigned"
    """With a worker: the worker runs it, or it is still in the kernel's queue to the worker."""
    PUBLISHING = "publishing"
    """Its outcome is published, and the broker has not confirmed all of it."""
    KEPT = "kept"
    """Ended, but the connection took its delivery along: the outcome is kept for the redelivery."""
    SETTLED = "settled"
    """Its delivery is acked."""


RUN_MOVES: Mapping[RunState, frozenset[RunState]] = {
    RunState.WAITING: frozenset({RunState.ASSIGNED, RunState.PUBLISHING, RunState.KEPT}),
    RunState.ASSIGNED: frozenset({RunState.WAITING, RunState.PUBLISHING, RunState.KEPT}),
    RunState.PUBLISHING: frozenset({RunState.KEPT, RunState.SETTLED}),
    RunState.KEPT: frozenset({RunState.PUBLISHING}),
    RunState.SETTLED: frozenset(),
}
