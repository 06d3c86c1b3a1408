"""Which dead letters a command is for: the options that choose them, where they go back to, and a row for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from taskqueue.cli.arguments import parameters
from taskqueue.cli.operator import Function
from taskqueue.cli.terminal.show import Column, moment
from taskqueue.config.settings import AmqpSettings
from taskqueue.operations.broker import Broker
from taskqueue.operations.reading import Message
from taskqueue.protocol import queues
from taskqueue.protocol.dead_letters import DeadLetter, DeadReason, read_dead_letter
from taskqueue.protocol.queues import Queue
from taskqueue.workitem import TYPE_PATTERN

_DETAIL_WIDTH = 120
_REASONS = [reason.value for reason in DeadReason]


def _last_line(detail: str) -> str:
    """Of a traceback: what was raised."""
    line = detail.rstrip().rpartition("\n")[2]
    return line if len(line) <= _DETAIL_WIDTH else f"{line[: _DETAIL_WIDTH - 1]}…"


COLUMNS = (
    Column("id"),
    Column("worker_type", "type"),
    Column("reason", style="red"),
    Column("died_at", "died", text=moment),
    Column("queue"),
    Column("host"),
    Column("detail", text=_last_line),
)


def row(letter: DeadLetter) -> Sequence[Any]:
    """The cells of `COLUMNS`."""
    return (
        letter.message_id, letter.worker_type, letter.reason, letter.died_at, letter.queue, letter.host, letter.detail,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters: all that fit everything that is said here. Empty means any."""

    ids: frozenset[str]
    types: frozenset[str]
    reasons: frozenset[str]
    died_before: float | None
    died_after: float | None
    """Unix time."""
    everything: bool
    """`--all` was given."""

    @property
    def is_open(self) -> bool:
        """Whether it is all of them."""
        return not (self.ids or self.types or self.reasons or self.died_before or self.died_after)

    def takes(self, letter: DeadLetter) -> bool:
        """Whether `letter` is one of them. What does not say when it died has no age."""
        return (
            (not self.ids or letter.message_id in self.ids)
            and (not self.types or letter.worker_type in self.types)
            and (not self.reasons or letter.reason in self.reasons)
            and (self.died_before is None or (letter.died_at is not None and letter.died_at <= self.died_before))
            and (self.died_after is None or (letter.died_at is not None and letter.died_at >= self.died_after))
        )

    def check_chosen(self) -> None:
        """For commands that are never meant for all by default; a usage error where nothing was chosen."""
        if self.is_open and not self.everything:
            raise click.UsageError(
                "nothing chosen; expected an ID, --type, --reason, an age (--older-than, --newer-than) or --all"
            )
        if self.everything and not self.is_open:
            raise click.UsageError("--all and what chooses some cannot be combined")


def selecting(*, all_option: bool) -> Callable[[Function], Function]:
    """Decorate the function of a command, below `@operator_command`: it is given a `Selection` as `selection`."""

    def decorate(function: Function) -> Function:
        @wraps(function)  # with the options that it has already
        def selected(
            *arguments: Any,
            ids: Sequence[str],
            types: Sequence[str],
            reasons: Sequence[str],
            older_s: float | None,
            newer_s: float | None,
            everything: bool = False,
            **keywords: Any,
        ) -> Any:
            now = time.time()
            selection = Selection(
                frozenset(ids),
                frozenset(types),
                frozenset(reasons),
                None if older_s is None else now - older_s,
                None if newer_s is None else now - newer_s,
                everything,
            )
            return function(*arguments, selection=selection, **keywords)

        options = [
            click.argument("ids", metavar="[ID]...", nargs=-1),
            click.option(
                "--type", "types", type=parameters.worker_type, metavar="TYPE", multiple=True,
                help="Those for this worker type; may be given several times.",
            ),
            click.option(
                "--reason", "reasons", type=click.Choice(_REASONS), metavar="REASON", multiple=True,
                help=f"Those that died of this: {', '.join(_REASONS)}. May be given several times.",
            ),
            click.option(
                "--older-than", "older_s", type=parameters.duration, metavar="DURATION",
                help="Those that died so long ago, or longer: 30, 5m, 2h, 7d.",
            ),
            click.option(
                "--newer-than", "newer_s", type=parameters.duration, metavar="DURATION",
                help="Those that died within this time.",
            ),
        ]  # fmt: skip
        if all_option:
            options.append(click.option("--all", "everything", is_flag=True, help="All dead letters."))
        decorated: Function = selected
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def chosen(broker: Broker, selection: Selection) -> Generator[tuple[Message, DeadLetter], None, None]:
    """The dead letters that `selection` takes, the oldest first; close it before `broker`."""
    with broker.read(queues.DEAD) as reading:
        for message in reading:
            letter = read_dead_letter(message.properties)
            if selection.takes(letter):
                yield message, letter


class Destinations:
    """The queues that dead letters go back to, by name. One that taskqueue would not make must exist."""

    def __init__(self, broker: Broker, amqp: AmqpSettings) -> None:
        self._broker = broker
        self._amqp = amqp
        self._known: dict[str, Queue | None] = {
            queues.INGRESS: queues.ingress(amqp),
            queues.DELAY_STEP: queues.delay_step(),
            queues.DEAD: None,
        }

    def of(self, name: str) -> Queue | None:
        """The queue `name`; None where there is none, or nothing is to be replayed to it."""
        if name not in self._known:
            self._known[name] = self._found(name)
        return self._known[name]

    def _found(self, name: str) -> Queue | None:
        worker_type = name.removeprefix(queues.WORKER_PREFIX)
        if worker_type != name and TYPE_PATTERN.fullmatch(worker_type):
            return queues.worker(worker_type, self._amqp)
        return Queue(name, {}) if 0 < len(name.encode()) <= 255 and self._broker.counts(name) is not None else None
