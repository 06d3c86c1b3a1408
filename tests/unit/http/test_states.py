"""The states of a task, and the gate between them."""

from __future__ import annotations

import pytest

from taskqueue.http.states import ENDED, TASK_MOVES, WAITING, TaskState, shown


def test_every_state_has_its_moves_and_only_retry_leads_out_of_an_end() -> None:
    assert TASK_MOVES.keys() == set(TaskState)
    assert all(TASK_MOVES[state] == {TaskState.READY} for state in ENDED)
    assert WAITING | ENDED | {TaskState.RUNNING} == set(TaskState) and not WAITING & ENDED


@pytest.mark.parametrize(
    ("state", "due_ms", "seen"),
    [
        (TaskState.SCHEDULED, 101, TaskState.SCHEDULED),
        (TaskState.SCHEDULED, 100, TaskState.READY),
        (TaskState.READY, 101, TaskState.SCHEDULED),
        (TaskState.RETRYING, 101, TaskState.RETRYING),
        (TaskState.RETRYING, 99, TaskState.READY),
        (TaskState.RUNNING, None, TaskState.RUNNING),
        (TaskState.DEAD, None, TaskState.DEAD),
    ],
)
def test_what_waits_and_is_due_is_ready(state: TaskState, due_ms: int | None, seen: TaskState) -> None:
    assert shown(state, due_ms, 100) is seen
