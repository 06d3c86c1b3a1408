"""`taskqueue tasks`: lists, shows and changes the tasks of a front, and adds one."""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

import click

from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.arguments.front_option import front_option
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.columns import Column
from taskqueue.cli.terminal.show import Show
from taskqueue.errors import FrontRefused, ResultTimeout, TaskqueueError
from taskqueue.operations.front import Front, part
from taskqueue.operations.wording import local, moment, since, unix, until

_STATES = ("scheduled", "ready", "running", "retrying", "succeeded", "dead", "cancelled", "expired")
_ENDED = _STATES[4:]
_STYLES = {"succeeded": "green", "running": "green", "dead": "bold red", "retrying": "yellow", "expired": "yellow"}
_COLUMNS = (
    Column("id", whole=True),
    Column("queue"),
    Column("state", styles=_STYLES, whole=True),
    Column("attempts", "tried", right=True, from_width=100),
    Column("created_at", "age", right=True, text=since, from_width=100),
    Column("next_attempt_at", "due", right=True, text=until, from_width=100),
    Column("target"),
    Column("last", "last attempt", from_width=140),
)
_ATTEMPTS = (
    Column("attempt", right=True),
    Column("at", text=lambda at: moment(unix(at))),
    Column("outcome", styles={"answered": "green", "succeeded": "green"}),
    Column("status", right=True),
    Column("duration_s", "seconds", right=True),
    Column("address", from_width=100),
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
def list_tasks(operator: Operator, url: str | None, queue: str | None, limit: int, **filters: Any) -> None:
    """List tasks, the newest first. Narrow terminals get fewer columns; tasks show ID has everything."""
    path = f"/v1/queues/{part(queue)}/tasks" if queue else "/v1/tasks"  # an unknown queue is told, not an empty list
    with operator.front(url) as front:
        tasks = list(front.all(path, "tasks", filters, limit))
    if operator.show.as_json:
        operator.show.document(tasks)
        return
    operator.show.table(_COLUMNS, map(_row, tasks))
    if not tasks:
        operator.show.note("no task fits")
    elif len(tasks) == limit:
        operator.show.note(f"these are the newest {limit}; --limit N shows more")


@command.command("show", short_help="Show one task with its attempts.")
@operator_command()
@front_option
@click.argument("task_id", metavar="ID")
@click.option("--wait", "wait_s", type=click.IntRange(1, 60), metavar="SECONDS",
              help="Wait so long for its end; exit 4 where it has not come.")  # fmt: skip
def show_task(operator: Operator, url: str | None, task_id: str, wait_s: int | None) -> None:
    """Show one task: its state and why, what it waits for, its target, and its last ten attempts."""
    path = f"/v1/tasks/{part(task_id)}"
    headers = {"Prefer": f"wait={wait_s}"} if wait_s else None
    with operator.front(url, wait_s=30.0 + (wait_s or 0)) as front:
        task = front.get(path, headers=headers)
        attempts = front.get(f"{path}/attempts")["attempts"]
    if operator.show.as_json:
        operator.show.document({**task, "attempts_detail": attempts})
    else:
        _show(operator.show, task)
        if attempts:
            operator.show.line("")
            operator.show.table(_ATTEMPTS, ([each.get(column.key) for column in _ATTEMPTS] for each in attempts))
    if wait_s:
        _ended_in_time(task, wait_s)


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
@click.option("--wait", "wait_s", type=click.IntRange(1, 60), metavar="SECONDS",
              help="Wait so long for its end; exit 1 where it failed, 4 where the end has not come.")  # fmt: skip
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
    """Add a task to QUEUE, and print its ID: a request to URL (a path where the queue has a target), or a workitem for
    the workers of TYPE. BODY may be - for standard input."""
    document: dict[str, Any] = {key: value for key, value in fields.items() if value}
    document["url" if "://" in target or target.startswith("/") else "worker_type"] = target
    document |= _body(body, json_body)
    if headers:
        document["headers"] = _headers(headers)
    prefer = {"Prefer": f"wait={wait_s}"} if wait_s else None
    with operator.front(url, wait_s=30.0 + (wait_s or 0)) as front:
        task = front.post(f"/v1/queues/{part(queue)}/tasks", document, headers=prefer)
    if operator.show.as_json:
        operator.show.document(task)
    elif wait_s:
        _show(operator.show, task)
    else:
        operator.show.line(task["id"])
    if wait_s:
        _ended_in_time(task, wait_s)
        if task["state"] != "succeeded":
            raise TaskqueueError(f"task {task['id']} is {task['state']}")


def _changing(name: str, done: str, help_text: str) -> None:
    """A command that does the same to each of several tasks."""

    @command.command(name, short_help=help_text)
    @operator_command()
    @front_option
    @click.argument("ids", metavar="ID...", nargs=-1, required=True)
    def change(operator: Operator, url: str | None, ids: tuple[str, ...]) -> None:
        changed: list[Any] = []
        with operator.front(url) as front:
            for task_id in ids:
                try:
                    changed.append(_change(front, name, task_id))
                except FrontRefused as error:
                    operator.show.note(f"{task_id}: {error}")
                else:
                    operator.show.line(f"{task_id} {_done(changed[-1], done)}")
        if operator.show.as_json:
            operator.show.document(changed)
        if len(changed) < len(ids):
            raise TaskqueueError(f"{len(ids) - len(changed)} of {len(ids)} tasks were left as they are")

    change.help = f"{help_text} Exit status 1 where one could not be."


def _change(front: Front, name: str, task_id: str) -> Any:
    path = f"/v1/tasks/{part(task_id)}"
    return front.ask("DELETE", path) if name == "cancel" else front.post(f"{path}:{name}")


def _done(task: Any, done: str) -> str:
    if task["cancel_requested"] and task["state"] == "running":
        return "runs; what comes of it is noted, and it is not tried again"
    return done


_changing("cancel", "is cancelled", "Cancel tasks; one that runs is not retried.")
_changing("run", "is due now", "Let tasks be due now that wait for their time.")
_changing("retry", "begins anew", "Begin tasks anew that have ended.")


def _row(task: dict[str, Any]) -> list[Any]:
    last = task["last"] or {}
    told = " ".join(str(last[key]) for key in ("outcome", "status", "error") if last.get(key) is not None)
    return [
        task["id"], task["queue"], task["state"], task["attempts"], task["created_at"], task["next_attempt_at"],
        task["url"] or task["worker_type"], told or None,
    ]  # fmt: skip


def _show(show: Show, task: dict[str, Any]) -> None:
    fields = {
        "id": task["id"],
        "queue": task["queue"],
        "state": task["state"] + (f" ({task['reason']})" if task["reason"] else ""),
        "waits for": task.get("waits_for"),
        "target": f"{task['method']} {task['url']}" if task["url"] else task["worker_type"],
        "name": task["name"],
        "tags": ", ".join(task["tags"]),
        "created": local(task["created_at"]),
        "first due": local(task["scheduled_at"]),
        "next attempt": task["next_attempt_at"] and local(task["next_attempt_at"]),
        "expires": task["expires_at"] and local(task["expires_at"]),
        "ended": task["ended_at"] and local(task["ended_at"]),
        "attempts": task["attempts"],
    }
    if task["result"] is not None:
        result = task["result"]
        fields["result"] = json.dumps(result.get("value", result.get("body", result)), ensure_ascii=False)[:200]
    show.fields({key: value for key, value in fields.items() if value not in (None, "")})


def _ended_in_time(task: dict[str, Any], wait_s: int) -> None:
    if task["state"] not in _ENDED:
        raise ResultTimeout(f"task {task['id']} has not ended within {wait_s} s; it is {task['state']}")


def _body(text: str | None, is_json: bool) -> dict[str, Any]:
    """The body as the API takes it; what is no text goes as base64."""
    if text is None:
        if is_json:
            raise click.UsageError("--json-body without BODY")
        return {}
    if text == "-":
        data = sys.stdin.buffer.read()
        try:
            text = data.decode()
        except UnicodeDecodeError:
            if is_json:
                raise click.UsageError("--json-body: the body is not UTF-8") from None
            return {"body_base64": base64.b64encode(data).decode()}
    return {"json": _json(text)} if is_json else {"body": text}


def _headers(texts: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f"header {text!r}: expected 'NAME: VALUE'")
        if name.strip() in found:
            raise click.UsageError(f"header {name.strip()!r} is given twice")
        found[name.strip()] = value.strip()
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--json-body: the body is not JSON: {error}") from None
