"""`taskqueue dead replay`: sends dead letters back to the queues they died in, and shows how far it came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import closing, contextmanager

import click

from taskqueue.cli.arguments import value_types
from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.arguments.dead_letter_options import COLUMNS, row, selecting
from taskqueue.cli.commands.dead_edit import EditedByPerson
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.columns import Column
from taskqueue.cli.terminal.editor import Editor
from taskqueue.cli.terminal.show import Show
from taskqueue.errors import BrokerUnavailable, TaskqueueError
from taskqueue.operations.broker import Broker
from taskqueue.operations.replay import Replay, ReplayObserver, ReplayOutcome, rehearse
from taskqueue.operations.selection import NoSuchDeadLetter, Selection
from taskqueue.protocol.dead_letters import DeadLetter

_REPLAYED = (Column("id"), Column("worker_type", "type"), Column("queue"))


@click.command("replay", short_help="Send dead letters back to the queues they died in.")
@operator_command()
@selecting(all_option=True)
@click.option("--edit", is_flag=True, help="Edit each in $EDITOR first; what is not changed there stays dead.")
@click.option(
    "--rate", "rate_per_s", type=value_types.rate, metavar="RATE", help="No faster than this: 100/s, 30/m, 10/h."
)
@click.option("--dry-run", is_flag=True, help="Only list what would be replayed.")
def command(operator: Operator, selection: Selection, edit: bool, rate_per_s: float | None, dry_run: bool) -> int:
    """Replay dead letters: those with an ID, or all that fit the options; the oldest first.

    Each goes to the queue that it died in, as a workitem that begins anew, and is removed when the broker has confirmed
    it. Ctrl-C ends it between two letters. What dies meanwhile is not replayed. Those that cannot be replayed stay, and
    the exit status is 1.
    """
    if edit and dry_run:
        raise click.UsageError("--edit and --dry-run cannot be combined")
    with operator.broker() as broker:
        if dry_run:
            return _rehearse(operator, broker, selection)
        return _replay(operator, broker, selection, rate_per_s, edit)


def _rehearse(operator: Operator, broker: Broker, selection: Selection) -> int:
    """List what would be replayed; 1 where some could not be."""
    left: Counter[str] = Counter()
    missing = set(selection.ids)
    first = True
    with closing(rehearse(broker, operator.settings.amqp, selection)) as found:
        for each in found:
            missing.discard(each.letter.message_id or "")
            if each.hindrance:
                left[each.hindrance] += 1
            else:
                operator.show.row(COLUMNS, row(each.letter), first=first)
                first = False
    return _show_left(operator.show, left, missing)


def _replay(operator: Operator, broker: Broker, selection: Selection, rate_per_s: float | None, edit: bool) -> int:
    show, interrupts = operator.show, operator.interrupts
    only_count = show.on_terminal and not show.as_json and not edit
    observer = _Shown(show, only_count)
    replay = Replay(
        broker,
        operator.settings.amqp,
        selection,
        rate_per_s=rate_per_s,
        stop=lambda: interrupts.came,
        reviser=EditedByPerson(operator, Editor(broker.session)) if edit else None,
        observer=observer,
    )
    interrupts.deferred = True
    try:
        with observer.progress(replay.expected):
            outcome = replay.run()
    except (TaskqueueError, KeyboardInterrupt):
        _show_how_far(show, replay.outcome, only_count)
        raise
    status = _show_how_far(show, outcome, only_count)
    if outcome.stopped:
        raise KeyboardInterrupt
    return max(status, _show_left(show, outcome.left, outcome.missing))


class _Shown(ReplayObserver):
    """Shows each letter that is replayed or, with `only_count`, a progress bar."""

    def __init__(self, show: Show, only_count: bool) -> None:
        self._show = show
        self._only_count = only_count
        self._advance: Callable[[int], None] = lambda letters: None
        self._first = True

    @contextmanager
    def progress(self, expected: int) -> Iterator[None]:
        """For a `with` around the replay of `expected` letters."""
        if not self._only_count:
            yield
            return
        with self._show.progress("replaying", expected) as self._advance:
            yield

    def passed(self, letters: int) -> None:
        self._advance(letters)

    def replayed(self, letter: DeadLetter, queue: str) -> None:
        if not self._only_count:
            self._show.row(_REPLAYED, (letter.message_id, letter.worker_type, queue), first=self._first)
            self._first = False

    def resumed(self, error: BrokerUnavailable) -> None:
        self._show.note(f"{error}; going on")


def _show_how_far(show: Show, outcome: ReplayOutcome, only_count: bool) -> int:
    """Say how far it came; 1 where it is not known of all."""
    if only_count or outcome.stopped or outcome.doubtful:
        (show.line if only_count else show.note)(f"{outcome.replayed} dead letters were replayed")
    if outcome.stopped:
        show.note("all others are dead letters as before")
    if outcome.doubtful:
        show.note(
            f"of {outcome.doubtful} it is not known: the broker's answer did not come, or was lost with the "
            "connection. They stay dead letters; see what `taskqueue why ID` says of each before it is replayed again"
        )
    return 1 if outcome.doubtful else 0


def _show_left(show: Show, left: Mapping[str, int], missing: Set[str]) -> int:
    """Say what was not done; the exit status."""
    for why, count in left.items():
        show.note(f"{count} cannot be replayed, and {'stays' if count == 1 else 'stay'} dead: {why}")
    if missing:
        show.note(NoSuchDeadLetter(missing))
    return 1 if left or missing else 0
