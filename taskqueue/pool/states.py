"""The states of a group, and of one generation of its processes, with every move from one to another. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class GroupState(Enum):
    """The state of a group, as `taskqueue status` shows it."""

    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    """Its processes failed, or a defect of ours broke it; the next try is at a known time."""
    REFUSED = "refused"
    """It cannot be started as configured (another user without root); a reload may change that."""
    STOPPING = "stopping"
    STOPPED = "stopped"


GROUP_MOVES: Mapping[GroupState, frozenset[GroupState]] = {
    GroupState.STARTING: frozenset({GroupState.RUNNING, GroupState.BACKOFF, GroupState.STOPPING, GroupState.REFUSED}),
    GroupState.RUNNING: frozenset({GroupState.STARTING, GroupState.BACKOFF, GroupState.STOPPING}),
    GroupState.BACKOFF: frozenset({GroupState.STARTING, GroupState.STOPPING, GroupState.REFUSED}),
    GroupState.REFUSED: frozenset({GroupState.STARTING, GroupState.BACKOFF, GroupState.STOPPING}),
    GroupState.STOPPING: frozenset({GroupState.STOPPED}),
    GroupState.STOPPED: frozenset(),
}


class GenerationState(Enum):
    """A listener with its template and workers, from spawn to the last one reaped: see `pool.generation`."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    """It consumes no more, finishes what runs and hands back the rest."""
    ENDING = "ending"
    """A helper has died or was killed; the other one follows."""
    GONE = "gone"


GENERATION_MOVES: Mapping[GenerationState, frozenset[GenerationState]] = {
    GenerationState.STARTING: frozenset({GenerationState.READY, GenerationState.DRAINING, GenerationState.ENDING}),
    GenerationState.READY: frozenset({GenerationState.DRAINING, GenerationState.ENDING}),
    GenerationState.DRAINING: frozenset({GenerationState.ENDING}),
    GenerationState.ENDING: frozenset({GenerationState.GONE}),
    GenerationState.GONE: frozenset(),
}
