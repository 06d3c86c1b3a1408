"""What holds up one task that waits, as the book knows it: pause, rate, concurrency, its origin, those before it.

`claiming` decides by the same figures. This module only reads them, for people.
"""

from __future__ import annotations

from dataclasses import dataclass

from taskqueue.config.http_settings import QueueSettings
from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.book.claiming import next_token_ms, tokens_at
from taskqueue.http.book.rows import WEBHOOK, origin_of
from taskqueue.http.task import Task

BEFORE_LIMIT = 1_000
"""Tasks before this one that are counted, at most."""


@dataclass(frozen=True, slots=True)
class Holding:
    """The figures of one moment."""

    now_ms: int
    paused: bool
    token_ms: int | None
    """When the queue's rate allows another start; None where it does now."""
    running: int
    """Attempts of the queue under way."""
    running_of_type: int
    """Attempts for the task's worker type under way, of all queues."""
    origin: str | None
    rests_until_ms: int | None
    """Until when nothing is sent to `origin`; None where it does not rest."""
    failures: int
    """Failures in a row of `origin`, where its breaker is open; 0 where it asked for the rest itself."""
    before: int
    """Due tasks of the same queue and worker type before this one, `BEFORE_LIMIT` at most."""


def holding(transaction: Transaction, task: Task, settings: QueueSettings) -> Holding:
    """What holds up `task`, of a queue with `settings`."""
    connection, now_ms = transaction.connection, transaction.now_ms
    worker_type = WEBHOOK if task.worker_type is None else task.worker_type
    queue = connection.one("SELECT paused, tokens, tokens_ms FROM queues WHERE name = ?", task.queue)
    paused, tokens, since_ms = queue or (0, None, None)
    left = tokens_at(settings, tokens, since_ms, now_ms)
    running = connection.one(
        "SELECT COALESCE(SUM(CASE WHEN queue = ? THEN 1 ELSE 0 END), 0),"
        " COALESCE(SUM(CASE WHEN worker_type = ? THEN 1 ELSE 0 END), 0) FROM tasks WHERE watch_ms IS NOT NULL",
        task.queue, worker_type,
    )  # fmt: skip
    before = connection.one(
        "SELECT count(*) FROM (SELECT 1 FROM tasks WHERE queue = ? AND worker_type = ? AND due_ms < ? LIMIT ?) earlier",
        task.queue, worker_type, min(now_ms, task.next_attempt_ms or now_ms), BEFORE_LIMIT,
    )  # fmt: skip
    origin = origin_of(task.url)
    row = None
    if origin is not None:
        row = connection.one("SELECT rest_until_ms, failures, opened FROM origins WHERE origin = ?", origin)
    rests = row is not None and row[0] > now_ms
    assert running is not None and before is not None
    return Holding(
        now_ms,
        bool(paused),
        None if left is None or left >= 1.0 else next_token_ms(settings, left, now_ms),
        int(running[0]),
        int(running[1]),
        origin,
        row[0] if row is not None and rests else None,
        row[1] if row is not None and row[2] else 0,
        before[0],
    )
