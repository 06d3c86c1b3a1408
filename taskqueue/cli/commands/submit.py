"""`taskqueue submit`: what its command line means; `submit_many` and `submit_wait` do it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from itertools import repeat
from pathlib import Path

import click

from taskqueue.cli.arguments import group_names, value_types, workitem_body
from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.arguments.stdin_lines import StdinLines
from taskqueue.cli.arguments.submission import Submission
from taskqueue.cli.commands.submit_many import SubmitMany
from taskqueue.cli.commands.submit_wait import submit_and_wait
from taskqueue.cli.operator import Operator
from taskqueue.client import Client
from taskqueue.errors import MalformedWorkitem
from taskqueue.operations.broker import Broker
from taskqueue.operations.consumers import consumers
from taskqueue.protocol.properties import DELAY, WORKER_TYPE
from taskqueue.workitem import JSON, TEXT


@click.command("submit", short_help="Submit workitems; wait for results.")
@operator_command(json=False)
@click.argument("worker_type", metavar="TYPE", type=value_types.worker_type, shell_complete=group_names.complete)
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
    type=value_types.header({WORKER_TYPE: "the argument TYPE", DELAY: "--delay"}),
    metavar="NAME=VALUE",
    multiple=True,
    help="A header of the workitem; may be given several times.",
)
@click.option(
    "--delay",
    "delay_s",
    type=value_types.duration,
    metavar="DURATION",
    default="0",
    help="Dispatch it so much later: 30, 5m, 2h, 7d.",
)
@click.option(
    "--at", type=value_types.point_in_time, metavar="TIME", help="Dispatch it at that time: 21:30, 2030-01-31T21:30."
)
@click.option("--id", "message_id", metavar="ID", help="Its message_id (default: a new UUID).")
@click.option("--wait", is_flag=True, help="Wait for the result and print it; exit 1 on an error result.")
@click.option(
    "--timeout",
    "timeout_s",
    type=value_types.duration,
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
    submission = Submission(worker_type, kind, dict(headers), delay_s, at, message_id)
    content = None if lines else _content(submission, body, path)
    with operator.broker() as broker:
        _note_who_is_missing(operator, broker, worker_type)
        client = Client(session=broker.session, reply_to=None if wait else "")
        if wait and content is not None:
            return submit_and_wait(operator, client, submission, [content] * count, timeout_s)
        if content is None:
            with StdinLines(broker.session, sys.stdin.fileno(), lambda: operator.interrupts.came) as stdin:
                return SubmitMany(operator, submission, "line", None).run(client, stdin)
        return SubmitMany(operator, submission, "workitem", count).run(client, repeat(content, count))


def _check_usage(bodies: dict[str, bool], clashes: dict[str, bool]) -> None:
    given = [name for name, is_given in bodies.items() if is_given]
    if len(given) != 1:
        raise click.UsageError(f"{' and '.join(given) or 'nothing'} given; expected one of {', '.join(bodies)}")
    for clash, is_there in clashes.items():
        if is_there:
            raise click.UsageError(f"{clash} cannot be combined" if " and " in clash else clash)


def _content(submission: Submission, body: str | None, path: Path | None) -> bytes:
    content, source = workitem_body.read(body, path)
    try:
        submission.options(content)
    except MalformedWorkitem as error:
        advice = "" if submission.kind else "; --text submits it as text"
        raise click.UsageError(f"{source}: {error}{advice}") from None
    return content


def _note_who_is_missing(operator: Operator, broker: Broker, worker_type: str) -> None:
    there = consumers(broker, worker_type)
    if not there.dispatchers:
        operator.show.note("no dispatcher runs at present; what is submitted waits")
    if not there.workers:
        operator.show.note(f"no worker of type {worker_type} consumes at present; what is submitted waits")
