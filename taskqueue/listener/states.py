"""Where a workitem is inside its listener, between delivery and settle: every move that there is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class RunState(Enum):
    """Where a workitem is inside its listener, between delivery and settle."""

    WAITING = "waiting"
    """Delivered, not yet handed to a worker."""
    HANDED = "handed"
    """In a worker, or in the kernel's queue to it."""
    PUBLISHING = "publishing"
    """Its outcome is being published; not yet confirmed."""
    KEPT = "kept"
    """Done, but its delivery was lost with the connection: the outcome waits for the redelivery."""
    SETTLED = "settled"


RUN_MOVES: Mapping[RunState, frozenset[RunState]] = {
    RunState.WAITING: frozenset({RunState.HANDED, RunState.PUBLISHING, RunState.KEPT}),
    RunState.HANDED: frozenset({RunState.WAITING, RunState.PUBLISHING, RunState.KEPT}),
    RunState.PUBLISHING: frozenset({RunState.KEPT, RunState.SETTLED}),
    RunState.KEPT: frozenset({RunState.PUBLISHING}),
    RunState.SETTLED: frozenset(),
}
