"""What a person or client does to a task that is there: cancel, run now, again. Each says what the task was before.

`cancel` of a task that runs notes the wish; its outcome counts, and it is not retried. Every change reads its row under
a lock, and leaves alone what is not in a state for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.book.ending import end_rows
from taskqueue.http.book.rows import COLUMNS, task_of
from taskqueue.http.states import ENDED, TaskState
from taskqueue.http.task import Task


@dataclass(frozen=True, slots=True)
class Changed:
    """The answer to a change."""

    task: Task | None
    """The task as it is now; None where there is no such task."""
    done: bool
    """Whether the task was in a state for the change."""


def cancel(transaction: Transaction, ids: Sequence[str]) -> list[Changed]:
    """Cancel each; not done where it has ended."""
    connection, now_ms = transaction.connection, transaction.now_ms
    changes: list[Changed] = []
    for task_id in ids:
        state = _state(transaction, task_id)
        done = state is not None and state not in ENDED
        if state is TaskState.RUNNING:
            connection.run("UPDATE tasks SET cancel_requested = 1 WHERE id = ?", task_id)
        elif done:
            end_rows(connection, now_ms, TaskState.CANCELLED, "cancelled", [task_id])
        changes.append(Changed(_task(transaction, task_id), done))
    return changes


def run_now(transaction: Transaction, ids: Sequence[str]) -> list[Changed]:
    """Let each be due now; not done where it has ended. One that runs is left alone."""
    changes: list[Changed] = []
    for task_id in ids:
        state = _state(transaction, task_id)
        done = state is not None and state not in ENDED
        if done and state is not TaskState.RUNNING:
            transaction.connection.run(
                "UPDATE tasks SET due_ms = ? WHERE id = ? AND due_ms > ?", transaction.now_ms, task_id,
                transaction.now_ms,
            )  # fmt: skip
        changes.append(Changed(_task(transaction, task_id), done))
    return changes


def retry(transaction: Transaction, later: Sequence[tuple[str, int]]) -> list[Changed]:
    """Begin each anew, some milliseconds from now: (id, milliseconds). Attempts before stay in the history. Not done
    where it has not ended, or where its body was dropped."""
    connection, now_ms = transaction.connection, transaction.now_ms
    changes: list[Changed] = []
    for task_id, delay_ms in later:
        row = connection.one(f"SELECT state, body IS NULL FROM tasks WHERE id = ?{connection.for_update}", task_id)
        done = row is not None and TaskState(row[0]) in ENDED and not row[1]
        if done:
            connection.run(
                "UPDATE tasks SET state = 'ready', reason = NULL, due_ms = ?, ended_ms = NULL, expires_ms = NULL,"
                " first_ms = NULL, attempts = 0, crashes = 0, cancel_requested = 0, result = NULL WHERE id = ?",
                now_ms + delay_ms, task_id,
            )  # fmt: skip
            connection.run(
                "UPDATE names SET until_ms = NULL WHERE kind = 'name' AND task_id = ? AND queue = "
                "(SELECT queue FROM tasks WHERE id = ?) AND name = (SELECT name FROM tasks WHERE id = ?)",
                task_id, task_id, task_id,
            )  # fmt: skip
        changes.append(Changed(_task(transaction, task_id), done))
    return changes


def purge(transaction: Transaction, queue: str, step: int = 1_000) -> int:
    """Remove tasks of `queue` that wait; gives how many, at most `step`. What runs goes on."""
    connection = transaction.connection
    rows = connection.all(
        "SELECT id FROM tasks WHERE queue = ? AND due_ms IS NOT NULL ORDER BY worker_type, due_ms LIMIT ?"
        + connection.skip_locked,
        queue, step,
    )  # fmt: skip
    _remove(transaction, queue, [row[0] for row in rows])
    return len(rows)


def remove_all(transaction: Transaction, queue: str, step: int = 1_000) -> int:
    """Remove tasks of `queue` in any state, for it is deleted; gives how many, at most `step`."""
    connection = transaction.connection
    rows = connection.all("SELECT id FROM tasks WHERE queue = ? LIMIT ?" + connection.skip_locked, queue, step)
    _remove(transaction, queue, [row[0] for row in rows])
    return len(rows)


def _remove(transaction: Transaction, queue: str, ids: Sequence[str]) -> None:
    connection = transaction.connection
    connection.many(
        "DELETE FROM names WHERE queue = ? AND kind = 'name' AND name = (SELECT name FROM tasks WHERE id = ?)",
        [(queue, task_id) for task_id in ids],
    )
    connection.many("DELETE FROM tasks WHERE id = ?", [(task_id,) for task_id in ids])


def _state(transaction: Transaction, task_id: str) -> TaskState | None:
    connection = transaction.connection
    row = connection.one(f"SELECT state FROM tasks WHERE id = ?{connection.for_update}", task_id)
    return None if row is None else TaskState(row[0])


def _task(transaction: Transaction, task_id: str) -> Task | None:
    row = transaction.connection.one(f"SELECT {COLUMNS} FROM tasks WHERE id = ?", task_id)
    return None if row is None else task_of(row, transaction.now_ms)
