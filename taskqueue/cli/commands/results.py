"""`taskqueue results`: shows results that nobody has taken yet, and takes them only when it is told to."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import click

from taskqueue.cli.arguments import parameters
from taskqueue.cli.operator import Operator, operator_command
from taskqueue.cli.terminal.show import Column, span
from taskqueue.client import Result, read_result
from taskqueue.errors import BrokerUnavailable
from taskqueue.operations.broker import Broker
from taskqueue.operations.reading import Message

_WIDTH = 160
"""Characters of a result that are shown to a person; JSON has all of it."""
_KEPT = 100_000
"""Results that are remembered while it follows, so as not to show them again when the connection was lost."""


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
@click.option("--type", "worker_type", type=parameters.worker_type, metavar="TYPE", help="Only of this worker type.")
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
        shown = _Results(operator, broker, names[0], worker_type, status, take, limit)
        if follow:
            shown.follow()
        else:
            shown.read()


class _Results:
    def __init__(
        self,
        operator: Operator,
        broker: Broker,
        queue: str,
        worker_type: str | None,
        status: str | None,
        take: bool,
        limit: int | None,
    ) -> None:
        self._show = operator.show
        self._broker = broker
        self._queue = queue
        self._wanted = {"worker_type": worker_type, "status": status}
        self._take = take
        self._limit = limit
        self._count = 0
        self._seen: OrderedDict[tuple[Any, ...], None] | None = None
        """What was shown while it follows."""

    def read(self) -> None:
        """Show those that are there."""
        with self._broker.read(self._queue) as reading:
            for message in reading:
                if self._look_at(message):
                    return

    def follow(self) -> None:
        """Show those that are there and those that come, over any number of connections."""
        counts = self._broker.counts(self._queue)
        if counts is None:
            self._show.note(f"there is no queue {self._queue} yet; waiting for it")
        elif counts.consumers:
            self._show.note(f"{counts.consumers} others consume {self._queue}; what is shown here is kept from them")
        self._seen = OrderedDict()
        while True:
            seen = self._count
            try:
                with self._broker.read(self._queue, follow=True) as reading:
                    for message in reading:
                        if self._look_at(message):
                            return
                self._broker.pause(1.0)  # no queue: until there is one
            except BrokerUnavailable as error:
                if self._count == seen and not self._broker.session.connection.is_up:
                    raise
                self._show.note(f"{error}; going on")

    def _look_at(self, message: Message) -> bool:
        """Show it where it is wanted; True once there are enough."""
        result = read_result(message.properties, message.body)
        if any(wanted not in (None, result.headers.get(name)) for name, wanted in self._wanted.items()):
            return False
        if self._seen is not None:
            key = (result.message_id, *(str(result.headers.get(name)) for name in ("attempt", "status", "host")))
            if message.delivery.redelivered and key in self._seen:
                if self._take:
                    message.take()
                return False
            self._seen[key] = None
            if len(self._seen) > _KEPT:
                self._seen.popitem(last=False)
        self._show.row(_COLUMNS, _row(result), first=self._count == 0)
        self._count += 1
        if self._take:
            message.take()
        return self._count == self._limit


def _row(result: Result) -> list[Any]:
    return [result.message_id, *(result.headers.get(name) for name in _HEADERS), result.value]
