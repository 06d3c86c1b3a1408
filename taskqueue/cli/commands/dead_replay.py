"""`taskqueue dead replay`: sends dead letters back to the queues they died in; each is removed once that is confirmed.

Never lost, never twice: a letter without a confirm stays where it is. Of what was under way when the connection was cut
nobody knows whether it arrived: that is left, too, and said. It must never publish again what may have arrived.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Set
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial

import click

from taskqueue.amqp import Delivery, Published
from taskqueue.cli.arguments import editing, parameters
from taskqueue.cli.arguments.editing import Editor, Workitem
from taskqueue.cli.arguments.selection import COLUMNS, Destinations, Selection, chosen, row, selecting
from taskqueue.cli.operator import Operator, operator_command
from taskqueue.cli.terminal.show import Column, Show
from taskqueue.errors import BrokerUnavailable, TaskqueueError
from taskqueue.operations.broker import Broker
from taskqueue.operations.reading import Message
from taskqueue.protocol.dead_letters import DeadLetter, for_replay, read_dead_letter
from taskqueue.protocol.queues import DEAD, Queue

_WINDOW = 200
"""Letters under way without a confirm: so many, at most, are in doubt when the connection is cut."""
_KEPT = 20_000
"""Of the letters that were replayed last, so many are remembered: where the connection was cut the broker may not have
read their acks, or have kept them for when the queue would be less busy, and forgotten them."""
_ANSWER_S = 1.0

_REPLAYED = (Column("id"), Column("worker_type", "type"), Column("queue"))

_Key = tuple[str | None, float | None, str | None]


@click.command("replay", short_help="Send dead letters back to the queues they died in.")
@operator_command()
@selecting(all_option=True)
@click.option("--edit", is_flag=True, help="Edit each in $EDITOR first; what is not changed there stays dead.")
@click.option("--rate", "rate_s", type=parameters.rate, metavar="RATE", help="No faster than this: 100/s, 30/m, 10/h.")
@click.option("--dry-run", is_flag=True, help="Only list what would be replayed.")
def command(operator: Operator, selection: Selection, edit: bool, rate_s: float | None, dry_run: bool) -> int:
    """Replay dead letters: those with an ID, or all that fit the options; the oldest first.

    Each goes to the queue that it died in, as a workitem that begins anew, and is removed when the broker has confirmed
    it. Ctrl-C ends it between two letters. What dies meanwhile is not replayed. Those that cannot be replayed stay, and
    the exit status is 1.
    """
    selection.check_chosen()
    if edit and dry_run:
        raise click.UsageError("--edit and --dry-run cannot be combined")
    with operator.broker() as broker:
        if dry_run:
            return _rehearse(operator, broker, selection)
        return _Replay(operator, broker, selection, rate_s, Editor(broker.session) if edit else None).run()


def _rehearse(operator: Operator, broker: Broker, selection: Selection) -> int:
    """List what would be replayed; 1 where some could not be."""
    destinations = Destinations(broker, operator.settings.amqp)
    left: Counter[str] = Counter()
    first = True
    missing = set(selection.ids)
    with closing(chosen(broker, selection)) as found:
        for message, letter in found:
            missing.discard(letter.message_id or "")
            if why := _hindrance(message.delivery.fault, letter.queue, destinations):
                left[why] += 1
            else:
                operator.show.row(COLUMNS, row(letter), first=first)
                first = False
    return _tell_left(operator.show, left, missing)


def _hindrance(fault: str, queue: str | None, destinations: Destinations) -> str | None:
    """Why a letter cannot be replayed."""
    if fault:
        return fault
    if not queue:
        return "it does not say which queue it died in"
    return None if destinations.of(queue) else f"there is no queue {queue} to send it to"


def _tell_left(show: Show, left: Counter[str], missing: Set[str]) -> int:
    """Say what was not done; the exit status."""
    for why, count in left.items():
        show.note(f"{count} cannot be replayed, and {'stays' if count == 1 else 'stay'} dead: {why}")
    if missing:
        show.note(f"no such dead letter: {', '.join(sorted(missing))}")
    return 1 if left or missing else 0


class _Replay:
    """One run of the command. It goes through the queue again where the connection was lost on the way."""

    def __init__(
        self, operator: Operator, broker: Broker, selection: Selection, rate_s: float | None, editor: Editor | None
    ) -> None:
        self._show = operator.show
        self._broker = broker
        self._interrupts = operator.interrupts
        self._session = broker.session
        self._selection = selection
        self._pause_s = 0.0 if rate_s is None else 1 / rate_s
        self._next_at = time.monotonic()
        self._editor = editor
        self._destinations = Destinations(broker, operator.settings.amqp)
        self._quiet = self._show.on_terminal and not self._show.as_json and editor is None
        counts = broker.counts(DEAD)
        self._expected = 0 if counts is None else counts.ready
        """How many dead letters there were when it began; none behind them is touched."""
        self._passed = 0
        """How many it has gone through, for the progress bar."""
        self._missing = set(selection.ids)
        self._under_way: dict[Message, _Key] = {}
        self._replayed = 0
        self._recent: OrderedDict[_Key, None] = OrderedDict()
        self._left: Counter[str] = Counter()
        self._doubtful: set[_Key] = set()

    def run(self) -> int:
        """The exit status."""
        self._interrupts.deferred = True
        try:
            with self._progress() as advance:
                while not self._pass(advance):
                    pass
        except (TaskqueueError, KeyboardInterrupt):
            self._tell()
            raise
        status = self._tell()
        if self._interrupts.came and self._passed < self._expected:
            raise KeyboardInterrupt
        return max(status, _tell_left(self._show, self._left, self._missing))

    def _progress(self) -> AbstractContextManager[Callable[[int], None]]:
        if self._quiet:
            return self._show.progress("replaying", self._expected)
        return nullcontext(lambda count: None)

    def _tell(self) -> int:
        """Say how far it came; 1 where it is not known of all."""
        doubtful = len({*self._doubtful, *self._under_way.values()})
        ended = self._interrupts.came and self._passed < self._expected
        if self._quiet or ended or doubtful:
            text = f"{self._replayed} dead letters were replayed"
            (self._show.line if self._quiet else self._show.note)(text)
        if ended:
            self._show.note("all others are dead letters as before")
        if doubtful:
            self._show.note(
                f"of {doubtful} it is not known: the broker's answer did not come, or was lost with the connection. "
                "They stay dead letters; see what `taskqueue why ID` says of each before it is replayed again"
            )
        return 1 if doubtful else 0

    # -- through the queue

    def _pass(self, advance: Callable[[int], None]) -> bool:
        """Go through what is left of the dead letters; False where it is to be done again."""
        before = self._replayed
        self._left.clear()
        try:
            with self._broker.read(DEAD) as reading:
                passed = self._replayed
                for message in reading:
                    if passed == self._expected or self._interrupts.came:
                        break
                    if self._look_at(message):
                        passed += 1
                        if passed > self._passed:
                            self._passed = passed
                            advance(1)
                self._settle(0)
        except BrokerUnavailable as error:
            # that the connection was lost is told in the next turn; of what has no answer even then nothing is known
            self._session.wait(lambda: not self._under_way, time.monotonic() + _ANSWER_S)
            if self._under_way or self._replayed == before or self._interrupts.came:
                raise
            self._show.note(f"{error}; going on")
            return False
        return True

    def _look_at(self, message: Message) -> bool:
        """Replay a letter where it is to be; False where it was not there to be looked at."""
        delivery, letter = message.delivery, read_dead_letter(message.properties)
        key = (letter.message_id, letter.died_at, letter.queue)
        if not delivery.held:
            return False
        if delivery.redelivered and letter.message_id and key in self._recent:
            message.take()  # replayed, and its ack was lost with the connection
            return False
        if self._selection.takes(letter) and key not in self._doubtful:
            self._missing.discard(letter.message_id or "")
            workitem = Workitem(letter.queue or "", for_replay(delivery.properties), delivery.body)
            if self._editor is not None:
                return self._edit(self._editor, message, letter, key, workitem)
            return self._replay(message, letter, key, workitem, delivery.fault)
        return True

    def _edit(self, editor: Editor, message: Message, letter: DeadLetter, key: _Key, workitem: Workitem) -> bool:
        """Have it edited, again and again until it can be replayed. What a person wrote is not lost."""
        before = text = editing.written(workitem)
        while True:
            text, path = editor.edit(text)
            if text == before:
                self._show.note(f"{letter.message_id}: not changed, and stays dead")
                path.unlink()
                return True
            try:
                edited = editing.parsed(text, workitem)
                if why := _hindrance("", edited.queue, self._destinations):
                    raise editing.NotALetter(why)
            except editing.NotALetter as error:
                self._show.note(f"{letter.message_id}: {error}; what was written is in {path}")
                if not self._edit_again():
                    return True
                path.unlink()
                continue
            replayed = self._replayed
            self._replay(message, letter, key, edited, "")
            self._settle(0)
            if self._replayed > replayed:
                path.unlink()
            else:
                self._show.note(f"{letter.message_id}: not replayed; what was written is in {path}")
            return True

    def _edit_again(self) -> bool:
        self._interrupts.at_once = True
        again = click.confirm("Edit it again?", default=True, err=True)
        self._interrupts.at_once = False
        return again

    def _replay(self, message: Message, letter: DeadLetter, key: _Key, workitem: Workitem, fault: str) -> bool:
        if why := _hindrance(fault, workitem.queue, self._destinations):
            self._left[why] += 1
            return True
        queue = self._destinations.of(workitem.queue)
        assert queue is not None
        self._pace(message.delivery)
        if not self._session.declarer.knows(queue.name):
            self._session.have(queue, self._session.deadline())
        if self._interrupts.came or not message.delivery.held:
            return False
        message.claim()
        self._under_way[message] = key
        self._session.publisher.publish(
            queue.name, workitem.properties, workitem.body, partial(self._answered, message, letter, key, queue)
        )
        self._settle(_WINDOW - 1)
        return True

    def _pace(self, delivery: Delivery) -> None:
        if self._pause_s:
            self._session.wait(lambda: self._interrupts.came or not delivery.held, self._next_at)
            self._next_at = max(self._next_at, time.monotonic() - self._pause_s) + self._pause_s

    def _settle(self, left: int) -> None:
        """Wait until at most `left` letters have no answer."""
        if not self._session.wait(lambda: len(self._under_way) <= left, self._session.deadline()):
            self._session.unavailable()

    def _answered(self, message: Message, letter: DeadLetter, key: _Key, queue: Queue, published: Published) -> None:
        del self._under_way[message]
        if published is Published.CONFIRMED:
            self._recent[key] = None
            if len(self._recent) > _KEPT:
                self._recent.popitem(last=False)
            message.take()
            self._replayed += 1
            if not self._quiet:
                self._show.row(
                    _REPLAYED, (letter.message_id, letter.worker_type, queue.name), first=self._replayed == 1
                )
        elif published is Published.LOST:
            self._doubtful.add(key)
        elif published is Published.UNROUTABLE:
            self._session.declarer.forget(queue.name)
            self._left[f"queue {queue.name} was deleted meanwhile"] += 1
        else:
            self._left[self._session.publisher.refusal] += 1
