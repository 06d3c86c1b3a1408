"""How a task ends in the book, or is due again: the columns that change together, in one place.

A task that has ended has no due time, and nobody watches it. Its name stays taken for a while.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskqueue.http.book.connection import Connection
from taskqueue.http.states import TaskState

CRASHES_LIMIT = 20
"""Hosts that one task may lose, as AMQP's delivery limit has it; then it is dead."""

DUE_AGAIN = (
    "UPDATE tasks SET state = CASE WHEN attempts > 0 THEN 'retrying' ELSE 'ready' END, due_ms = ?, watch_ms = NULL,"
    " front = NULL WHERE id = ?"
)
"""A claim is undone, and nothing is counted: (due time, id)."""


def end_rows(connection: Connection, now_ms: int, state: TaskState, reason: str | None, ids: Sequence[str]) -> None:
    """End the tasks `ids`, whatever they are doing, with nothing more to say of their last attempt."""
    ended = connection.each(
        "UPDATE tasks SET state = ?, reason = ?, due_ms = NULL, watch_ms = NULL, front = NULL, ended_ms = ? "
        "WHERE id = ? RETURNING queue, name, id",
        [(state.value, reason, now_ms, task_id) for task_id in ids],
    )
    free_names(connection, now_ms, [(row[0], row[1], row[2]) for row in ended if row is not None])


def free_names(connection: Connection, now_ms: int, ended: Sequence[tuple[str, str | None, str]]) -> None:
    """Tasks have ended: (queue, name or None, id) of each. Their names are free after the time that they were taken
    with."""
    named = [(now_ms, queue, name, task_id) for queue, name, task_id in ended if name is not None]
    if named:
        connection.many(
            "UPDATE names SET until_ms = ? + ttl_ms WHERE kind = 'name' AND queue = ? AND name = ? AND task_id = ?",
            named,
        )
