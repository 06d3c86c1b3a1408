"""What reports of hand-outs make of tasks: done, again at T, dead, or given back. One transaction for many reports.

1. Three hundred successes of first attempts are one statement: SUCCEEDED, with result and history.
2. A failure reads its row first: attempts and age against the rules of task and queue. RETRYING, or DEAD.
3. A hand-out that comes back counts only where it is the task's current one. It is due again, uncounted.
4. A real outcome counts for any hand-out of that attempt, and the first one wins: an attempt number that was counted
   before is old, and changes nothing. The broker may deliver a report twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from taskqueue.config.http_settings import QueueSettings
from taskqueue.http import retry_rules
from taskqueue.http.book import origins
from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.book.claiming import refund
from taskqueue.http.book.connection import Connection, Row
from taskqueue.http.book.ending import CRASHES_LIMIT, free_names
from taskqueue.http.book.events import OLD, Event, Lasts, Outcome, Returned, Settled
from taskqueue.http.book.rows import HISTORY_LIMIT, encode, retry_of
from taskqueue.http.states import ENDED, TaskState

Rules = Callable[[str], QueueSettings | None]
"""The settings of a queue by its name; None where it is gone."""

_SUCCESS = (
    "UPDATE tasks SET state = 'succeeded', reason = NULL, due_ms = NULL, watch_ms = NULL, front = NULL, ended_ms = ?,"
    " attempts = 1, responses = ?, status = ?, history = ?, result = ?,"
    " body = CASE WHEN length(body) > ? THEN NULL ELSE body END "
    "WHERE id = ? AND attempts = 0 AND history IS NULL AND ended_ms IS NULL "
    "RETURNING queue, worker_type, name, id, origin"
)
_READ = (
    "SELECT queue, worker_type, state, handout, attempts, responses, crashes, cancel_requested, first_ms, created_ms,"
    " history, spec, origin, name, url, begun FROM tasks WHERE id = ?"
)


class Settling:
    """`settle` is a bulk call of the bookkeeper. `rules(queue)` gives a queue's settings."""

    def __init__(self, rules: Rules, keep_body_bytes: int) -> None:
        self._rules = rules
        self._keep_body_bytes = keep_body_bytes

    def settle(self, transaction: Transaction, events: Sequence[Event]) -> list[Settled]:
        """What each event made of its task, in their order."""
        connection, now_ms = transaction.connection, transaction.now_ms
        settled: dict[int, Settled] = {}
        lasting: list[tuple[int, str, int]] = []
        quick: list[int] = []
        refunds: dict[str, int] = {}
        health = origins.Health(connection, now_ms)
        for index, event in enumerate(events):
            if isinstance(event, Lasts):
                lasting.append((event.until_ms, event.task_id, event.handout))
                settled[index] = OLD
            elif isinstance(event, Outcome) and event.success and event.attempt == 1:
                quick.append(index)
        connection.many("UPDATE tasks SET watch_ms = ?, begun = 1, front = NULL WHERE id = ? AND handout = ? "
                        "AND watch_ms IS NOT NULL", lasting)  # fmt: skip
        self._succeed(connection, now_ms, events, quick, settled, health)
        for index, event in enumerate(events):
            if index in settled:
                continue
            row = connection.one(_READ + connection.for_update, event.task_id)
            if row is None:
                settled[index] = OLD
            elif isinstance(event, Returned):
                settled[index] = _returned(connection, now_ms, row, event, refunds)
            elif isinstance(event, Outcome):
                settled[index] = self._outcome(connection, now_ms, row, event, health)
        refund(connection, refunds)
        health.write()
        return [settled[index] for index in range(len(events))]

    def _succeed(
        self,
        connection: Connection,
        now_ms: int,
        events: Sequence[Event],
        quick: list[int],
        settled: dict[int, Settled],
        health: origins.Health,
    ) -> None:
        """First attempts that succeeded: one statement each, without reading the row before."""
        chosen = [event for index in quick if isinstance(event := events[index], Outcome)]
        rows = connection.each(
            _SUCCESS,
            [
                (now_ms, int(event.answered), event.record.get("status"), encode([event.record]), _json(event.result),
                 self._keep_body_bytes, event.task_id)
                for event in chosen
            ],
        )  # fmt: skip
        for index, row in zip(quick, rows, strict=True):
            if row is not None:  # else it is old, or the first of a task that was begun anew: see `_outcome`
                settled[index] = Settled(row[3], row[0], row[1], TaskState.SUCCEEDED, None, 1)
        free_names(connection, now_ms, [(row[0], row[2], row[3]) for row in rows if row is not None])
        health.well(row[4] for row in rows if row is not None)

    def _outcome(
        self, connection: Connection, now_ms: int, row: Row, event: Outcome, health: origins.Health
    ) -> Settled:
        (
            queue, worker_type, state, _handout, attempts, responses, _crashes, cancelled, first_ms, created_ms,
            history_text, spec_text, origin, name, url, _begun,
        ) = row  # fmt: skip
        if event.attempt != attempts + 1 or TaskState(state) in ENDED:
            return OLD
        history = [*(json.loads(history_text) if history_text else []), event.record][-HISTORY_LIMIT:]
        rest_until_ms = health.note(origin, event)
        due_ms: int | None = None
        reason: str | None = None
        settings = self._rules(queue) or QueueSettings(queue)
        if event.success:
            then = TaskState.SUCCEEDED
        elif event.dead_reason is not None:
            then, reason = TaskState.DEAD, event.dead_reason
        elif event.record.get("status") in settings.permanent_statuses:
            then, reason = TaskState.DEAD, "gone"
        else:
            rules = retry_rules.effective(settings.retry, retry_of(json.loads(spec_text)), worker_type=url is None)
            if cancelled:
                then, reason = TaskState.CANCELLED, "cancelled"
            elif retry_rules.gives_up(rules, event.attempt, (now_ms - (first_ms or created_ms)) / 1000):
                then, reason = TaskState.DEAD, event.failed_reason
            else:
                then = TaskState.RETRYING
                due_ms = now_ms + int(retry_rules.wait_s(rules, event.attempt, event.retry_after_s) * 1000)
                due_ms = max(due_ms, rest_until_ms or 0)
        ended = then is not TaskState.RETRYING
        connection.run(
            "UPDATE tasks SET state = ?, reason = ?, due_ms = ?, watch_ms = NULL, front = NULL, ended_ms = ?,"
            " attempts = ?, responses = ?, crashes = ?, status = ?, history = ?, result = ?,"
            " body = CASE WHEN ? = 1 AND length(body) > ? THEN NULL ELSE body END WHERE id = ?",
            then.value, reason, due_ms, now_ms if ended else None, event.attempt, responses + int(event.answered),
            event.crashes, event.record.get("status"), encode(history), _json(event.result) if ended else None,
            int(ended), self._keep_body_bytes, event.task_id,
        )  # fmt: skip
        if ended:
            free_names(connection, now_ms, [(queue, name, event.task_id)])
        return Settled(event.task_id, queue, worker_type, then, due_ms, event.attempt)


