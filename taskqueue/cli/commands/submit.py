"""`taskqueue submit`: puts workitems into the queue, one or millions, and waits for results where it is asked to."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import click

from taskqueue.cli.arguments import bodies, groups, parameters
from taskqueue.cli.arguments.lines import Lines
from taskqueue.cli.operator import Operator, operator_command
from taskqueue.cli.terminal.show import Column
from taskqueue.client import Client, Result, Submitted
from taskqueue.errors import MalformedWorkitem, ResultTimeout, TaskqueueError, WorkitemFailed, WorkitemRefused
from taskqueue.operations.broker import Broker
from taskqueue.protocol import queues
from taskqueue.protocol.properties import DELAY, WORKER_TYPE
from taskqueue.workitem import JSON, TEXT

_COLUMNS = (Column("id"), Column("worker_type"))


@dataclass(frozen=True, slots=True)
class _Order:
    """What is the same for all workitems of one run."""

    worker_type: str
    kind: str | None
    """The content type that was asked for."""
    headers: dict[str, str]
    delay_s: float
    at: datetime | None
    message_id: str | None

    def options(self, body: bytes) -> dict[str, Any]:
        """The keywords of `Client.submit` for a workitem that is submitted now; raises `MalformedWorkitem` for a body
        that a worker could not read as what it is."""
        return {
            "content_type": bodies.content_type(body, self.kind),
            "headers": self.headers,
            "delay_s": self.delay_s if self.at is None else max(0.0, self.at.timestamp() - time.time()),
            "message_id": self.message_id,
        }


@click.command("submit", short_help="Submit workitems; wait for results.")
@operator_command(json=False)
@click.argument("worker_type", metavar="TYPE", type=parameters.worker_type, shell_complete=groups.complete)
@click.argument("body", required=False)
@click.option("--json", "kind", flag_value=JSON, help="The body is JSON. (For JSON output: taskqueue --json submit …)")
@click.option("--text", "kind", flag_value=TEXT, help="The body is text, even where it begins with a brace.")
@click.option(
    "--file", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The body is in this file."
)
@click.option("--lines", is_flag=True, help="Each line of standard input is a workitem.")
@click.option("--count", type=click.IntRange(1), default=1, metavar="N", help="Submit it N times.")
@click.option(
    "--header",
    "headers",
    type=parameters.header({WORKER_TYPE: "the argument TYPE", DELAY: "--delay"}),
    metavar="NAME=VALUE",
    multiple=True,
    help="A header of the workitem; may be given several times.",
)
@click.option(
    "--delay",
    "delay_s",
    type=parameters.duration,
    metavar="DURATION",
    default="0",
    help="Dispatch it so much later: 30, 5m, 2h, 7d.",
)
@click.option(
    "--at", type=parameters.point_in_time, metavar="TIME", help="Dispatch it at that time: 21:30, 2030-01-31T21:30."
)
@click.option("--id", "message_id", metavar="ID", help="Its message_id (default: a new UUID).")
@click.option("--wait", is_flag=True, help="Wait for the result and print it; exit 1 on an error result.")
@click.option(
    "--timeout",
    "timeout_s",
    type=parameters.duration,
    metavar="DURATION",
    help="With --wait: exit 4 where none came in time.",
)
def command(
    operator: Operator,
    worker_type: str,
    body: str | None,
    kind: str | None,
    path: Path | None,
    lines: bool,
    count: int,
    headers: Sequence[tuple[str, str]],
    delay_s: float,
    at: datetime | None,
    message_id: str | None,
    wait: bool,
    timeout_s: float | None,
) -> int:
    """Submit a workitem for the workers of TYPE: BODY, or what standard input has where BODY is -.

    Prints its id once the broker has confirmed it, an id a line for many; with --lines on a terminal only how many. A
    body that is not said to be JSON or text is taken for JSON where it begins with a brace, and must be JSON then.
    """
    _check_usage(
        {"BODY": body is not None, "--file": path is not None, "--lines": lines},
        {
            "--lines and --count": lines and count > 1,
            "--lines and --id": lines and message_id is not None,
            "--lines and --wait": lines and wait,
            "--count and --id": count > 1 and message_id is not None,
            "--delay and --at": bool(delay_s) and at is not None,
            "--timeout without --wait": timeout_s is not None and not wait,
        },
    )
    order = _Order(worker_type, kind, dict(headers), delay_s, at, message_id)
    content = None if lines else _content(order, body, path)
    with operator.broker() as broker:
        _say_who_is_missing(operator, broker, worker_type)
        client = Client(session=broker.session, reply_to=None if wait else "")
        if wait and content is not None:
            return _submit_and_wait(operator, client, order, [content] * count, timeout_s)
        if content is None:
            with Lines(broker.session, sys.stdin.fileno(), lambda: operator.interrupts.came) as stdin:
                return _Submission(operator, order, "line", None).run(client, stdin)
        return _Submission(operator, order, "workitem", count).run(client, repeat(content, count))


def _check_usage(bodies: dict[str, bool], clashes: dict[str, bool]) -> None:
    given = [name for name, is_given in bodies.items() if is_given]
    if len(given) != 1:
        raise click.UsageError(f"{' and '.join(given) or 'nothing'} given; expected one of {', '.join(bodies)}")
    for clash, is_there in clashes.items():
        if is_there:
            raise click.UsageError(f"{clash} cannot be combined" if " and " in clash else clash)


def _content(order: _Order, body: str | None, path: Path | None) -> bytes:
    content, source = bodies.read(body, path)
    try:
        order.options(content)
    except MalformedWorkitem as error:
        told = "" if order.kind else "; --text submits it as text"
        raise click.UsageError(f"{source}: {error}{told}") from None
    return content


def _say_who_is_missing(operator: Operator, broker: Broker, worker_type: str) -> None:
    queue = queues.WORKER_PREFIX + worker_type
    counts = broker.counts_of([queues.INGRESS, queue])
    missing = {queues.INGRESS: "no dispatcher runs", queue: f"no worker of type {worker_type} consumes"}
    for name, text in missing.items():
        found = counts[name]
        if found is None or found.consumers == 0:
            operator.show.note(f"{text} at present; what is submitted waits")


class _Submission:
    """Submits many, says how far it came, and ends in good order at Ctrl-C: what it has read is submitted, no more."""

    def __init__(self, operator: Operator, order: _Order, unit: str, total: int | None) -> None:
        self._show = operator.show
        self._interrupts = operator.interrupts
        self._order = order
        self._unit = unit
        self._total = total
        self._quiet = self._show.on_terminal and not self._show.as_json and total != 1
        """Millions of ids are nothing to read."""
        self._taken = 0
        self._submitted = 0
        self._fault: TaskqueueError | None = None

    def run(self, client: Client, bodies: Iterable[bytes]) -> int:
        """The exit status."""
        self._interrupts.deferred = True
        try:
            with self._progress() as advance:
                client.submit_each(self._order.worker_type, self._each(bodies), partial(self._confirmed, advance))
            if self._fault is not None:
                raise self._fault
        except WorkitemRefused as error:
            self._say_how_far()
            raise TaskqueueError(f"{self._unit} {self._submitted + 1}: {error}") from None
        except (TaskqueueError, KeyboardInterrupt):
            self._say_how_far()
            raise
        if self._interrupts.came and self._submitted != self._total:
            self._say_how_far()
            raise KeyboardInterrupt
        if self._quiet:
            self._show.line(f"{self._submitted} submitted")
        return 0

    def _progress(self) -> AbstractContextManager[Callable[[int], None]]:
        if self._total == 1:
            return nullcontext(lambda count: None)
        return self._show.progress(f"submitting to {self._order.worker_type}", self._total)

    def _each(self, bodies: Iterable[bytes]) -> Iterator[tuple[bytes, dict[str, Any]]]:
        for body in bodies:
            if self._interrupts.came:
                return
            try:
                options = self._order.options(body)
            except MalformedWorkitem as error:  # what came before it is confirmed first
                self._fault = TaskqueueError(f"{self._unit} {self._taken + 1}: {error}")
                return
            self._taken += 1
            yield body, options

    def _confirmed(self, advance: Callable[[int], None], submitted: Submitted) -> None:
        self._submitted += 1
        advance(1)
        if self._show.as_json:
            self._show.row(_COLUMNS, (submitted.message_id, self._order.worker_type))
        elif not self._quiet:
            self._show.line(submitted.message_id)

    def _say_how_far(self) -> None:
        """What a person needs to go on where it ended."""
        if self._total == 1:
            return
        text = f"{self._submitted} {self._unit}s were submitted"
        if self._taken > self._submitted:
            text += f"; of the next {self._taken - self._submitted} it is not known"
        elif self._total is None:
            text += f"; go on with line {self._submitted + 1}"
        self._show.note(text)


# -- with their results


def _submit_and_wait(
    operator: Operator, client: Client, order: _Order, bodies: Iterable[bytes], timeout_s: float | None
) -> int:
    try:
        submitted = [client.submit(order.worker_type, body, **order.options(body)) for body in bodies]
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        status = 0
        for each in submitted:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                status |= _show_result(operator, client.wait(each, left_s))
            except ResultTimeout:
                raise ResultTimeout(f"no result of workitem {each.message_id} within {timeout_s:g} s") from None
        return status
    finally:
        client.close()


def _show_result(operator: Operator, result: Result) -> int:
    """Print a result; 1 for an error."""
    show = operator.show
    if show.as_json:
        told = {"id": result.message_id, "status": result.status, "result": result.value, "headers": result.headers}
        show.document(told)
    elif result.ok:
        show.value(result.value)
    else:
        try:
            result.get()
        except WorkitemFailed as error:
            show.note(f"workitem {error.message_id} failed: {error}")
            show.trace(error.trace)
    return 0 if result.ok else 1
