"""`taskqueue dead drop`: removes dead letters for good. It asks first, and removes no more than it asked about."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext

import click

from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.arguments.dead_letter_options import COLUMNS, row, selecting
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.columns import Column
from taskqueue.errors import BrokerUnavailable
from taskqueue.operations.broker import Broker
from taskqueue.operations.drop import drop
from taskqueue.operations.selection import NoSuchDeadLetter, Selection, chosen, count

_DROPPED = (Column("id"), Column("worker_type", "type"), Column("reason"))


@click.command("drop", short_help="Remove dead letters for good.")
@operator_command()
@selecting(all_option=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only list what would be dropped.")
def command(operator: Operator, selection: Selection, yes: bool, dry_run: bool) -> None:
    """Drop dead letters: those with an ID, or all that fit the options; the oldest first. It asks before.

    Nothing brings them back. What dies while it asks is not dropped. Ctrl-C ends it between two letters.
    """
    with operator.broker() as broker:
        if dry_run:
            with closing(chosen(broker, selection)) as found:
                operator.show.stream(COLUMNS, (row(letter) for _, letter in found))
            return
        limit = count(broker, selection)
        if limit and not yes:
            operator.confirm(f"Drop {limit} dead letters for good?")
        missing = _drop(operator, broker, selection, limit)
    if missing:
        raise NoSuchDeadLetter(missing)


def _drop(operator: Operator, broker: Broker, selection: Selection, limit: int) -> set[str]:
    """Drop the first `limit` that are chosen; the ids that no letter has."""
    show, interrupts = operator.show, operator.interrupts
    only_count = show.on_terminal and not show.as_json
    missing = set(selection.ids)
    dropped = 0
    interrupts.deferred = True
    try:
        with (
            _progress(operator, limit, only_count) as advance,
            closing(drop(broker, selection, limit, stop=lambda: interrupts.came)) as letters,
        ):
            for dropped, letter in enumerate(letters, start=1):
                missing.discard(letter.message_id or "")
                advance(1)
                if not only_count:
                    cells = (letter.message_id, letter.worker_type, letter.reason)
                    show.row(_DROPPED, cells, first=dropped == 1)
    except (BrokerUnavailable, KeyboardInterrupt):
        show.note(f"{dropped} dead letters were dropped at most; the last of them may be there still")
        raise
    if only_count or dropped < limit:
        (show.line if only_count else show.note)(f"{dropped} dead letters were dropped")
    if interrupts.came and dropped < limit:
        raise KeyboardInterrupt
    return missing


def _progress(operator: Operator, limit: int, shown: bool) -> AbstractContextManager[Callable[[int], None]]:
    return operator.show.progress("dropping", limit) if shown else nullcontext(lambda count: None)