def _returned(connection: Connection, now_ms: int, row: Row, event: Returned, refunds: dict[str, int]) -> Settled:
    queue, worker_type, state, handout, attempts, name, begun = (*row[:5], row[13], row[15])
    if state != TaskState.RUNNING or handout != event.handout:
        return OLD
    if not event.started:
        refunds[queue] = refunds.get(queue, 0) + 1
    # a hand-out that was begun, and that the broker gave to another listener, has lost its host
    crashes = max(row[6], event.crashes) + int(event.why == "redelivered" and begun)
    reason, due_ms = event.why, None
    if row[7]:
        then, reason = TaskState.CANCELLED, "cancelled"
    elif crashes >= CRASHES_LIMIT:
        then, reason = TaskState.DEAD, "crashed"
    else:
        then, due_ms = TaskState.RETRYING if attempts else TaskState.READY, now_ms + event.after_ms
    connection.run(
        "UPDATE tasks SET state = ?, reason = ?, due_ms = ?, watch_ms = NULL, front = NULL, ended_ms = ?, crashes = ? "
        "WHERE id = ?",
        then.value, reason, due_ms, now_ms if due_ms is None else None, crashes, event.task_id,
    )  # fmt: skip
    if due_ms is None:
        free_names(connection, now_ms, [(queue, name, event.task_id)])
    return Settled(event.task_id, queue, worker_type, then, due_ms, attempts)


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else encode(value)
