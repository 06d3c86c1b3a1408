"""`taskqueue why`: says where one workitem is, and why; the search itself is `operations.find_workitem`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import click

from taskqueue.cli.arguments import value_types
from taskqueue.cli.arguments.common_options import operator_command, socket_option
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.columns import Column
from taskqueue.cli.terminal.show import Show
from taskqueue.errors import PoolUnavailable, TaskqueueError
from taskqueue.operations.find_workitem import Dead, Delayed, Finished, Running, Sighting, Waiting, document, where_is
from taskqueue.operations.wording import last_line, moment, span

_MANY = 1000
"""Messages in a queue; more take long enough for a progress bar."""
_COLUMNS = (
    Column(
        "state",
        styles={"running": "green", "finished": "green", "dead": "bold red", "delayed": "yellow", "waiting": "yellow"},
    ),
    Column("where"),
    Column("what"),
)


@click.command("why", short_help="Say where a workitem is, and why.")
@operator_command()
@click.argument("message_id", metavar="ID")
@click.option(
    "--type", "worker_type", type=value_types.worker_type, metavar="TYPE", help="It is for this worker type, no other."
)
@socket_option
def command(operator: Operator, message_id: str, worker_type: str | None, socket: Path | None) -> None:
    """Say where the workitem with this ID is, and why: running (where, since when), finished, dead (of what), delayed
    (until when), waiting (in which place).

    Looked at are the workers of this host, the dead letters, results that nobody has taken, and, where it is in none of
    these, the queues in which it may wait. Nothing is taken; but what waits in a queue is kept from its workers while
    the queue is read. Exit status 1 where it is not found: workers of other hosts are not seen from here.
    """
    pool, hints, now = None, [], time.time()
    try:
        pool = operator.pool(socket)
        now = pool.now
    except PoolUnavailable as error:
        hints.append(str(error))
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
    hints += seen.hints
    if operator.show.as_json:
        found = [document(each) for each in seen.found]
        operator.show.document({"id": message_id, "found": found, "hints": hints if not found else []})
    elif seen.found:
        operator.show.table(_COLUMNS, ((each.state, each.where, _what(each, now)) for each in seen.found))
    if not seen.found:
        for hint in hints:
            operator.show.note(hint)
        raise TaskqueueError(
            f"workitem {message_id} was not found: a worker or dispatcher has it at hand, its result was taken, or "
            "there was none of that id"
        )


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
