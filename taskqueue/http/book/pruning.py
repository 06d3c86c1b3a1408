"""What is dropped from the book, in small steps: tasks that ended long ago, their bodies, old keys and names.

`keep_finished` is for what succeeded, was cancelled or has expired, `keep_dead` for dead tasks; each at most a million
rows. A body that is kept after the end goes after `keep_body`. One step is some milliseconds, so that nobody waits.
"""

from __future__ import annotations

from dataclasses import dataclass

from taskqueue.http.book.bookkeeper import Transaction

ROWS_LIMIT = 1_000_000
_STEP = 200


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long what is kept, in milliseconds."""

    finished_ms: int
    dead_ms: int
    body_ms: int


def prune(transaction: Transaction, keeping: Keeping) -> int:
    """One step; gives how many rows were dropped or emptied, 0 when there is nothing to do."""
    connection, now_ms = transaction.connection, transaction.now_ms
    old = connection.all(
        "SELECT id FROM tasks WHERE ended_ms < ? AND ended_ms IS NOT NULL AND state <> 'dead' ORDER BY ended_ms LIMIT ?"
        + connection.skip_locked,
        now_ms - keeping.finished_ms, _STEP,
    )  # fmt: skip
    dead = connection.all(
        "SELECT id FROM tasks WHERE state = 'dead' AND ended_ms < ? ORDER BY ended_ms LIMIT ?" + connection.skip_locked,
        now_ms - keeping.dead_ms, _STEP,
    )  # fmt: skip
    connection.many("DELETE FROM tasks WHERE id = ?", [*old, *dead])
    bodies = connection.all(
        "SELECT id FROM tasks WHERE ended_ms < ? AND ended_ms IS NOT NULL AND body IS NOT NULL AND state <> 'dead' "
        "ORDER BY ended_ms LIMIT ?" + connection.skip_locked,
        now_ms - keeping.body_ms, _STEP,
    )  # fmt: skip
    connection.many("UPDATE tasks SET body = NULL WHERE id = ?", bodies)
    keys = connection.all(
        "SELECT scope, key FROM idempotency WHERE until_ms < ? ORDER BY until_ms LIMIT ?", now_ms, _STEP
    )
    connection.many("DELETE FROM idempotency WHERE scope = ? AND key = ? AND until_ms < ?",
                    [(*key, now_ms) for key in keys])  # fmt: skip
    names = connection.all(
        "SELECT kind, queue, name FROM names WHERE until_ms IS NOT NULL AND until_ms < ? ORDER BY until_ms LIMIT ?",
        now_ms, _STEP,
    )  # fmt: skip
    connection.many("DELETE FROM names WHERE kind = ? AND queue = ? AND name = ? AND until_ms < ?",
                    [(*name, now_ms) for name in names])  # fmt: skip
    return len(old) + len(dead) + len(bodies) + len(keys) + len(names)


def prune_surplus(transaction: Transaction, limit: int = ROWS_LIMIT) -> int:
    """Drop the oldest of the ended tasks beyond `limit`; gives how many. It counts, so call it seldom."""
    connection = transaction.connection
    dropped = 0
    for condition in ("state <> 'dead'", "state = 'dead'"):
        row = connection.one(f"SELECT count(*) FROM tasks WHERE ended_ms IS NOT NULL AND {condition}")
        surplus = 0 if row is None else row[0] - limit
        if surplus > 0:
            rows = connection.all(
                f"SELECT id FROM tasks WHERE ended_ms IS NOT NULL AND {condition} ORDER BY ended_ms LIMIT ?",
                min(surplus, 10 * _STEP),
            )
            connection.many("DELETE FROM tasks WHERE id = ?", rows)
            dropped += len(rows)
    return dropped
