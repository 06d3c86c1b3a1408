"""The states of a group, of one generation of its processes, and of a workitem in a listener.

Every state is an enum and every move goes through `Lifecycle.move`, which raises on a move that the table does
not have. Pure: no clock, no processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

from taskqueue.errors import IllegalMove

S = TypeVar("S", bound=Enum)


class Lifecycle(Generic[S]):
    """One state and the only gate through which it changes."""

    __slots__ = ("_moves", "state")

    def __init__(self, first: S, moves: Mapping[S, frozenset[S]]) -> None:
        self.state = first
        self._moves = moves

    def move(self, to: S) -> None:
        """Change to `to`; raises `IllegalMove` where the table has no such move."""
        if to not in self._moves[self.state]:
            raise IllegalMove(f"{type(to).__name__}: {self.state.value} -> {to.value}")
        self.state = to

    def can(self, to: S) -> bool:
        """Whether `move(to)` is legal now."""
        return to in self._moves[self.state]


class GroupState(Enum):
    """What a group is doing, as `taskqueue status` shows it."""

    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    """Its processes failed; the next try is at a known time."""
    REFUSED = "refused"
    """It cannot be started as configured (another user without root); a reload may change that."""
    STOPPING = "stopping"
    STOPPED = "stopped"


GROUP_MOVES: Mapping[GroupState, frozenset[GroupState]] = {
    GroupState.STARTING: frozenset({GroupState.RUNNING, GroupState.BACKOFF, GroupState.STOPPING, GroupState.REFUSED}),
    GroupState.RUNNING: frozenset({GroupState.STARTING, GroupState.BACKOFF, GroupState.STOPPING}),
    GroupState.BACKOFF: frozenset({GroupState.STARTING, GroupState.STOPPING, GroupState.REFUSED}),
    GroupState.REFUSED: frozenset({GroupState.STARTING, GroupState.STOPPING}),
    GroupState.STOPPING: frozenset({GroupState.STOPPED}),
    GroupState.STOPPED: frozenset(),
}


class GenerationState(Enum):
    """One listener with its template and workers: from spawn to the last one reaped."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    """It consumes no more, finishes what runs and hands back the rest."""
    ENDING = "ending"
    """One of its processes is gone or was told to go; the others follow."""
    GONE = "gone"


GENERATION_MOVES: Mapping[GenerationState, frozenset[GenerationState]] = {
    GenerationState.STARTING: frozenset({GenerationState.READY, GenerationState.DRAINING, GenerationState.ENDING}),
    GenerationState.READY: frozenset({GenerationState.DRAINING, GenerationState.ENDING}),
    GenerationState.DRAINING: frozenset({GenerationState.ENDING}),
    GenerationState.ENDING: frozenset({GenerationState.GONE}),
    GenerationState.GONE: frozenset(),
}


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
