"""What is handed out anew: hand-outs that vanished, and claims of fronts that are gone. Each front looks each second.

1. A hand-out was valid until 12:00:10, and nobody has begun it at 12:00:13: its message vanished (AMQP queue purged,
   broker lost). The task is due again.
2. One that was begun tells so each minute. Silent for three minutes: its host is gone. The task is due again, and the
   crash is counted.
3. A front has not beaten for five seconds: what it claimed and did not publish is due again.

A front's id is random for each start, so that a front that comes back is not taken for the one before.
"""

from __future__ import annotations

from dataclasses import dataclass

from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.book.ending import CRASHES_LIMIT, DUE_AGAIN, end_rows
from taskqueue.http.ids import first_id
from taskqueue.http.states import TaskState

DEAD_MS = 5_000
"""Milliseconds without a beat after which a front is gone."""
SILENT_MS = 180_000
"""Milliseconds for which a hand-out that was begun may be silent."""
_FORGET_MS = 86_400_000
"""Milliseconds after which a front that is gone is forgotten."""
_STEP = 500
"""Rows that one look handles."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A front says that it lives."""

    front: str
    host: str
    started_ms: int
    version: str
    config_hash: str
    only_front: bool
    """Whether the book serves one front alone (SQLite): then any other is gone, at once."""


def beat(transaction: Transaction, front: Beat) -> list[tuple[str, str]]:
    """Note that `front` lives, and take over what dead ones claimed; gives the lanes (queue, worker type) that have
    something due again."""
    connection, now_ms = transaction.connection, transaction.now_ms
    connection.run(
        "INSERT INTO fronts (id, host, started_ms, beat_ms, version, config_hash) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET beat_ms = excluded.beat_ms, config_hash = excluded.config_hash",
        front.front, front.host, front.started_ms, now_ms, front.version, front.config_hash,
    )  # fmt: skip
    alive_since_ms = now_ms + 1 if front.only_front else now_ms - DEAD_MS
    claims = connection.all(
        "SELECT id, queue, worker_type FROM tasks WHERE front IS NOT NULL AND front <> ? AND watch_ms IS NOT NULL "
        "AND front NOT IN (SELECT id FROM fronts WHERE beat_ms >= ?) LIMIT ?" + connection.skip_locked,
        front.front, alive_since_ms, _STEP,
    )  # fmt: skip
    connection.many(DUE_AGAIN, [(now_ms, row[0]) for row in claims])
    if front.only_front:
        connection.run("DELETE FROM fronts WHERE id <> ?", front.front)
    else:
        connection.run("DELETE FROM fronts WHERE beat_ms < ?", now_ms - _FORGET_MS)
    return sorted({(row[1], row[2]) for row in claims})


def look(transaction: Transaction) -> list[tuple[str, str]]:
    """Let what vanished or fell silent be due again; gives the lanes (queue, worker type) that have something due."""
    connection, now_ms = transaction.connection, transaction.now_ms
    rows = connection.all(
        "SELECT id, queue, worker_type, begun, crashes, attempts, cancel_requested, name FROM tasks "
        "WHERE watch_ms <= ? ORDER BY watch_ms LIMIT ?" + connection.skip_locked,
        now_ms, _STEP,
    )  # fmt: skip
    again = [row for row in rows if not row[6] and row[4] + row[3] < CRASHES_LIMIT]
    connection.many(
        "UPDATE tasks SET state = ?, due_ms = ?, watch_ms = NULL, front = NULL, crashes = crashes + begun, reason = ? "
        "WHERE id = ?",
        [
            ((TaskState.RETRYING if row[5] else TaskState.READY).value, now_ms, "silent" if row[3] else "vanished",
             row[0])
            for row in again
        ],
    )  # fmt: skip
    end_rows(connection, now_ms, TaskState.CANCELLED, "cancelled", [row[0] for row in rows if row[6]])
    lost = [row for row in rows if not row[6] and row[4] + row[3] >= CRASHES_LIMIT]
    end_rows(connection, now_ms, TaskState.DEAD, "crashed", [row[0] for row in lost])
    return sorted({(row[1], row[2]) for row in again})


def expire(transaction: Transaction, max_age_ms: int) -> int:
    """End what waits beyond its `expires`, or `max_task_age` longer than it was first due; gives how many, at most
    a step."""
    connection, now_ms = transaction.connection, transaction.now_ms
    late = connection.all(
        "SELECT id FROM tasks WHERE expires_ms <= ? AND expires_ms IS NOT NULL AND due_ms IS NOT NULL LIMIT ?"
        + connection.skip_locked,
        now_ms, _STEP,
    )  # fmt: skip
    end_rows(connection, now_ms, TaskState.EXPIRED, "expired", [row[0] for row in late])
    old = connection.all(
        "SELECT id FROM tasks WHERE id < ? AND due_ms IS NOT NULL AND scheduled_ms < ? ORDER BY id LIMIT ?"
        + connection.skip_locked,
        first_id(now_ms - max_age_ms), now_ms - max_age_ms, _STEP,
    )  # fmt: skip
    end_rows(connection, now_ms, TaskState.EXPIRED, "max-task-age", [row[0] for row in old])
    return len(late) + len(old)
