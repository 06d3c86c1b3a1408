"""`taskqueue purge`: removes what waits for a worker type. It asks first; what is run already is not touched."""

from __future__ import annotations

import click

from taskqueue.cli.arguments import parameters
from taskqueue.cli.operator import Operator, operator_command
from taskqueue.errors import TaskqueueError
from taskqueue.protocol.queues import WORKER_PREFIX


@click.command("purge", short_help="Remove the workitems that wait for a worker type.")
@operator_command()
@click.argument("worker_type", metavar="TYPE", type=parameters.worker_type)
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(operator: Operator, worker_type: str, yes: bool) -> None:
    """Remove the workitems that wait for workers of TYPE, for good. It asks before.

    Those that workers run, or have at hand, are not touched; nor are those that wait for a dispatcher or for their
    time. What comes while it asks is removed, too.
    """
    queue = WORKER_PREFIX + worker_type
    with operator.broker() as broker:
        counts = broker.counts(queue)
        if counts is None:
            raise TaskqueueError(f"there is no queue {queue}: nothing was ever sent to workers of type {worker_type}")
        if not yes:
            operator.confirm(f"Remove {counts.ready} workitems that wait in {queue}, for good?")
        removed = broker.purge(queue) or 0
    if operator.show.as_json:
        operator.show.document({"queue": queue, "removed": removed})
    else:
        operator.show.line(f"{removed} workitems were removed from {queue}")
