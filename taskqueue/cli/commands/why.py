"""`taskqueue why`: where one workitem is, and why. It looks, from what disturbs nobody to the queues that work is in.

AMQP has no way to ask for a message by its id: whole queues are read, and all goes back. Nothing is taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click

from taskqueue.amqp import Delivery
from taskqueue.cli.arguments import parameters
from taskqueue.cli.operator import Operator, operator_command, socket_option
from taskqueue.cli.terminal.show import Column, moment, span
from taskqueue.client import read_result
from taskqueue.errors import PoolUnavailable, TaskqueueError
from taskqueue.operations.broker import Broker
from taskqueue.protocol import dead_letters, queues
from taskqueue.protocol.delays import off_rung
from taskqueue.protocol.properties import DELAY_DUE, DELAY_TARGET, Properties, attempts, header
from taskqueue.status.document import Pool

_MANY = 1000
"""Messages in a queue; more take long enough for a progress bar."""


@dataclass(frozen=True, slots=True)
class _Sighting:
    """The workitem was seen. `what` is for people, `facts` for JSON."""

    state: str
    """`running`, `waiting`, `delayed`, `finished`, `dead`."""
    where: str
    what: str
    facts: dict[str, Any] = field(default_factory=dict)


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
    "--type", "worker_type", type=parameters.worker_type, metavar="TYPE", help="It is for this worker type, no other."
)
@socket_option
def command(operator: Operator, message_id: str, worker_type: str | None, socket: Path | None) -> None:
    """Say where the workitem with this ID is, and why: running (where, since when), finished, dead (of what), delayed
    (until when), waiting (in which place).

    Looked at are the workers of this host, the dead letters, results that nobody has taken, and, where it is in none of
    these, the queues in which it may wait. Nothing is taken; but what waits in a queue is kept from its workers while
    the queue is read. Exit status 1 where it is not found: workers of other hosts are not seen from here.
    """
    pool: Pool | None = None
    hints: list[str] = []
    try:
        pool = operator.pool(socket)
    except PoolUnavailable as error:
        hints.append(str(error))
    found = list(_running(pool, message_id)) if pool else []
    with operator.broker() as broker:
        search = _Search(operator, broker, message_id, worker_type, pool)
        found += search.ended()
        if not found:
            found += search.to_come()
        if not found:
            hints += search.hints()
    if operator.show.as_json:
        seen = [{"state": each.state, "where": each.where, **each.facts} for each in found]
        operator.show.document({"id": message_id, "found": seen, "hints": hints if not found else []})
    elif found:
        operator.show.table(_COLUMNS, ((each.state, each.where, each.what) for each in found))
    if not found:
        for hint in hints:
            operator.show.note(hint)
        raise TaskqueueError(
            f"workitem {message_id} was not found: a worker or dispatcher has it at hand, its result was taken, or "
            "there was none of that id"
        )


def _running(pool: Pool, message_id: str) -> Iterator[_Sighting]:
    for group in pool.groups:
        for worker in group.workers:
            for task in worker.tasks:
                if task.id == message_id:
                    facts = {"group": group.name, "pid": worker.pid, "attempt": task.attempt, "since": task.since}
                    yield _Sighting(
                        "running",
                        f"{pool.host}, group {group.name}, pid {worker.pid}",
                        f"attempt {task.attempt}, for {span(pool.now - task.since)}, since {moment(task.since)}",
                        {"host": pool.host, **facts},
                    )


class _Search:
    """Looks for one workitem in queues."""

    def __init__(
        self, operator: Operator, broker: Broker, message_id: str, worker_type: str | None, pool: Pool | None
    ) -> None:
        self._operator = operator
        self._broker = broker
        self._id = message_id
        self._pool = pool
        types = operator.worker_types(pool) if worker_type is None else {worker_type}
        self._workers = [queues.WORKER_PREFIX + name for name in sorted(types)]
        self._results = sorted({queues.RESULTS, *operator.results_of(worker_type)})

    def ended(self) -> Iterator[_Sighting]:
        """As a dead letter, or with a result: one workitem may have both, and more than one."""
        for delivery, _ in self._in(queues.DEAD):
            yield _dead(delivery.properties)
        for queue in self._results:
            for delivery, _ in self._in(queue):
                yield _finished(queue, delivery)

    def to_come(self) -> Iterator[_Sighting]:
        """Where it waits: in one place."""
        places: list[tuple[str, Callable[[Properties, int], _Sighting]]] = [
            *((queue.name, partial(_delayed, queue.name)) for queue in queues.ladder()),
            *((name, partial(_waiting, name)) for name in (*self._workers, queues.INGRESS)),
        ]
        for queue, seen in places:
            with closing(self._in(queue)) as found:
                for delivery, place in found:
                    yield seen(delivery.properties, place)
                    return

    def hints(self) -> Iterator[str]:
        """Who may have it."""
        for group in self._pool.groups if self._pool else ():
            at_hand = sum(each.waiting or 0 for each in group.generations)
            if at_hand:
                yield f"{at_hand} workitems wait at hand of group {group.name} on this host; their ids are not known"
        figures = self._operator.management(self._broker).queues() or {}
        for name in (queues.INGRESS, *self._workers):
            if name in figures and figures[name].unacked:
                yield f"{figures[name].unacked} workitems of {name} are at hand of those who consume it"

    def _in(self, queue: str) -> Generator[tuple[Delivery, int], None, None]:
        """What in `queue` has the id, and in which place it is from 1."""
        counts = self._broker.counts(queue)
        if counts is None or not counts.ready:
            return
        renew = _moved_on if queue.startswith(queues.DELAY_PREFIX) else None
        with self._progress(queue, counts.ready) as advance, self._broker.read(queue, renew=renew) as reading:
            for place, message in enumerate(reading, start=1):
                advance(1)
                properties = message.properties
                if self._id in (properties.message_id, header(properties, "task_id")):
                    yield message.delivery, place

    def _progress(self, queue: str, ready: int) -> AbstractContextManager[Callable[[int], None]]:
        if ready > _MANY:
            return self._operator.show.progress(f"looking through {queue}", ready)
        return nullcontext(lambda count: None)


def _moved_on(properties: Properties) -> tuple[str, Properties]:
    """A copy on the same rung would wait for all of its time again."""
    return queues.DELAY_STEP, off_rung(properties, int(time.time() * 1000))


def _dead(properties: Properties) -> _Sighting:
    said = dead_letters.read_dead_letter(properties)
    last_line = (said.detail or "").rstrip().rpartition("\n")[2]
    when = "" if said.died_at is None else f" at {moment(said.died_at)}"
    where = f" on {said.host}" if said.host else ""
    return _Sighting(
        "dead",
        queues.DEAD,
        f"{said.reason}{when}{where}, in {said.queue}: {last_line}",
        {name: value for name, value in said._asdict().items() if name != "message_id"},
    )


def _finished(queue: str, delivery: Delivery) -> _Sighting:
    result = read_result(delivery.properties, delivery.body)
    names = ("status", "worker_type", "attempt", "runtime_ms", "host", "error_type")
    facts = {name: result.headers.get(name) for name in names}
    runtime_ms = facts["runtime_ms"]
    took = f" after {span(runtime_ms / 1000)}" if isinstance(runtime_ms, int) else ""
    failed = f": {facts['error_type']}" if facts["error_type"] else ""
    what = (
        f"{facts['status']}{failed}, attempt {facts['attempt']} on {facts['host']}{took}; the result waits to be read"
    )
    return _Sighting("finished", queue, what, facts)


def _delayed(queue: str, properties: Properties, place: int) -> _Sighting:
    due_ms, target = header(properties, DELAY_DUE), header(properties, DELAY_TARGET)
    begun, _ = attempts(properties)
    until = None
    if isinstance(due_ms, int):
        until = due_ms / 1000
    when = "" if until is None else f"until {moment(until)} (in {span(until - time.time())}), "
    return _Sighting(
        "delayed", queue, f"{when}for {target}{_tried(begun)}", {"until": until, "target": target, "attempts": begun}
    )


def _waiting(queue: str, properties: Properties, place: int) -> _Sighting:
    begun, crashes = attempts(properties)
    return _Sighting(
        "waiting", queue, f"in place {place}{_tried(begun)}", {"place": place, "attempts": begun, "crashes": crashes}
    )


def _tried(begun: int) -> str:
    return f", {begun} attempts so far" if begun else ""
