"""Which tasks are handed out next: claims them in the book, by the rules of their queue. Nothing is published here.

1. Queue `emails` has 300 tasks due for webhook workers, `rate_limit: 10/s`, `concurrency: 50`, and 45 run.
2. The window of webhook workers has room for 64 more: `claim` takes 5, the least of tokens, slots and room.
3. Each is RUNNING now, with the number of its hand-out, the front that claimed it, and `watch_ms`, when somebody has to
   look whether it was begun. The tokens are taken in the same transaction: no other front has them.
4. A task whose `expires` is over is EXPIRED in place of a hand-out. One whose origin rests gets a later due time.

The bucket of a queue with a rate limit holds `burst - rate * V` tokens, at least 1, where V is how long a hand-out is
valid: what is started V late is then still inside `burst + rate * t` (design-http, section 5).
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from taskqueue.config.http_settings import QueueSettings
from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.book.connection import Connection
from taskqueue.http.book.ending import DUE_AGAIN, end_rows
from taskqueue.http.book.origins import let_one_through
from taskqueue.http.states import TaskState

VALID_S = 10.0
"""Seconds within which a hand-out must be begun (V of design-http, section 3)."""
MARGIN_MS = 3_000
"""Milliseconds after the end of a hand-out's validity until it is handed out anew: its `begun` may be on its way."""
_SCAN = 200
"""Rows that one claim looks at, at most."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a front wants to hand out next."""

    queue: QueueSettings
    worker_type: str
    window: int
    """Hand-outs of this worker type that may be under way at once, in the whole cluster."""
    front: str


@dataclass(slots=True)
class HandOut:
    """A claimed attempt, to be published."""

    task_id: str
    queue: str
    worker_type: str
    number: int
    attempt: int
    """The number of this attempt of the task, from 1."""
    crashes: int
    valid_until_ms: int
    url: str | None
    spec: dict[str, Any]
    body: bytes


@dataclass(slots=True)
class Claimed:
    """What a claim gave, and when another one makes sense."""

    handouts: list[HandOut] = field(default_factory=list)
    next_ms: int | None = None
    """When the next task of that queue and type is due, or the next token is there; in the past where it is due and
    there is no room for it. None: nothing is due, or the queue is paused."""
    ended: list[str] = field(default_factory=list)
    """Tasks that were due and have expired."""
    deferred: int = 0
    """Tasks that were due and got a later due time, for their origin rests."""


def valid_s(queue: QueueSettings) -> float:
    """Seconds for which a hand-out of `queue` is valid."""
    if queue.rate_limit is None:
        return VALID_S
    return min(1.0, queue.burst / (2 * queue.rate_limit))


def capacity(queue: QueueSettings) -> float:
    """Tokens that the bucket of a queue with a rate limit holds."""
    assert queue.rate_limit is not None
    return max(1.0, queue.burst - queue.rate_limit * valid_s(queue))


def claim(transaction: Transaction, wishes: Sequence[Wish]) -> list[Claimed]:
    """Claim for each wish, in their order."""
    return [_claim(transaction, wish) for wish in wishes]


def _claim(transaction: Transaction, wish: Wish) -> Claimed:
    connection, now_ms, queue = transaction.connection, transaction.now_ms, wish.queue
    row = connection.one(
        f"SELECT paused, tokens, tokens_ms FROM queues WHERE name = ?{connection.for_update}", queue.name
    )
    if row is None or row[0]:
        return Claimed()
    running = connection.one(
        "SELECT COALESCE(SUM(CASE WHEN queue = ? THEN 1 ELSE 0 END), 0),"
        " COALESCE(SUM(CASE WHEN worker_type = ? THEN 1 ELSE 0 END), 0) FROM tasks WHERE watch_ms IS NOT NULL",
        queue.name, wish.worker_type,
    )  # fmt: skip
    assert running is not None
    free = min(wish.window - running[1], queue.concurrency - running[0], _SCAN)
    if free <= 0:
        return Claimed(next_ms=now_ms)
    tokens = tokens_at(queue, row[1], row[2], now_ms)
    if tokens is not None and tokens < 1.0:
        return Claimed(next_ms=_next_ms(connection, wish, tokens, now_ms))
    limit = free if tokens is None else min(free, int(tokens))
    claimed = _take(transaction, wish, limit)
    if tokens is not None:
        connection.run(
            "UPDATE queues SET tokens = ?, tokens_ms = ? WHERE name = ?",
            tokens - len(claimed.handouts), now_ms, queue.name,
        )  # fmt: skip
    left = None if tokens is None else tokens - len(claimed.handouts)
    claimed.next_ms = _next_ms(connection, wish, left, now_ms)
    return claimed


