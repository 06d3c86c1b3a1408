"""`taskqueue run`: runs one workitem in a worker of a plugin, in the foreground, without a broker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from taskqueue.cli.arguments import group_names, value_types, workitem_body
from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.operator import Operator
from taskqueue.cli.trial.trial import Trial, TrialOutcome, Workitem
from taskqueue.errors import PluginError
from taskqueue.host import kernel
from taskqueue.link.assignment import Report
from taskqueue.link.exits import EXITS
from taskqueue.protocol.results import error_body
from taskqueue.workitem import JSON, decode

_STDERR = 2
_TIMED_OUT = 4


@click.command("run", short_help="Run one workitem through a plugin, without a broker.")
@operator_command()
@click.argument("name", metavar="TYPE", shell_complete=group_names.complete)
@workitem_body.body_options
@click.option(
    "--header",
    "headers",
    type=value_types.header({}),
    metavar="NAME=VALUE",
    multiple=True,
    help="A header of the workitem; may be given several times.",
)
@click.option("--id", "message_id", metavar="ID", default="run", help="Its message_id.")
@click.option("--attempt", type=click.IntRange(1), default=1, metavar="N", help="Which attempt it is.")
def command(
    operator: Operator,
    name: str,
    body: str | None,
    kind: str | None,
    path: Path | None,
    headers: Sequence[tuple[str, str]],
    message_id: str,
    attempt: int,
) -> int:
    """Run one workitem through the plugin of TYPE, an installed worker type or a group (worker2/bifh1), and print its
    result. BODY is - for standard input; a body is taken for JSON where it begins with a brace.

    It runs once, as a worker of the group would run it: by the same code, as the group's user, with its settings and
    limits, in the directory /. What the plugin prints and logs goes to standard error, and it may use the terminal
    (breakpoint()). Exit status 1 where it failed, 4 where time_limit ended it.
    """
    content, content_type = workitem_body.given(body, kind, path)
    group, plugin = group_names.choose_one(operator, name)
    workitem = Workitem(content, content_type, message_id, attempt, dict(headers))
    with Trial(group, plugin, output=_STDERR, foreground=True) as trial:
        try:
            trial.imported()
            trial.ready(timeout_s=None)
            outcome = trial.run(workitem)
        except PluginError as error:
            return _not_run(operator, error)
        if outcome.report is not None:
            status = _reported(operator, workitem, outcome.report, outcome.body)
            if left := trial.leave(None):
                operator.show.note(f"the worker did not end well: {kernel.exit_text(left)}; what is in its teardown?")
            return status or int(bool(left))
    return _died(operator, outcome, group.time_limit_s)


def _not_run(operator: Operator, error: PluginError) -> int:
    trace, _, last = str(error).rpartition("\n")
    if operator.show.as_json:
        operator.show.document({"status": "not run", "error": last, "trace": str(error)})
    if trace:
        operator.show.trace(str(error))
    operator.show.note(f"not run: {last}")
    return 1


def _reported(operator: Operator, workitem: Workitem, report: Report, returned: bytes) -> int:
    show = operator.show
    body, content_type = returned, report.content_type
    if report.outcome != "success":
        body, content_type = error_body(workitem.body, workitem.content_type, report.error, report.trace), JSON
    value = decode(body, content_type, None)
    if show.as_json:
        document: dict[str, Any] = {
            "status": report.outcome,
            "result": value,
            "content_type": content_type,
            "runtime_ms": report.runtime_ms,
            "error_type": report.error_type or None,
            "error": report.error or None,
            "trace": report.trace or None,
            "delay_s": report.delay_s,
        }
        show.document(document)
    elif report.outcome == "success":
        show.value(value)
    else:
        if report.trace:
            show.trace(report.trace)
        show.note(f"{_OUTCOMES[report.outcome].format(delay=_delay(report.delay_s))}: {report.error}")
    return int(report.outcome != "success")


_OUTCOMES = {
    "error": "failed",
    "retry": "asks to be run again{delay}",
    "reject": "rejected, would be a dead letter",
    "malformed": "the body is not what its content type says",
    "memory": "out of memory under max_memory",
}


def _delay(delay_s: float | None) -> str:
    return "" if delay_s is None else f" in {delay_s:g} s"


def _died(operator: Operator, outcome: TrialOutcome, time_limit_s: float | None) -> int:
    code = outcome.exit_code
    if code is None:
        operator.show.note(f"time_limit of {time_limit_s:g} s is over; the worker was killed")
        status = "timeout"
    else:
        operator.show.note(f"the worker died: {kernel.exit_text(code)}{EXITS.get(code, '')}")
        status = "crashed"
    if operator.show.as_json:
        operator.show.document({"status": status, "exit_code": code})
    return _TIMED_OUT if code is None else 1
