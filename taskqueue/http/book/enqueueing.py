"""How tasks get into the book: each one once, whatever is sent twice.

1. Forty new tasks without a key are forty rows, written by one statement.
2. A task with an Idempotency-Key: its key is written first. Where the key is there, the same request was taken before,
   and the answer is its task again; or another request had that key, which is an error.
3. A task with a name: the name is written, and is taken for as long as its task lives, and `name_ttl` longer.
4. A task with a dedup key: as a name, for a window of time, and the answer is the first task.

All of this is in the transaction that writes the task: of two fronts with the same key at the same instant one waits
for the other's commit, and then finds the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.book.connection import Connection, Row
from taskqueue.http.book.rows import WEBHOOK, origin_of, spec_json
from taskqueue.http.ids import new_task_ids
from taskqueue.http.states import TaskState
from taskqueue.http.task_spec import TaskSpec


class Taken(Enum):
    """What became of a task that was sent."""

    NEW = "new"
    REPLAYED = "replayed"
    """The same request was taken before, with the same Idempotency-Key."""
    KEY_REUSED = "key-reused"
    """Another request was taken before, with this Idempotency-Key."""
    NAME_TAKEN = "name-taken"
    DUPLICATE = "duplicate"
    """A task with this dedup key was taken before, within the window."""


@dataclass(frozen=True, slots=True)
class Key:
    """An Idempotency-Key."""

    scope: str
    """Whose key it is: token and queue."""
    key: str
    fingerprint: str
    """Of the request: equal for equal requests."""
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A task to be taken."""

    spec: TaskSpec
    name_ttl_ms: int
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer of the book."""

    taken: Taken
    task_id: str
    """Of the new task, or of the one that was there."""
    due_ms: int = 0
    """When a new one is due."""
    created_ms: int = 0
    """When a new one was taken."""


_INSERT = (
    "INSERT INTO tasks (id, queue, worker_type, state, due_ms, created_ms, scheduled_ms, expires_ms, url, origin, name,"
    " handout, begun, attempts, responses, crashes, cancel_requested, spec, body) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, ?, ?)"
)


def enqueue(transaction: Transaction, wanted: Sequence[Wanted]) -> list[Receipt]:
    """Take tasks; gives a receipt for each."""
    connection, now_ms = transaction.connection, transaction.now_ms
    rows: list[Row] = []
    receipts: list[Receipt] = []
    for each, task_id in zip(wanted, new_task_ids(now_ms, len(wanted)), strict=True):
        spec = each.spec
        if each.key is not None or spec.name is not None or spec.dedup_key is not None:
            known = _known(connection, each, task_id, now_ms)
            if known is not None:
                receipts.append(known)
                continue
        due_ms = spec.at_ms if spec.at_ms is not None else now_ms + spec.delay_ms
        state = TaskState.SCHEDULED if due_ms > now_ms else TaskState.READY
        worker_type = WEBHOOK if spec.worker_type is None else spec.worker_type
        rows.append(
            (task_id, spec.queue, worker_type, state.value, due_ms, now_ms, due_ms, spec.expires_ms(now_ms), spec.url,
             origin_of(spec.url), spec.name, spec_json(spec), spec.body)
        )  # fmt: skip
        receipts.append(Receipt(Taken.NEW, task_id, due_ms, now_ms))
    connection.many(_INSERT, rows)
    return receipts


def add_lanes(connection: Connection, lanes: Sequence[tuple[str, str]]) -> None:
    """Remember that these queues have, or had, tasks of these worker types: (queue, worker type)."""
    connection.many("INSERT INTO lanes (queue, worker_type) VALUES (?, ?) ON CONFLICT DO NOTHING", lanes)


def _known(connection: Connection, wanted: Wanted, task_id: str, now_ms: int) -> Receipt | None:
    """The receipt of a task that is not to be written, since one of its keys is there; None after its keys are."""
    spec, key = wanted.spec, wanted.key
    if key is not None:
        found = _claim_key(connection, key, task_id, now_ms)
        if found is not None:
            return found
    refused: Receipt | None = None
    if spec.name is not None:
        first = _claim_name(connection, "name", spec.queue, spec.name, task_id, now_ms, None, wanted.name_ttl_ms)
        refused = Receipt(Taken.NAME_TAKEN, first) if first else None
    if refused is None and spec.dedup_key is not None:
        window_ms = wanted.name_ttl_ms if spec.dedup_window_s is None else int(spec.dedup_window_s * 1000)
        until_ms = now_ms + window_ms
        first = _claim_name(connection, "dedup", spec.queue, spec.dedup_key, task_id, now_ms, until_ms, window_ms)
        refused = Receipt(Taken.DUPLICATE, first) if first else None
        if refused is not None and spec.name is not None:
            connection.run(
                "DELETE FROM names WHERE kind = 'name' AND queue = ? AND name = ? AND task_id = ?",
                spec.queue, spec.name, task_id,
            )  # fmt: skip
    if refused is not None and key is not None:
        if refused.taken is Taken.NAME_TAKEN:  # nothing was done: the key is free again
            connection.run("DELETE FROM idempotency WHERE scope = ? AND key = ?", key.scope, key.key)
        else:
            connection.run(
                "UPDATE idempotency SET task_id = ? WHERE scope = ? AND key = ?", refused.task_id, key.scope, key.key
            )
    return refused


def _claim_key(connection: Connection, key: Key, task_id: str, now_ms: int) -> Receipt | None:
    written = connection.run(
        "INSERT INTO idempotency (scope, key, fingerprint, task_id, until_ms) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (scope, key) DO UPDATE SET fingerprint = excluded.fingerprint, task_id = excluded.task_id, "
        "until_ms = excluded.until_ms WHERE idempotency.until_ms <= ?",
        key.scope, key.key, key.fingerprint, task_id, now_ms + key.ttl_ms, now_ms,
    )  # fmt: skip
    if written:
        return None
    row = connection.one("SELECT fingerprint, task_id FROM idempotency WHERE scope = ? AND key = ?", key.scope, key.key)
    assert row is not None
    return Receipt(Taken.REPLAYED if row[0] == key.fingerprint else Taken.KEY_REUSED, row[1])


def _claim_name(
    connection: Connection,
    kind: str,
    queue: str,
    name: str,
    task_id: str,
    now_ms: int,
    until_ms: int | None,
    ttl_ms: int,
) -> str | None:
    """Take a name; gives the id of the task that has it, or None. `until_ms` None: until `ttl_ms` after its end."""
    written = connection.run(
        "INSERT INTO names (kind, queue, name, task_id, until_ms, ttl_ms) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (kind, queue, name) DO UPDATE SET task_id = excluded.task_id, until_ms = excluded.until_ms, "
        "ttl_ms = excluded.ttl_ms WHERE names.until_ms <= ?",
        kind, queue, name, task_id, until_ms, ttl_ms, now_ms,
    )  # fmt: skip
    if written:
        return None
    row = connection.one("SELECT task_id FROM names WHERE kind = ? AND queue = ? AND name = ?", kind, queue, name)
    assert row is not None
    return str(row[0])