def _take(transaction: Transaction, wish: Wish, limit: int) -> Claimed:
    connection, now_ms = transaction.connection, transaction.now_ms
    rows = connection.all(
        "SELECT t.id, t.handout, t.attempts, t.crashes, t.expires_ms, t.origin, t.url, t.spec, t.body,"
        " o.rest_until_ms, o.opened FROM tasks t LEFT JOIN origins o ON o.origin = t.origin "
        "WHERE t.queue = ? AND t.worker_type = ? AND t.due_ms <= ? ORDER BY t.due_ms LIMIT ?"
        f"{connection.skip_locked and ' FOR UPDATE OF t SKIP LOCKED'}",
        wish.queue.name, wish.worker_type, now_ms, limit,
    )  # fmt: skip
    valid_until_ms = now_ms + int(valid_s(wish.queue) * 1000)
    claimed = Claimed()
    deferred: list[tuple[int, str]] = []
    trials: dict[str, int] = {}
    for (
        task_id, number, attempts, crashes, expires_ms, origin, url, spec, body, rest_until_ms, opened,
    ) in rows:  # fmt: skip
        if opened and rest_until_ms <= now_ms:
            if origin in trials:
                rest_until_ms = now_ms + trials[origin]
            else:
                trials[origin] = let_one_through(connection, now_ms, origin)
        if expires_ms is not None and expires_ms <= now_ms:
            claimed.ended.append(task_id)
        elif rest_until_ms is not None and rest_until_ms > now_ms:
            deferred.append((rest_until_ms + random.randrange(500), task_id))
        else:
            claimed.handouts.append(
                HandOut(
                    task_id, wish.queue.name, wish.worker_type, number + 1, attempts + 1, crashes, valid_until_ms, url,
                    json.loads(spec), bytes(body or b""),
                )
            )  # fmt: skip
    connection.many(
        "UPDATE tasks SET state = 'running', handout = ?, due_ms = NULL, watch_ms = ?, front = ?, begun = 0,"
        " first_ms = COALESCE(first_ms, ?) WHERE id = ?",
        [(each.number, valid_until_ms + MARGIN_MS, wish.front, now_ms, each.task_id) for each in claimed.handouts],
    )
    connection.many("UPDATE tasks SET due_ms = ?, reason = 'origin-rests' WHERE id = ?", deferred)
    claimed.deferred = len(deferred)
    end_rows(connection, now_ms, TaskState.EXPIRED, "expired", claimed.ended)
    return claimed


def tokens_at(queue: QueueSettings, tokens: float | None, since_ms: int | None, now_ms: int) -> float | None:
    """The tokens of a queue at `now_ms`; None without a rate limit. A new bucket, or one after a rest, is full."""
    if queue.rate_limit is None:
        return None
    full = capacity(queue)
    if tokens is None or since_ms is None:
        return full
    return min(full, tokens + queue.rate_limit * max(0, now_ms - since_ms) / 1000)


def next_token_ms(queue: QueueSettings, tokens: float, now_ms: int) -> int:
    """When a bucket that has less than one token has one."""
    assert queue.rate_limit is not None
    return now_ms + math.ceil((1.0 - tokens) / queue.rate_limit * 1000)


def _next_ms(connection: Connection, wish: Wish, tokens: float | None, now_ms: int) -> int | None:
    """When something can be claimed next, with so many tokens left (None: no rate limit); None where nothing waits."""
    row = connection.one(
        "SELECT min(due_ms) FROM tasks WHERE queue = ? AND worker_type = ? AND due_ms IS NOT NULL",
        wish.queue.name, wish.worker_type,
    )  # fmt: skip
    if row is None or row[0] is None:
        return None
    due_ms = int(row[0])
    if tokens is None or tokens >= 1.0:
        return due_ms
    return max(due_ms, next_token_ms(wish.queue, tokens, now_ms))


def next_due(transaction: Transaction) -> dict[tuple[str, str], int]:
    """When the next task of each lane (queue, worker type) is due: an index is asked once for each lane."""
    rows = transaction.connection.all(
        "SELECT l.queue, l.worker_type, (SELECT min(t.due_ms) FROM tasks t WHERE t.queue = l.queue"
        " AND t.worker_type = l.worker_type AND t.due_ms IS NOT NULL) FROM lanes l"
    )
    return {(queue, worker_type): due_ms for queue, worker_type, due_ms in rows if due_ms is not None}


def give_back(transaction: Transaction, handouts: Sequence[HandOut]) -> list[None]:
    """Undo claims that were not published."""
    now_ms = transaction.now_ms
    transaction.connection.many(
        f"{DUE_AGAIN} AND handout = ? AND state = 'running'",
        [(now_ms, each.task_id, each.number) for each in handouts],
    )
    by_queue: dict[str, int] = {}
    for each in handouts:
        by_queue[each.queue] = by_queue.get(each.queue, 0) + 1
    refund(transaction.connection, by_queue)
    return [None] * len(handouts)


def mark_published(transaction: Transaction, handouts: Sequence[HandOut]) -> list[None]:
    """Note that these are in the broker: nobody hands them out anew before their time."""
    transaction.connection.many(
        "UPDATE tasks SET front = NULL WHERE id = ? AND handout = ? AND watch_ms IS NOT NULL",
        [(each.task_id, each.number) for each in handouts],
    )
    return [None] * len(handouts)


def refund(connection: Connection, by_queue: dict[str, int]) -> None:
    """Give back the tokens of what was never started, that many to each queue; the bucket's size is seen to later."""
    connection.many(
        "UPDATE queues SET tokens = tokens + ? WHERE name = ? AND tokens IS NOT NULL",
        [(count, name) for name, count in sorted(by_queue.items())],
    )
