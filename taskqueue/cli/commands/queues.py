"""`taskqueue queues`: lists and shows the queues of a front; pauses, resumes and purges them."""

from __future__ import annotations

from typing import Any

import click

from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.arguments.front_option import front_option
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.columns import Column
from taskqueue.operations.front import part
from taskqueue.operations.wording import since

_COLUMNS = (
    Column("name", "queue"),
    Column("state", styles={"paused": "bold yellow"}, whole=True),
    Column("source", from_width=100),
    Column("ready", right=True),
    Column("scheduled", right=True, whole=True),
    Column("running", right=True),
    Column("retrying", right=True, whole=True),
    Column("dead", right=True, styles={0: ""}, style="red"),
    Column("rate_limit", "rate", right=True),
    Column("oldest_ready_at", "oldest", right=True, text=since),
)
_COUNTS = ("ready", "scheduled", "running", "retrying", "dead")


@click.group("queues", short_help="List, show, pause, resume and purge the queues of a front.")
def command() -> None:
    """List, show, pause, resume and purge the queues of tasks that fronts take over HTTP.

    The front is this host's own, or the one that --url or TASKQUEUE_HTTP_URL names; TASKQUEUE_HTTP_TOKEN is its token.
    """


@command.command("list", short_help="List all queues.")
@operator_command()
@front_option
def list_queues(operator: Operator, url: str | None) -> None:
    """List all queues, with their tasks by state. OLDEST: for how long the oldest task that is due has waited."""
    with operator.front(url) as front:
        queues = front.get("/v1/queues")["queues"]
    if operator.show.as_json:
        operator.show.document(queues)
    else:
        operator.show.table(_COLUMNS, map(_row, queues))


@command.command("show", short_help="Show one queue and its settings.")
@operator_command()
@front_option
@click.argument("queue", metavar="QUEUE")
def show_queue(operator: Operator, url: str | None, queue: str) -> None:
    """Show one queue: its settings, where they come from, and its tasks by state."""
    with operator.front(url) as front:
        found = front.get(f"/v1/queues/{part(queue)}")
    if operator.show.as_json:
        operator.show.document(found)
        return
    operator.show.fields({key.replace("_", " "): _worded(value) for key, value in found.items()})


def _one(name: str, done: str, help_text: str) -> None:
    @command.command(name, short_help=help_text)
    @operator_command()
    @front_option
    @click.argument("queue", metavar="QUEUE")
    def change(operator: Operator, url: str | None, queue: str) -> None:
        with operator.front(url) as front:
            changed = front.post(f"/v1/queues/{part(queue)}:{name}")
        if operator.show.as_json:
            operator.show.document(changed)
        operator.show.line(f"{queue} {done}")

    change.help = help_text


_one("pause", "is paused", "Pause a queue: nothing new of it starts. It survives restarts.")
_one("resume", "goes on", "Let a paused queue go on.")


@command.command("purge", short_help="Remove the tasks that wait in a queue.")
@operator_command()
@front_option
@click.argument("queue", metavar="QUEUE")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(operator: Operator, url: str | None, queue: str, yes: bool) -> None:
    """Remove the tasks that wait in QUEUE, for good: ready, scheduled and retrying ones. It asks before."""
    with operator.front(url) as front:
        found = front.get(f"/v1/queues/{part(queue)}")
        waiting = sum(_count(found, key) for key in ("ready", "scheduled", "retrying"))
        if not yes and waiting:
            operator.confirm(f"Remove {_tasks(waiting)} waiting in {queue}, for good?")
        gone = front.post(f"/v1/queues/{part(queue)}:purge")["purged"]
    if operator.show.as_json:
        operator.show.document({"queue": queue, "purged": gone})
    else:
        operator.show.line(f"{_tasks(gone)} removed from {queue}")


def _row(queue: dict[str, Any]) -> list[Any]:
    return [
        queue["name"], "paused" if queue["paused"] else "running", queue["source"],
        *(_count(queue, key) for key in _COUNTS), queue["rate_limit"], queue["oldest_ready_at"],
    ]  # fmt: skip


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


def _count(queue: dict[str, Any], key: str) -> int:
    return int((queue["tasks"] or {}).get(key, 0))


def _worded(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_worded(each)}" for key, each in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
