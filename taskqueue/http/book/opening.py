"""Opens a connection to the book that the config names: to SQLite, or to PostgreSQL where its driver is installed."""

from __future__ import annotations

from taskqueue.config.book_url import shown
from taskqueue.errors import BookUnavailable
from taskqueue.http.book.connection import Connection
from taskqueue.http.book.sqlite import SqliteConnection


def connect(book: str, *, read_only: bool = False, visitor: bool = False) -> Connection:
    """Open `book`, `sqlite:/path` or a `postgresql://` URL; `visitor` for a command beside a front. Raises
    `BookUnavailable`, with a line for people."""
    if book.startswith("sqlite:"):
        return SqliteConnection(book.removeprefix("sqlite:"), read_only=read_only, visitor=visitor)
    try:
        from taskqueue.http.book.postgresql import PostgresqlConnection
    except ImportError as error:
        raise BookUnavailable(
            f"book {shown(book)}: {error}; install python3-psycopg, or pip install taskqueue[postgresql]"
        ) from None
    return PostgresqlConnection(book)
