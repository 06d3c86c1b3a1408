"""`taskqueue http`: what an operator does to the book of the fronts itself: tokens, and the version of its tables."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from taskqueue.cli.arguments import value_types
from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.columns import Column
from taskqueue.errors import TaskqueueError
from taskqueue.http.book import schema, tokens
from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.book.opening import connect
from taskqueue.operations.wording import moment

_COLUMNS = (
    Column("name"),
    Column("scopes"),
    Column("created", text=moment, from_width=100),
    Column("expires", text=moment),
    Column("state", styles={"expired": "bold red"}),
)


@click.group("http", short_help="Tokens of the fronts' clients, and the tables of their book.")
def command() -> None:
    """Tokens of the fronts' clients, and the tables of their book, which [http] of the config names."""


@command.command("migrate", short_help="Bring the tables of the book to this version.")
@operator_command()
def migrate(operator: Operator) -> None:
    """Bring the tables of the book to the version of this program. Fronts of this version and of the one before may
    run meanwhile. An empty book gets its tables."""
    connection = connect(operator.settings.http.book, visitor=True)
    try:
        before, after = schema.migrate(connection)
    finally:
        connection.close()
    if operator.show.as_json:
        operator.show.document({"book": connection.shown, "before": before, "after": after})
    if before == 0:
        done = f"was empty, and has the tables of version {after} now"
    else:
        done = f"has version {after} already" if before == after else f"was brought from version {before} to {after}"
    operator.show.line(f"{connection.shown} {done}")


@command.group("token", short_help="Add, list and remove tokens.")
def token() -> None:
    """Add, list and remove the tokens of clients."""


@token.command("add", short_help="Make a token, and show it once.")
@operator_command()
@click.argument("name", metavar="NAME")
@click.option("--scope", "scopes", multiple=True, required=True, metavar="SCOPE",
              help="enqueue, enqueue:QUEUE, read or manage; may be repeated.")  # fmt: skip
@click.option("--expires", "expires_s", type=value_types.duration, metavar="DURATION", help="It ends after that: 90d.")
def add(operator: Operator, name: str, scopes: tuple[str, ...], expires_s: float | None) -> None:
    """Make a token with the name NAME, and show it: nobody can see it again. Fronts know it within a second or two."""
    if tokens.NAME.fullmatch(name) is None:
        raise click.UsageError(f"name {name!r}: expected letters, digits, dots and dashes, at most 63")
    for scope in scopes:
        if tokens.SCOPE.fullmatch(scope) is None:
            raise click.UsageError(f"--scope {scope!r}: expected enqueue, enqueue:QUEUE, read or manage")
    with _book(operator) as transaction:
        expires_ms = None if expires_s is None else transaction.now_ms + int(expires_s * 1000)
        secret = tokens.add(transaction, name, frozenset(scopes), expires_ms, _who())
    if secret is None:
        raise TaskqueueError(f"there is a token {name}; remove it first, or choose another name")
    if operator.show.as_json:
        operator.show.document({"name": name, "token": secret})
    else:
        operator.show.line(secret)
        operator.show.note("keep it: it cannot be shown again")


@token.command("list", short_help="List all tokens, without their secrets.")
@operator_command()
def list_tokens(operator: Operator) -> None:
    """List all tokens, without their secrets."""
    with _book(operator) as transaction:
        found, now_ms = tokens.load(transaction).values(), transaction.now_ms
    rows = [
        [each.name, " ".join(sorted(each.scopes)), each.created_ms / 1000,
         None if each.expires_ms is None else each.expires_ms / 1000,
         "expired" if each.expires_ms is not None and each.expires_ms <= now_ms else "good"]
        for each in found
    ]  # fmt: skip
    operator.show.table(_COLUMNS, rows)
    if not rows:
        operator.show.note("there are no tokens: whoever reaches a front that is not exposed may do everything")


@token.command("remove", short_help="Take a token away.")
@operator_command()
@click.argument("name", metavar="NAME")
def remove(operator: Operator, name: str) -> None:
    """Take the token NAME away: requests with it are refused within a second or two."""
    with _book(operator) as transaction:
        gone = tokens.remove(transaction, name, _who())
    if not gone:
        raise TaskqueueError(f"there is no token {name}; taskqueue http token list shows all")
    if operator.show.as_json:
        operator.show.document({"name": name, "removed": True})
    operator.show.line(f"token {name} was removed")


@contextmanager
def _book(operator: Operator) -> Iterator[Transaction]:
    """A transaction in the book, committed at the end; an empty book gets its tables."""
    connection = connect(operator.settings.http.book, visitor=True)
    try:
        schema.prepare(connection)
        connection.begin()
        try:
            yield Transaction(connection, connection.clock_ms() or int(time.time() * 1000))
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
    finally:
        connection.close()


def _who() -> str:
    """The person at the keyboard, also behind sudo."""
    return os.environ.get("SUDO_USER") or getpass.getuser()
