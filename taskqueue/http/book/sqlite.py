"""A book in SQLite, for one front process on one host: WAL, and every commit is on the disk when it returns.

One connection writes, and checkpoints: SQLite before 3.51.3 can lose commits where two do (its "WAL-reset" bug, see
design-http, section 3). Others only read.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from taskqueue.errors import BookUnavailable
from taskqueue.http.book.connection import Connection, Row

_BUSY_MS = 5_000
"""Milliseconds to wait for another process that writes: a `taskqueue http` command, never a second front."""
_STATEMENTS = 256
"""Statements that are kept prepared."""


class SqliteConnection(Connection):
    """The file at `path`, made where there is none, mode 0600. A `visitor` writes beside a front, and never
    checkpoints."""

    def __init__(self, path: str, *, read_only: bool = False, visitor: bool = False) -> None:
        super().__init__(f"sqlite:{path}")
        self._begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        with self._named():
            if read_only:
                Path(path).stat()  # SQLite's own words for a missing file help nobody
            else:
                _make_file(Path(path))
            uri = f"{Path(path).absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
            self._db = sqlite3.connect(
                uri, uri=True, isolation_level=None, cached_statements=_STATEMENTS, check_same_thread=False
            )
            self._db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            if not read_only:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA journal_size_limit = 67108864")
                if visitor:
                    self._db.execute("PRAGMA wal_autocheckpoint = 0")
            else:
                self._db.execute("PRAGMA query_only = ON")
            self._db.execute("PRAGMA cache_size = -16384")
            self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def begin(self, *, alone: bool = False) -> None:
        with self._named():
            self._db.execute(self._begin)

    def commit(self) -> None:
        with self._named():
            self._db.execute("COMMIT")

    def rollback(self) -> None:
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def run(self, sql: str, *values: Any) -> int:
        with self._named():
            return self._db.execute(sql, values).rowcount

    def all(self, sql: str, *values: Any) -> list[Row]:
        with self._named():
            return self._db.execute(sql, values).fetchall()

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        with self._named():
            self._db.executemany(sql, rows)

    def each(self, sql: str, rows: Sequence[Sequence[Any]]) -> list[Row | None]:
        with self._named():
            return [self._db.execute(sql, row).fetchone() for row in rows]

    def has_table(self, name: str) -> bool:
        return self.one("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", name) is not None

    def clock_ms(self) -> int | None:
        return None

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._db.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise
            raise BookUnavailable(f"book {self.shown}: {_reason(error)}") from error


def _make_file(path: Path) -> None:
    """Make an empty file that only its owner may read: SQLite would make it with the umask's mode. What root makes is
    of the owner of the directory, as the front must be able to write it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        fd = os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        os.close(os.open(path, flags, 0o600))
        return
    try:
        if os.geteuid() == 0:
            directory = path.parent.stat()
            os.fchown(fd, directory.st_uid, directory.st_gid)
    finally:
        os.close(fd)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
