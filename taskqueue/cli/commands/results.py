"""`taskqueue results`: shows results that nobody has taken yet, and takes them only with `--take`."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import click

from taskqueue.cli.arguments import value_types
from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.columns import Column
from taskqueue.cli.terminal.show import Show
from taskqueue.client import Result, read_result
from taskqueue.operations.broker import Broker
from taskqueue.operations.results import Results
from taskqueue.operations.wording import span

_WIDTH = 160
"""Characters of a result that a person is shown; JSON has all of it."""


def _short(value: Any) -> str:
    """The beginning of a result, of an error what was raised."""
    if isinstance(value, dict) and {"error", "trace"} <= value.keys():
        value = value["error"]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _runtime(milliseconds: Any) -> str:
    return span(milliseconds / 1000) if isinstance(milliseconds, int) else str(milliseconds)


_COLUMNS = (
    Column("id"),
    Column("worker_type", "type"),
    Column("status", styles={"error": "bold red", "success": "green"}),
    Column("attempt", right=True),
    Column("runtime_ms", "runtime", right=True, text=_runtime),
    Column("host"),
    Column("error_type", "error"),
    Column("result", text=_short),
)
_HEADERS = ("worker_type", "status", "attempt", "runtime_ms", "host", "error_type")


@click.command("results", short_help="Show results that wait in a queue.")
@operator_command()
@click.option("--follow", is_flag=True, help="Go on, and show results as they come, until Ctrl-C.")
@click.option("--type", "worker_type", type=value_types.worker_type, metavar="TYPE", help="Only of this worker type.")
@click.option("--status", type=click.Choice(["success", "error"]), help="Only those that succeeded, or failed.")
@click.option("--take", is_flag=True, help="Take from the queue what is shown.")
@click.option("--queue", metavar="NAME", help="The queue; by default what results_routing_key says.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="No more than N.")
def command(
    operator: Operator,
    follow: bool,
    worker_type: str | None,
    status: str | None,
    take: bool,
    queue: str | None,
    limit: int | None,
) -> None:
    """Show the results that wait in a queue, the oldest first; those in private reply queues are not seen.

    Nothing is taken without --take. While it reads, and as long as it follows, others that consume the queue do not get
    what it has in hand: they get it when it ends. With --json an object a line, with the whole result.
    """
    names = [queue] if queue is not None else operator.results_of(worker_type)
    if len(names) > 1:
        raise click.UsageError(f"the config sends results to {', '.join(names)}; expected one of them as --queue")
    with operator.broker() as broker:
        results = Results(broker, names[0], worker_type=worker_type, status=status, limit=limit, taken=take)
        if follow:
            _note_what_is_special(operator.show, broker, names[0])
        found = results.follow(lambda error: operator.show.note(f"{error}; going on")) if follow else results.read()
        with closing(found):
            for number, message in enumerate(found):
                operator.show.row(_COLUMNS, _row(read_result(message.properties, message.body)), first=number == 0)
                if take:
                    message.take()


def _note_what_is_special(show: Show, broker: Broker, queue: str) -> None:
    counts = broker.counts(queue)
    if counts is None:
        show.note(f"there is no queue {queue} yet; waiting for it")
    elif counts.consumers:
        show.note(f"{counts.consumers} others consume {queue}; what is shown here is kept from them")


def _row(result: Result) -> list[Any]:
    return [result.message_id, *(result.headers.get(name) for name in _HEADERS), result.value]
