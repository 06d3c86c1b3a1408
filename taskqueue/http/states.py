"""The states of a task in the book, and every move between them: one gate (design-http, section 2). Pure.

1. A task that is not due is SCHEDULED. When its time comes it is READY, which the book does not write: `shown` tells.
2. A hand-out of it is claimed: RUNNING. The attempt failed, and another one is left: RETRYING, due later.
3. The last attempt ended it: SUCCEEDED or DEAD. A person may end it before: CANCELLED. Or its time: EXPIRED.
4. `:retry` makes an ended task READY again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class TaskState(StrEnum):
    """Where a task is. The values are the API's."""

    SCHEDULED = "scheduled"
    READY = "ready"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


WAITING = frozenset({TaskState.SCHEDULED, TaskState.READY, TaskState.RETRYING})
"""The states of a task that waits for its time, its turn or its next attempt: it has a due time."""

ENDED = frozenset({TaskState.SUCCEEDED, TaskState.DEAD, TaskState.CANCELLED, TaskState.EXPIRED})

TASK_MOVES: Mapping[TaskState, frozenset[TaskState]] = {
    TaskState.SCHEDULED: frozenset({TaskState.READY, TaskState.RUNNING, TaskState.CANCELLED, TaskState.EXPIRED}),
    TaskState.READY: frozenset({TaskState.RUNNING, TaskState.CANCELLED, TaskState.EXPIRED}),
    TaskState.RUNNING: frozenset(
        {TaskState.SUCCEEDED, TaskState.RETRYING, TaskState.DEAD, TaskState.READY, TaskState.CANCELLED}
    ),
    TaskState.RETRYING: frozenset({TaskState.READY, TaskState.RUNNING, TaskState.CANCELLED, TaskState.EXPIRED}),
    TaskState.SUCCEEDED: frozenset({TaskState.READY}),
    TaskState.DEAD: frozenset({TaskState.READY}),
    TaskState.CANCELLED: frozenset({TaskState.READY}),
    TaskState.EXPIRED: frozenset({TaskState.READY}),
}
"""SCHEDULED and RETRYING become RUNNING when they are due: the READY in between is a matter of time, not of a write."""


def shown(state: TaskState, due_ms: int | None, now_ms: int) -> TaskState:
    """The state that people see: what waits and is due is READY. `due_ms` and `now_ms` are Unix time in ms."""
    if state in WAITING:
        if due_ms is not None and due_ms <= now_ms:
            return TaskState.READY
        return TaskState.RETRYING if state is TaskState.RETRYING else TaskState.SCHEDULED
    return state
