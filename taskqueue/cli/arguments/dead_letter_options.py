"""The arguments and options that choose dead letters, made into a `Selection`; and the columns of a list of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import click

from taskqueue.cli.arguments import value_types
from taskqueue.cli.arguments.common_options import Function
from taskqueue.cli.terminal.columns import Column
from taskqueue.operations.selection import Selection
from taskqueue.operations.wording import last_line, moment
from taskqueue.protocol.dead_letters import DeadLetter, DeadReason

_DETAIL_WIDTH = 120
"""Characters of a letter's detail that a list shows; `dead show` and JSON have all of it."""
_REASONS = [reason.value for reason in DeadReason]

COLUMNS = (
    Column("id"),
    Column("worker_type", "type"),
    Column("reason", style="red"),
    Column("died_at", "died", text=moment),
    Column("queue"),
    Column("host"),
    Column("detail", text=partial(last_line, width=_DETAIL_WIDTH)),
)


def row(letter: DeadLetter) -> Sequence[Any]:
    """The cells of `COLUMNS`."""
    return (
        letter.message_id, letter.worker_type, letter.reason, letter.died_at, letter.queue, letter.host, letter.detail,
    )  # fmt: skip


def selecting(*, all_option: bool) -> Callable[[Function], Function]:
    """Decorate the function of a command, below `@operator_command`: it is given a `Selection` as `selection`.

    With `all_option` a command is never meant for all dead letters by default: it takes `--all`, and it is a usage
    error to choose nothing, or to choose some beside `--all`.
    """

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
            )
            if all_option:
                _check_chosen(selection, everything)
            return function(*arguments, selection=selection, **keywords)

        options = [
            click.argument("ids", metavar="[ID]...", nargs=-1),
            click.option(
                "--type", "types", type=value_types.worker_type, metavar="TYPE", multiple=True,
                help="Those for this worker type; may be given several times.",
            ),
            click.option(
                "--reason", "reasons", type=click.Choice(_REASONS), metavar="REASON", multiple=True,
                help=f"Those that died of this: {', '.join(_REASONS)}. May be given several times.",
            ),
            click.option(
                "--older-than", "older_s", type=value_types.duration, metavar="DURATION",
                help="Those that died so long ago, or longer: 30, 5m, 2h, 7d.",
            ),
            click.option(
                "--newer-than", "newer_s", type=value_types.duration, metavar="DURATION",
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


def _check_chosen(selection: Selection, everything: bool) -> None:
    if selection.is_open and not everything:
        raise click.UsageError(
            "nothing chosen; expected an ID, --type, --reason, an age (--older-than, --newer-than) or --all"
        )
    if everything and not selection.is_open:
        raise click.UsageError("--all and what chooses some cannot be combined")
