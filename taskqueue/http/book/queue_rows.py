"""The queues of tasks as rows: their rules, whether they are paused, and where they come from.

A queue of config.ini is written at each start and reload: the last load wins. One that left the file belongs to the API
from then on. `default` always exists.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from taskqueue.config.http_settings import QueueSettings, RetrySettings
from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.book.changing import remove_all
from taskqueue.http.book.connection import Connection
from taskqueue.http.book.rows import encode

CONFIG, API = "config", "api"
"""Where a queue comes from."""

DEFAULT = "default"
QUEUE_LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue in the book."""

    settings: QueueSettings
    source: str
    """`CONFIG` or `API`."""
    paused: bool
    created_ms: int


@dataclass(frozen=True, slots=True)
class Counts:
    """The tasks of a queue by state, and since when the oldest that is due has waited."""

    ready: int = 0
    scheduled: int = 0
    running: int = 0
    retrying: int = 0
    dead: int = 0
    oldest_ready_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Lanes:
    """The queues, and the worker types of the tasks that each has, or had."""

    queues: Mapping[str, Queue]
    lanes: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    """(queue, worker type)."""


def load(transaction: Transaction) -> Lanes:
    """Every queue, and every lane."""
    rows = transaction.connection.all("SELECT settings, source, paused, created_ms FROM queues ORDER BY name")
    queues = {queue.settings.name: queue for queue in map(_queue, rows)}
    lanes = transaction.connection.all("SELECT queue, worker_type FROM lanes")
    return Lanes(queues, frozenset((queue, worker_type) for queue, worker_type in lanes))


def take_config(transaction: Transaction, queues: Sequence[QueueSettings], config_hash: str) -> None:
    """Write the queues of config.ini; those that left it belong to the API."""
    connection, now_ms = transaction.connection, transaction.now_ms
    for settings in queues:
        _write(connection, settings, CONFIG, config_hash, now_ms)
    names = {settings.name for settings in queues}
    for (name,) in connection.all("SELECT name FROM queues WHERE source = ?", CONFIG):
        if name not in names:
            connection.run("UPDATE queues SET source = ?, config_hash = NULL WHERE name = ?", API, name)
    if DEFAULT not in names:
        make(transaction, QueueSettings(DEFAULT))


def make(transaction: Transaction, settings: QueueSettings) -> bool:
    """Make a queue by the API; False where there is one of that name, or too many."""
    connection = transaction.connection
    count = connection.one("SELECT count(*) FROM queues")
    if count is not None and count[0] >= QUEUE_LIMIT:
        return False
    return bool(
        connection.run(
            "INSERT INTO queues (name, source, settings, paused, created_ms, changed_ms) VALUES (?, ?, ?, 0, ?, ?) "
            "ON CONFLICT (name) DO NOTHING",
            settings.name, API, settings_json(settings), transaction.now_ms, transaction.now_ms,
        )
    )  # fmt: skip


def change(transaction: Transaction, settings: QueueSettings) -> bool:
    """Give a queue of the API other rules; False where there is none."""
    return bool(
        transaction.connection.run(
            "UPDATE queues SET settings = ?, changed_ms = ? WHERE name = ? AND source = ?",
            settings_json(settings), transaction.now_ms, settings.name, API,
        )
    )  # fmt: skip


def pause(transaction: Transaction, name: str, paused: bool) -> bool:
    """Pause or resume a queue; False where there is none."""
    return bool(
        transaction.connection.run(
            "UPDATE queues SET paused = ?, changed_ms = ? WHERE name = ?", int(paused), transaction.now_ms, name
        )
    )


def delete(transaction: Transaction, name: str) -> int:
    """Delete a queue of the API with its tasks, a step at a time; gives how many tasks went, 0 when all is done."""
    connection = transaction.connection
    connection.run("DELETE FROM queues WHERE name = ? AND source = ?", name, API)
    gone = remove_all(transaction, name)
    if not gone:
        connection.run("DELETE FROM lanes WHERE queue = ?", name)
    return gone


def counts(transaction: Transaction, name: str) -> Counts:
    """How many tasks of a queue are in which state."""
    connection, now_ms = transaction.connection, transaction.now_ms
    row = connection.one(
        "SELECT COALESCE(SUM(CASE WHEN due_ms <= ? THEN 1 ELSE 0 END), 0),"
        " COALESCE(SUM(CASE WHEN due_ms > ? AND state <> 'retrying' THEN 1 ELSE 0 END), 0),"
        " COALESCE(SUM(CASE WHEN due_ms > ? AND state = 'retrying' THEN 1 ELSE 0 END), 0), MIN(due_ms) "
        "FROM tasks WHERE queue = ? AND due_ms IS NOT NULL",
        now_ms, now_ms, now_ms, name,
    )  # fmt: skip
    running = connection.one("SELECT count(*) FROM tasks WHERE queue = ? AND watch_ms IS NOT NULL", name)
    dead = connection.one("SELECT count(*) FROM tasks WHERE queue = ? AND state = 'dead'", name)
    assert row is not None and running is not None and dead is not None
    oldest = row[3] if row[3] is not None and row[3] <= now_ms else None
    return Counts(int(row[0]), int(row[1]), running[0], int(row[2]), dead[0], oldest)


def settings_json(settings: QueueSettings) -> str:
    """The column `settings`."""
    return encode(asdict(settings))


def config_hash(queues: Sequence[QueueSettings]) -> str:
    """Names the queues of a config: fronts that differ are named by `doctor`."""
    text = "\n".join(settings_json(queue) for queue in sorted(queues, key=lambda queue: queue.name))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def settings_from(text: str) -> QueueSettings:
    """Back from `settings_json`; what a newer version wrote, and this one does not know, is left out."""
    data: dict[str, Any] = json.loads(text)
    retry = {key: value for key, value in data.pop("retry", {}).items() if key in RetrySettings.__slots__}
    known = {key: value for key, value in data.items() if key in QueueSettings.__slots__}
    known["permanent_statuses"] = tuple(known.get("permanent_statuses", (410,)))
    return QueueSettings(**known, retry=RetrySettings(**retry))


def _write(connection: Connection, settings: QueueSettings, source: str, config_hash: str | None, now_ms: int) -> None:
    connection.run(
        "INSERT INTO queues (name, source, config_hash, settings, paused, created_ms, changed_ms) "
        "VALUES (?, ?, ?, ?, 0, ?, ?) ON CONFLICT (name) DO UPDATE SET source = excluded.source, "
        "config_hash = excluded.config_hash, settings = excluded.settings, changed_ms = excluded.changed_ms",
        settings.name, source, config_hash, settings_json(settings), now_ms, now_ms,
    )  # fmt: skip


def _queue(row: tuple[Any, ...]) -> Queue:
    return Queue(settings_from(row[0]), row[1], bool(row[2]), row[3])
