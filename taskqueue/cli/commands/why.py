"""`taskqueue why`: says where one workitem or task is, and why; `operations.find_workitem` and `find_task` search."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click

from taskqueue.cli.arguments import value_types
from taskqueue.cli.arguments.common_options import operator_command, socket_option
from taskqueue.cli.arguments.front_option import front_option
from taskqueue.cli.checks.front_here import front_is_here
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.columns import Column
from taskqueue.cli.terminal.show import Show
from taskqueue.errors import (
    BrokerRefused,
    BrokerUnavailable,
    FrontRefused,
    FrontUnavailable,
    PoolUnavailable,
    TaskqueueError,
)
from taskqueue.operations.find_task import find_task, is_task_id, story
from taskqueue.operations.find_workitem import Dead, Delayed, Finished, Running, Sighting, Waiting, document, where_is
from taskqueue.operations.wording import last_line, moment, span

_FRONT_S = 10.0
_MANY = 1000
"""Messages in a queue; more take long enough for a progress bar."""
_STYLES = {
    **dict.fromkeys(("running", "finished", "succeeded"), "green"),
    **dict.fromkeys(("delayed", "waiting", "ready", "scheduled", "retrying"), "yellow"),
    **dict.fromkeys(("dead", "expired"), "bold red"),
}
_COLUMNS = (
    Column("state", styles=_STYLES, whole=True),
    Column("where"),
    Column("what"),
)


@click.command("why", short_help="Say where a workitem or a task is, and why.")
@operator_command()
@click.argument("message_id", metavar="ID")
@click.option(
    "--type", "worker_type", type=value_types.worker_type, metavar="TYPE", help="It is for this worker type, no other."
)
@socket_option
@front_option
def command(operator: Operator, message_id: str, worker_type: str | None, socket: Path | None, url: str | None) -> None:
    """Say where the workitem or task with this ID is, and why: running (where, since when), finished, dead (of what),
    delayed (until when), waiting (in which place); of a task that a front has taken also what it waits for.

    Looked at are the tasks of the front, the workers of this host, the dead letters, results that nobody has taken,
    and, where it is in none of these, the queues in which it may wait. Nothing is taken; but what waits in a queue is
    kept from its workers while the queue is read. Exit status 1 where it is not found: workers of other hosts are not
    seen from here.
    """
    pool, hints, now = None, [], time.time()
    try:
        pool = operator.pool(socket)
        now = pool.now
    except PoolUnavailable as error:
        hints.append(str(error))
    task = _task(operator, message_id, url, hints)
    rows = [] if task is None else [(task["state"], f"task in queue {task['queue']}", story(task))]
    if task is not None and worker_type is None:
        worker_type = task["worker_type"] or "webhook"
    try:
        with operator.broker() as broker:
            seen = where_is(
                broker,
                message_id,
                worker_types=operator.worker_types(pool) if worker_type is None else {worker_type},
                results_queues=operator.results_of(worker_type),
                pool=pool,
                management=operator.management(broker),
                progress=partial(_progress, operator.show),
            )
    except (BrokerUnavailable, BrokerRefused):
        if rows and not operator.show.as_json:
            operator.show.table(_COLUMNS, rows)
        raise
    hints += seen.hints
    rows += [(each.state, each.where, _what(each, now)) for each in seen.found]
    if operator.show.as_json:
        found = [document(each) for each in seen.found]
        shown = {"id": message_id, "task": task, "found": found, "hints": hints if not rows else []}
        operator.show.document(shown)
    elif rows:
        operator.show.table(_COLUMNS, rows)
    if not rows:
        for hint in hints:
            operator.show.note(hint)
        raise TaskqueueError(
            f"workitem {message_id} was not found: a worker or dispatcher has it at hand, its result was taken, or "
            "there was none of that id"
        )


def _task(operator: Operator, message_id: str, url: str | None, hints: list[str]) -> dict[str, Any] | None:
    """The task of that id; None where the front has none. Where no front is set up here, none is asked for."""
    if not is_task_id(message_id) or not (url or operator.front_is_named or front_is_here(operator.settings)):
        return None
    try:
        with operator.front(url, wait_s=_FRONT_S) as front:
            return find_task(front, message_id)
    except (FrontUnavailable, FrontRefused) as error:
        hints.append(str(error))
        return None


def _progress(show: Show, queue: str, ready: int) -> AbstractContextManager[Callable[[int], None]]:
    return show.progress(f"looking through {queue}", ready) if ready > _MANY else nullcontext(lambda count: None)


def _what(sighting: Sighting, pool_now: float) -> str:
    """A sighting in words; `pool_now` is the time by the clock of the pool."""
    match sighting:
        case Running(since=since):
            return f"attempt {sighting.attempt}, for {span(pool_now - since)}, since {moment(since)}"
        case Waiting():
            return f"in place {sighting.place}{_tried(sighting.attempts)}"
        case Delayed(until=until):
            when = "" if until is None else f"until {moment(until)} (in {span(until - time.time())}), "
            return f"{when}for {sighting.target}{_tried(sighting.attempts)}"
        case Finished(runtime_ms=runtime_ms):
            took = f" after {span(runtime_ms / 1000)}" if isinstance(runtime_ms, int) else ""
            failed = f": {sighting.error_type}" if sighting.error_type else ""
            how = f"{sighting.status}{failed}, attempt {sighting.attempt} on {sighting.host}{took}"
            return f"{how}; the result waits to be read"
        case Dead():
            when = "" if sighting.died_at is None else f" at {moment(sighting.died_at)}"
            where = f" on {sighting.host}" if sighting.host else ""
            return f"{sighting.reason}{when}{where}, in {sighting.queue}: {last_line(sighting.detail or '')}"


def _tried(begun: int) -> str:
    return f", {begun} attempts so far" if begun else ""
