"""A book in PostgreSQL, for any number of fronts. psycopg 3, of which this module is the only user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import errors

from taskqueue.config.book_url import shown
from taskqueue.errors import BookUnavailable, Collision, CommitInDoubt
from taskqueue.http.book.connection import Connection, Row

_CONNECT_S = 5
"""Seconds to wait for the server."""
_LOCK = 0x7461736B71756575
"""The advisory lock of whoever makes or migrates the tables."""
_KEEPALIVES = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
"""A server that is gone without a word is noticed after some ten seconds."""


_AWAY = (errors.InsufficientPrivilege, errors.UndefinedTable, errors.InvalidCatalogName)
"""What a database says that is not the book it was, or not yet; beside it, psycopg's `InternalError` has what a server
says that became another's standby."""


class PostgresqlConnection(Connection):
    """The database that the URL `book` names; the schema is the user's search path's first."""

    for_update = " FOR UPDATE"
    skip_locked = " FOR UPDATE SKIP LOCKED"

    def __init__(self, book: str) -> None:
        super().__init__(shown(book))
        with self._named():
            self._db = psycopg.connect(
                book,
                autocommit=True,
                prepare_threshold=2,
                connect_timeout=_CONNECT_S,
                application_name="taskqueue-http",
                **_KEEPALIVES,  # type: ignore[arg-type]
            )
            self._cursor = self._db.cursor()

    def begin(self, *, alone: bool = False) -> None:
        with self._named():
            self._cursor.execute("BEGIN")
            if alone:
                self._cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))

    def commit(self) -> None:
        try:
            with self._named():
                self._cursor.execute("COMMIT")
        except BookUnavailable as error:
            raise CommitInDoubt(str(error)) from error

    def rollback(self) -> None:
        with suppress(psycopg.Error):
            self._cursor.execute("ROLLBACK")

    def run(self, sql: str, *values: Any) -> int:
        with self._named():
            return self._cursor.execute(_translated(sql), values).rowcount

    def all(self, sql: str, *values: Any) -> list[Row]:
        with self._named():
            return self._cursor.execute(_translated(sql), values).fetchall()

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        with self._named():
            self._cursor.executemany(_translated(sql), rows)

    def each(self, sql: str, rows: Sequence[Sequence[Any]]) -> list[Row | None]:
        if not rows:
            return []
        with self._named():
            self._cursor.executemany(_translated(sql), rows, returning=True)
            found: list[Row | None] = []
            while True:
                found.append(self._cursor.fetchone())
                if not self._cursor.nextset():
                    return found

    def has_table(self, name: str) -> bool:
        return self.one("SELECT to_regclass(?) IS NOT NULL", name) == (True,)

    def clock_ms(self) -> int | None:
        row = self.one("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
        assert row is not None
        return int(row[0])

    def close(self) -> None:
        with suppress(psycopg.Error):
            self._db.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (errors.DeadlockDetected, errors.SerializationFailure, errors.UniqueViolation) as error:
            raise Collision(f"book {self.shown}: {_reason(error)}") from error
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError, *_AWAY) as error:
            raise BookUnavailable(f"book {self.shown}: {_reason(error)}") from error


@lru_cache(512)
def _translated(sql: str) -> str:
    """`sql` with psycopg's placeholders. No statement of the book has a `?` or a `%` of another meaning."""
    return sql.replace("%", "%%").replace("?", "%s")


def _reason(error: Exception) -> str:
    """The first line that the server or libpq said."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
