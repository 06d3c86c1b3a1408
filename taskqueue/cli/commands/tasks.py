"""`taskqueue tasks`: lists, shows and changes the tasks of a front, and adds one."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.arguments.front_option import front_option
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.columns import Column
from taskqueue.cli.terminal.show import Show
from taskqueue.errors import FrontRefused, TaskqueueError
from taskqueue.operations.front import Front, part

_STATES = ("scheduled", "ready", "running", "retrying", "succeeded", "dead", "cancelled", "expired")
_STYLES = {"succeeded": "green", "running": "green", "dead": "bold red", "retrying": "yellow", "expired": "yellow"}
_COLUMNS = (
    Column("id"),
    Column("queue"),
    Column("state", styles=_STYLES),
    Column("attempts", right=True),
    Column("target"),
    Column("created_at", "created"),
    Column("next_attempt_at", "next attempt"),
    Column("last", "last attempt"),
)
_ATTEMPTS = (
    Column("attempt", right=True),
    Column("at"),
    Column("outcome", styles={"answered": "green", "succeeded": "green"}),
    Column("status", right=True),
    Column("duration_s", "seconds", right=True),
    Column("address"),
    Column("error"),
)


@click.group("tasks", short_help="List, show, add, cancel, run and retry tasks of a front.")
def command() -> None:
    """List, show, add, cancel, run and retry the tasks that fronts take over HTTP.

    The front is this host's own, or the one that --url or TASKQUEUE_HTTP_URL names; TASKQUEUE_HTTP_TOKEN is its token.
    """


@command.command("list", short_help="List tasks, newest first.")
@operator_command()
@front_option
@click.option("--queue", metavar="QUEUE", help="Only of this queue.")
@click.option("--state", multiple=True, type=click.Choice(_STATES), help="Only in this state; may be repeated.")
@click.option("--name", metavar="NAME", help="Only the task that a client has named so.")
@click.option("--target", "url_prefix", metavar="URL", help="Only those whose URL begins so.")
@click.option("--status", "status_code", type=int, metavar="CODE", help="Only those whose last answer had this status.")
@click.option("--tag", metavar="TAG", help="Only with this tag.")
@click.option("--text", metavar="TEXT", help="Only with this text in id, name, URL, headers or errors.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N", help="No more than N.")
def list_tasks(operator: Operator, url: str | None, limit: int, **filters: Any) -> None:
    """List tasks, the newest first."""
    with operator.front(url) as front:
        tasks = list(front.all("/v1/tasks", "tasks", filters, limit))
    if operator.show.as_json:
        operator.show.document(tasks)
    else:
        operator.show.table(_COLUMNS, map(_row, tasks))


@command.command("show", short_help="Show one task with its attempts.")
@operator_command()
@front_option
@click.argument("task_id", metavar="ID")
@click.option("--wait", "wait_s", type=click.IntRange(0, 60), metavar="SECONDS", help="Wait so long for its end.")
def show_task(operator: Operator, url: str | None, task_id: str, wait_s: int | None) -> None:
    """Show one task: its state and why, its target, and each attempt."""
    path = f"/v1/tasks/{part(task_id)}"
    headers = {"Prefer": f"wait={wait_s}"} if wait_s else None
    with operator.front(url, wait_s=30.0 + (wait_s or 0)) as front:
        task = front.get(path, headers=headers)
        attempts = front.get(f"{path}/attempts")["attempts"]
    if operator.show.as_json:
        operator.show.document({**task, "attempts_detail": attempts})
        return
    _show(operator.show, task)
    if attempts:
        operator.show.line("")
        operator.show.table(_ATTEMPTS, ([each.get(column.key) for column in _ATTEMPTS] for each in attempts))


@command.command("add", short_help="Add a task.")
@operator_command()
@front_option
@click.argument("queue", metavar="QUEUE")
@click.argument("target", metavar="URL|TYPE")
@click.argument("body", metavar="[BODY|-]", required=False)
@click.option("--json-body", is_flag=True, help="The body is JSON.")
@click.option("-X", "--method", metavar="METHOD", help="The method of the request (default: POST).")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header; may be repeated.")
@click.option("--delay", metavar="DURATION", help="It is due after that: 30s, 5m, 2h.")
@click.option("--at", metavar="TIME", help="It is due then: 2026-12-31T23:59:00Z.")
@click.option("--name", metavar="NAME", help="A name of its own in its queue: nobody adds it twice.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag; may be repeated.")
@click.option("--wait", "wait_s", type=click.IntRange(1, 60), metavar="SECONDS", help="Wait so long for its end.")
def add(
    operator: Operator,
    url: str | None,
    queue: str,
    target: str,
    body: str | None,
    json_body: bool,
    headers: tuple[str, ...],
    wait_s: int | None,
    **fields: Any,
) -> None:
    """Add a task to QUEUE: a request to URL, or a workitem for the workers of TYPE. BODY may be - for standard
    input."""
    document: dict[str, Any] = {key: value for key, value in fields.items() if value}
    document["url" if "://" in target or target.startswith("/") else "worker_type"] = target
    text = sys.stdin.read() if body == "-" else body
    if text is not None:
        document["json" if json_body else "body"] = _json(text) if json_body else text
    if headers:
        document["headers"] = dict(_header(each) for each in headers)
    prefer = {"Prefer": f"wait={wait_s}"} if wait_s else None
    with operator.front(url, wait_s=30.0 + (wait_s or 0)) as front:
        task = front.post(f"/v1/queues/{part(queue)}/tasks", document, headers=prefer)
    if operator.show.as_json:
        operator.show.document(task)
    elif wait_s:
        _show(operator.show, task)
    else:
        operator.show.line(task["id"])


def _changing(name: str, done: str, help_text: str) -> None:
    """A command that does the same to each of several tasks."""

    @command.command(name, short_help=help_text)
    @operator_command()
    @front_option
    @click.argument("ids", metavar="ID...", nargs=-1, required=True)
    def change(operator: Operator, url: str | None, ids: tuple[str, ...]) -> None:
        refused = 0
        with operator.front(url) as front:
            for task_id in ids:
                try:
                    task = _change(front, name, task_id)
                except FrontRefused as error:
                    refused += 1
                    operator.show.note(f"{task_id}: {error}")
                else:
                    operator.show.line(f"{task_id} {done}; it is {task['state']}")
        if refused:
            raise TaskqueueError(f"{refused} of {len(ids)} tasks were left as they are")

    change.help = f"{help_text} Exit status 1 where one could not be."


def _change(front: Front, name: str, task_id: str) -> Any:
    path = f"/v1/tasks/{part(task_id)}"
    return front.ask("DELETE", path) if name == "cancel" else front.post(f"{path}:{name}")


_changing("cancel", "cancelled", "Cancel tasks; one that runs is not retried.")
_changing("run", "is due now", "Let tasks be due now that wait for their time.")
_changing("retry", "begins anew", "Begin tasks anew that have ended.")


def _row(task: dict[str, Any]) -> list[Any]:
    last = task["last"] or {}
    told = " ".join(str(last[key]) for key in ("outcome", "status", "error") if last.get(key) is not None)
    return [
        task["id"], task["queue"], task["state"], task["attempts"], task["url"] or task["worker_type"],
        task["created_at"], task["next_attempt_at"], told or None,
    ]  # fmt: skip


def _show(show: Show, task: dict[str, Any]) -> None:
    fields = {
        "id": task["id"],
        "queue": task["queue"],
        "state": task["state"] + (f" ({task['reason']})" if task["reason"] else ""),
        "target": f"{task['method']} {task['url']}" if task["url"] else task["worker_type"],
        "created": task["created_at"],
        "due": task["scheduled_at"],
    }
    optional = {"name": task["name"], "next attempt": task["next_attempt_at"], "expires": task["expires_at"]}
    fields |= {key: value for key, value in optional.items() if value}
    if task["tags"]:
        fields["tags"] = ", ".join(task["tags"])
    if task["result"] is not None:
        result = task["result"]
        fields["result"] = json.dumps(result.get("value", result.get("body", result)), ensure_ascii=False)[:200]
    show.fields(fields)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"header {text!r}: expected 'NAME: VALUE'")
    return name.strip(), value.strip()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--json-body: the body is not JSON: {error}") from None
