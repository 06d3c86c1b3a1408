"""The tables of the book, their versions, and how an empty book is made. One text for SQLite and PostgreSQL.

1. A front opens a book without tables: `prepare` makes them, under a lock, and gives the book its random id.
2. A book of this version is served. One of the version before waits for `taskqueue http migrate`; any other is refused.

A version is an entry of `VERSIONS`: the statements that lead to it from the one before. An entry is never changed once
it was released. Times are Unix time in milliseconds.
"""

from __future__ import annotations

from taskqueue.errors import BookMismatch
from taskqueue.http.book.connection import Connection
from taskqueue.http.ids import new_identity

_FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE queues (
    name TEXT PRIMARY KEY, source TEXT NOT NULL, config_hash TEXT, settings TEXT NOT NULL, paused INTEGER NOT NULL,
    created_ms BIGINT NOT NULL, changed_ms BIGINT NOT NULL, tokens DOUBLE PRECISION, tokens_ms BIGINT);
CREATE TABLE lanes (queue TEXT NOT NULL, worker_type TEXT NOT NULL, PRIMARY KEY (queue, worker_type));
CREATE TABLE tasks (
    id TEXT PRIMARY KEY, queue TEXT NOT NULL, worker_type TEXT NOT NULL, state TEXT NOT NULL,
    due_ms BIGINT, watch_ms BIGINT, ended_ms BIGINT,
    created_ms BIGINT NOT NULL, scheduled_ms BIGINT NOT NULL, expires_ms BIGINT, first_ms BIGINT,
    url TEXT, origin TEXT, name TEXT,
    handout INTEGER NOT NULL, front TEXT, begun INTEGER NOT NULL,
    attempts INTEGER NOT NULL, responses INTEGER NOT NULL, crashes INTEGER NOT NULL, cancel_requested INTEGER NOT NULL,
    reason TEXT, status INTEGER, spec TEXT NOT NULL, history TEXT, result TEXT, body BYTEA);
CREATE INDEX tasks_due ON tasks (queue, worker_type, due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX tasks_running ON tasks (watch_ms, queue, worker_type) WHERE watch_ms IS NOT NULL;
CREATE INDEX tasks_claimed ON tasks (front) WHERE front IS NOT NULL;
CREATE INDEX tasks_of_queue ON tasks (queue, id);
CREATE INDEX tasks_ended ON tasks (ended_ms) WHERE ended_ms IS NOT NULL AND state <> 'dead';
CREATE INDEX tasks_with_body ON tasks (ended_ms) WHERE ended_ms IS NOT NULL AND body IS NOT NULL AND state <> 'dead';
CREATE INDEX tasks_dead ON tasks (id) WHERE state = 'dead';
CREATE INDEX tasks_dead_of_queue ON tasks (queue, id) WHERE state = 'dead';
CREATE INDEX tasks_dead_since ON tasks (ended_ms) WHERE state = 'dead';
CREATE INDEX tasks_named ON tasks (name, id) WHERE name IS NOT NULL;
CREATE INDEX tasks_expiring ON tasks (expires_ms) WHERE expires_ms IS NOT NULL AND due_ms IS NOT NULL;
CREATE TABLE names (
    kind TEXT NOT NULL, queue TEXT NOT NULL, name TEXT NOT NULL, task_id TEXT NOT NULL, until_ms BIGINT,
    ttl_ms BIGINT NOT NULL, PRIMARY KEY (kind, queue, name));
CREATE INDEX names_until ON names (until_ms) WHERE until_ms IS NOT NULL;
CREATE TABLE idempotency (
    scope TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, task_id TEXT NOT NULL, until_ms BIGINT NOT NULL,
    PRIMARY KEY (scope, key));
CREATE INDEX idempotency_until ON idempotency (until_ms);
CREATE TABLE fronts (
    id TEXT PRIMARY KEY, host TEXT NOT NULL, started_ms BIGINT NOT NULL, beat_ms BIGINT NOT NULL, version TEXT NOT NULL,
    config_hash TEXT NOT NULL);
CREATE TABLE origins (
    origin TEXT PRIMARY KEY, rest_until_ms BIGINT NOT NULL, failures INTEGER NOT NULL, opened INTEGER NOT NULL,
    window_ms BIGINT NOT NULL, window_failed INTEGER NOT NULL, window_all INTEGER NOT NULL,
    changed_ms BIGINT NOT NULL);
CREATE TABLE tokens (
    name TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, scopes TEXT NOT NULL, created_ms BIGINT NOT NULL,
    expires_ms BIGINT);
CREATE TABLE audit (
    id TEXT PRIMARY KEY, at_ms BIGINT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, detail TEXT NOT NULL)
"""

VERSIONS = (_FIRST,)
"""The statements of each version, from version 1."""

VERSION = len(VERSIONS)
"""The version that this code writes."""


def prepare(connection: Connection) -> str:
    """Make the tables of an empty book; give the id of the book. Raises `BookMismatch` for a book of another version.

    Two fronts may do it at the same instant: the lock lets one be first.
    """
    connection.begin(alone=True)
    try:
        version, book = _state(connection)
        if version is None:
            book = new_identity()
            upgrade(connection, 0)
            connection.run("INSERT INTO meta (key, value) VALUES ('book', ?)", book)
            version = VERSION
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    if version not in {VERSION, VERSION + 1}:
        raise BookMismatch(_mismatch(connection.shown, version))
    return book


def migrate(connection: Connection) -> tuple[int, int]:
    """Bring the book to this version; gives (version before, version after)."""
    connection.begin(alone=True)
    try:
        version, _book = _state(connection)
        if version is not None and not 1 <= version <= VERSION:
            raise BookMismatch(_mismatch(connection.shown, version))
        if version is None:
            connection.rollback()
            prepare(connection)
            return 0, VERSION
        upgrade(connection, version)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return version, VERSION


def version_of(connection: Connection) -> int:
    """The version of the book's tables; 0 where it has none."""
    return _state(connection)[0] or 0


def upgrade(connection: Connection, version: int) -> None:
    """Run the statements that lead from `version` to this one, inside a transaction."""
    for statements in VERSIONS[version:]:
        for statement in statements.split(";\n"):
            if statement.strip():
                connection.run(statement)
    connection.run("DELETE FROM meta WHERE key = 'version'")
    connection.run("INSERT INTO meta (key, value) VALUES ('version', ?)", str(VERSION))


def _state(connection: Connection) -> tuple[int | None, str]:
    """(version, id) of the book; None where it has no tables."""
    if not connection.has_table("meta"):
        return None, ""
    values: dict[str, str] = dict(connection.all("SELECT key, value FROM meta"))
    return int(values["version"]), values["book"]


def _mismatch(book: str, version: int) -> str:
    if version > VERSION:
        return f"book {book} has version {version}, and this front knows up to {VERSION + 1}; install a newer taskqueue"
    if version < 1:
        return f"book {book} has version {version}, which never was; restore it from a backup"
    return f"book {book} has version {version}, and this front needs {VERSION}; run: taskqueue http migrate"
