"""`taskqueue dead drop`: removes dead letters for good. It asks first, and removes no more than it asked about."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext

import click

from taskqueue.cli.arguments.selection import COLUMNS, Selection, chosen, row, selecting
from taskqueue.cli.operator import Operator, operator_command
from taskqueue.cli.terminal.show import Column
from taskqueue.errors import BrokerUnavailable, TaskqueueError
from taskqueue.operations.broker import Broker
from taskqueue.protocol.queues import DEAD

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
    selection.check_chosen()
    with operator.broker() as broker:
        if dry_run:
            with closing(chosen(broker, selection)) as found:
                operator.show.stream(COLUMNS, (row(letter) for _, letter in found))
            return
        count = _count(broker, selection)
        if count and not yes:
            operator.confirm(f"Drop {count} dead letters for good?")
        missing = _Drop(operator, broker, selection, count).run()
    if missing:
        raise TaskqueueError(f"no such dead letter: {', '.join(sorted(missing))}")


def _count(broker: Broker, selection: Selection) -> int:
    """How many there are of those that are chosen."""
    if selection.is_open:
        counts = broker.counts(DEAD)
        return 0 if counts is None else counts.ready
    with closing(chosen(broker, selection)) as found:
        return sum(1 for _ in found)


class _Drop:
    """Drops the first `count` that are chosen."""

    def __init__(self, operator: Operator, broker: Broker, selection: Selection, count: int) -> None:
        self._show = operator.show
        self._broker = broker
        self._interrupts = operator.interrupts
        self._selection = selection
        self._count = count
        self._quiet = self._show.on_terminal and not self._show.as_json
        self._dropped = 0

    def run(self) -> set[str]:
        """The ids that there were no letters of."""
        missing = set(self._selection.ids)
        self._interrupts.deferred = True
        try:
            with self._progress() as advance, closing(chosen(self._broker, self._selection)) as found:
                while self._dropped < self._count and not self._interrupts.came and (each := next(found, None)):
                    message, letter = each
                    missing.discard(letter.message_id or "")
                    if message.take():
                        self._dropped += 1
                        advance(1)
                        if not self._quiet:
                            cells = (letter.message_id, letter.worker_type, letter.reason)
                            self._show.row(_DROPPED, cells, first=self._dropped == 1)
        except (BrokerUnavailable, KeyboardInterrupt):
            self._show.note(f"{self._dropped} dead letters were dropped at most; the last of them may be there still")
            raise
        if self._quiet or self._dropped < self._count:
            (self._show.line if self._quiet else self._show.note)(f"{self._dropped} dead letters were dropped")
        if self._interrupts.came and self._dropped < self._count:
            raise KeyboardInterrupt
        return missing

    def _progress(self) -> AbstractContextManager[Callable[[int], None]]:
        if self._quiet:
            return self._show.progress("dropping", self._count)
        return nullcontext(lambda count: None)
