"""`taskqueue purge`: removes the workitems that wait for a worker type. It asks first."""

from __future__ import annotations

import click

from taskqueue.cli.arguments import value_types
from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.operator import Operator
from taskqueue.operations.purge import backlog, purge


@click.command("purge", short_help="Remove the workitems that wait for a worker type.")
@operator_command()
@click.argument("worker_type", metavar="TYPE", type=value_types.worker_type)
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(operator: Operator, worker_type: str, yes: bool) -> None:
    """Remove the workitems that wait for workers of TYPE, for good. It asks before.

    Those that workers run, or have at hand, are not touched; nor are those that wait for a dispatcher or for their
    time. What comes while it asks is removed, too.
    """
    with operator.broker() as broker:
        waiting = backlog(broker, worker_type)
        if not yes:
            operator.confirm(f"Remove {waiting.ready} workitems that wait in {waiting.queue}, for good?")
        removed = purge(broker, worker_type)
    if operator.show.as_json:
        operator.show.document({"queue": waiting.queue, "removed": removed})
    else:
        operator.show.line(f"{removed} workitems were removed from {waiting.queue}")
