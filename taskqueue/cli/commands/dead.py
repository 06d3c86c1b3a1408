"""`taskqueue dead`, and of its subcommands `list` and `show`: they look at dead letters, and must never take one."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import click

from taskqueue.amqp import Delivery
from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.arguments.dead_letter_options import COLUMNS, row, selecting
from taskqueue.cli.commands import dead_drop, dead_replay
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.columns import Column
from taskqueue.operations.selection import NoSuchDeadLetter, Selection, chosen
from taskqueue.operations.wording import moment
from taskqueue.protocol.dead_letters import DEAD_HEADERS, DeadLetter
from taskqueue.protocol.properties import Properties, clean

_BODY_ON_TERMINAL = 20_000
"""Bytes of a body that a terminal shows; a pipe gets all of it."""


@click.group("dead", short_help="List, show, replay and drop dead letters.")
def command() -> None:
    """List, show, replay and drop dead letters: workitems that were given up, in the queue taskqueue_dead.

    Reasons: malformed, unknown-format, too-large (the dispatcher could not read it); failed, rejected, crashed, timeout
    (its worker); expired, delivery-limit (the broker).

    Tasks that fronts took over HTTP make none: taskqueue tasks list --state dead shows those that are dead.
    """


@command.command("list", short_help="List dead letters, the oldest first.")
@operator_command()
@selecting(all_option=False)
@click.option("--summary", is_flag=True, help="Only how many there are of each type and reason.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="No more than N.")
def list_command(operator: Operator, selection: Selection, summary: bool, limit: int | None) -> None:
    """List dead letters: those with an ID, or all that fit the options; the oldest first.

    Nothing is taken, however often it is asked. With --json an object a line.
    """
    if summary and limit is not None:
        raise click.UsageError("--summary and --limit cannot be combined")
    with operator.broker() as broker, closing(chosen(broker, selection)) as found:
        if summary:
            _summarise(operator, (letter for _, letter in found))
            return
        for number, (_, letter) in enumerate(found, start=1):
            operator.show.row(COLUMNS, row(letter), first=number == 1)
            if number == limit:
                break


def _summarise(operator: Operator, letters: Iterator[DeadLetter]) -> None:
    counted: Counter[tuple[str | None, str | None]] = Counter()
    oldest: dict[tuple[str | None, str | None], float] = {}
    for letter in letters:
        key = (letter.worker_type, letter.reason)
        counted[key] += 1
        if letter.died_at is not None:
            oldest[key] = min(oldest.get(key, letter.died_at), letter.died_at)
    columns = (
        Column("worker_type", "type"),
        Column("reason", style="red"),
        Column("count", right=True),
        Column("oldest_at", "oldest", text=moment),
    )
    operator.show.table(columns, ((*key, count, oldest.get(key)) for key, count in counted.most_common()))


@command.command("show", short_help="Show all that dead letters say: why, headers, body.")
@operator_command()
@selecting(all_option=True)
def show_command(operator: Operator, selection: Selection) -> None:
    """Show dead letters in full: why they died with the traceback, their properties and headers, their bodies.

    With --json an object a line; a body that is not UTF-8 is in body_base64.
    """
    missing = set(selection.ids)
    with operator.broker() as broker, closing(chosen(broker, selection)) as found:
        for number, (message, letter) in enumerate(found):
            missing.discard(letter.message_id or "")
            if number and not operator.show.as_json:
                operator.show.line("")
            _show(operator, message.delivery, letter)
    if missing:
        raise NoSuchDeadLetter(missing)


def _show(operator: Operator, delivery: Delivery, letter: DeadLetter) -> None:
    show, properties, body = operator.show, delivery.properties, delivery.body
    headers = {name: value for name, value in clean(properties.headers, own=False).items() if name not in DEAD_HEADERS}
    others = {
        name: value
        for name in Properties._fields
        if name not in ("headers", "message_id") and (value := getattr(properties, name)) is not None
    }
    if show.as_json:
        cells: dict[str, Any] = {column.key: cell for column, cell in zip(COLUMNS, row(letter), strict=True)}
        show.document({**cells, "properties": others, "headers": headers, **_body_in_json(body)})
        return
    fields = {
        "id": letter.message_id,
        "type": letter.worker_type,
        "reason": letter.reason,
        "died": None if letter.died_at is None else moment(letter.died_at),
        "queue": letter.queue,
        "host": letter.host,
        **others,
        **{f"header {name}": value for name, value in headers.items()},
        "body": f"{len(body)} bytes",
    }
    if delivery.fault:
        fields["not readable"] = delivery.fault
    show.fields(fields)
    if letter.detail:
        show.line("")
        show.lines(letter.detail.rstrip(), style="red")
    if body:
        show.line("")
        shown = body[:_BODY_ON_TERMINAL] if show.on_terminal else body
        show.value(shown)
        if len(shown) < len(body):
            show.note(f"{len(body) - len(shown)} more bytes are not shown on a terminal")
        elif not show.on_terminal and not body.endswith(b"\n"):
            show.line("")


def _body_in_json(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": b64encode(body).decode()}


command.add_command(dead_replay.command)
command.add_command(dead_drop.command)
