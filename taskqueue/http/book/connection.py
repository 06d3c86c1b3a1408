"""One connection to the book, to SQLite or to PostgreSQL: the same few calls for both, and errors of our own.

    connection = opening.connect("sqlite:/var/lib/taskqueue/http.db")
    connection.begin()
    connection.run("UPDATE queues SET paused = 1 WHERE name = ?", "emails")
    connection.commit()

All SQL of the book is written with `?` and in the words that both have; what differs is in `sqlite` and `postgresql`. A
connection belongs to one thread. This module must never know a table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

Row = tuple[Any, ...]


class Connection(ABC):
    """An open connection. Statements raise `BookUnavailable` where the book is away, `Collision` where two
    transactions met and this one may be run again."""

    for_update = ""
    """What a SELECT ends with whose rows are changed next: it waits for others that do the same."""
    skip_locked = ""
    """The same, for rows of which others than this one will do."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        """The book as people may see it: without a password."""

    @abstractmethod
    def begin(self, *, alone: bool = False) -> None:
        """Begin a transaction that writes; with `alone`, no other front makes or migrates the book at the same time."""

    @abstractmethod
    def commit(self) -> None:
        """Commit. Raises `CommitInDoubt` where nobody knows whether it was done."""

    @abstractmethod
    def rollback(self) -> None:
        """Undo what was begun; harmless where nothing was. Never raises."""

    @abstractmethod
    def run(self, sql: str, *values: Any) -> int:
        """Run one statement; gives how many rows it changed."""

    @abstractmethod
    def all(self, sql: str, *values: Any) -> list[Row]:
        """All rows that a statement gives."""

    @abstractmethod
    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each of `rows`."""

    @abstractmethod
    def each(self, sql: str, rows: Sequence[Sequence[Any]]) -> list[Row | None]:
        """Run one statement that ends with RETURNING for each of `rows`; gives the first row of each, or None."""

    @abstractmethod
    def has_table(self, name: str) -> bool:
        """Whether there is a table of that name."""

    @abstractmethod
    def clock_ms(self) -> int | None:
        """The book's own clock, Unix time in milliseconds; None where it is this host's."""

    @abstractmethod
    def close(self) -> None:
        """Close; never raises."""

    def one(self, sql: str, *values: Any) -> Row | None:
        """The first row that a statement gives, or None."""
        rows = self.all(sql, *values)
        return rows[0] if rows else None
