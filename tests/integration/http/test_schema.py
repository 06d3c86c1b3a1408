"""The tables of the book: made in an empty one, migrated step by step, and which versions are served."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from taskqueue.errors import BookMismatch
from taskqueue.http.book import schema
from taskqueue.http.book.connection import Connection
from taskqueue.http.book.opening import connect

V = schema.VERSION


@pytest.fixture
def book(book_url: str) -> Iterator[Connection]:
    """A connection to an empty book."""
    connection = connect(book_url)
    yield connection
    connection.close()


def pretend(connection: Connection, version: int) -> None:
    """Make it a book of another version."""
    connection.run("UPDATE meta SET value = ? WHERE key = 'version'", str(version))


def test_migrate_makes_the_tables_of_an_empty_book_and_then_does_nothing(book: Connection) -> None:
    assert schema.version_of(book) == 0
    assert schema.migrate(book) == (0, V)
    identity = schema.prepare(book)
    assert schema.migrate(book) == (V, V) and schema.version_of(book) == V
    assert schema.prepare(book) == identity and len(identity) == 12


def test_ten_that_come_at_once_make_one_book(book_url: str) -> None:
    def come(number: int) -> str:
        connection = connect(book_url)
        try:
            return schema.prepare(connection)
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(come, range(10)))) == 1


def test_a_front_serves_its_version_and_the_next(book: Connection) -> None:
    identity = schema.prepare(book)
    pretend(book, V + 1)
    assert schema.prepare(book) == identity
    for version, told in ((V + 2, "install a newer taskqueue"), (0, "never was"), (-1, "never was")):
        pretend(book, version)
        with pytest.raises(BookMismatch, match=told) as raised:
            schema.prepare(book)
        assert f"has version {version}" in str(raised.value) and "\n" not in str(raised.value)


def test_migrate_leaves_a_newer_book_alone(book: Connection) -> None:
    schema.prepare(book)
    for version in (V + 1, V + 2, 0):
        pretend(book, version)
        with pytest.raises(BookMismatch, match=f"has version {version}"):
            schema.migrate(book)
        assert book.all("SELECT value FROM meta WHERE key = 'version'") == [(str(version),)]


def test_the_next_version_is_reached_in_one_transaction(book: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = schema.prepare(book)
    broken = "ALTER TABLE tasks ADD COLUMN later TEXT;\nINSERT INTO nowhere VALUES (1)"
    monkeypatch.setattr(schema, "VERSION", V + 1)
    monkeypatch.setattr(schema, "VERSIONS", (*schema.VERSIONS, broken))
    with pytest.raises(BookMismatch, match="taskqueue http migrate"):
        schema.prepare(book)
    with pytest.raises(Exception, match="nowhere"):
        schema.migrate(book)
    assert schema.version_of(book) == V, "nothing of it was done"
    monkeypatch.setattr(schema, "VERSIONS", (*schema.VERSIONS[:-1], broken.partition(";")[0]))
    assert schema.migrate(book) == (V, V + 1)
    assert book.all("SELECT later FROM tasks") == []
    assert schema.prepare(book) == identity
