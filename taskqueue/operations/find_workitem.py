"""Finds one workitem by its id, for `taskqueue why`: first where looking disturbs nobody, and in work queues last.

1. This host's workers: the pool's status document names the workitems that run.
2. Where a workitem ends: `taskqueue_dead`, and the queues of results. It may be in both, and more than once.
3. Only where it is in none of these: where it waits, in the delay queues, the workers' queues and the ingress.
4. Not found anywhere: who may have it at hand. Workers of other hosts are not seen from here.

AMQP cannot be asked for a message by its id: whole queues are read, and every message goes back. Nothing is taken; but
while a queue is read, its workers get nothing from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

from taskqueue.amqp import Delivery
from taskqueue.operations.broker import Broker
from taskqueue.operations.management import Management
from taskqueue.protocol import dead_letters, queues
from taskqueue.protocol.delays import off_rung
from taskqueue.protocol.properties import DELAY_DUE, DELAY_TARGET, Properties, attempts, header
from taskqueue.status.document import Pool

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Called with the name of a queue and the messages in it before it is read; what it gives, entered, is called with the
number of further messages that were read."""


def _no_progress(queue: str, ready: int) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda count: None)


@dataclass(frozen=True, slots=True)
class Running:
    """A worker of this host runs the workitem."""

    state: ClassVar = "running"
    host: str
    group: str
    pid: int
    attempt: int
    since: float
    """Unix time by the pool's clock."""

    @property
    def where(self) -> str:
        """Which process that is."""
        return f"{self.host}, group {self.group}, pid {self.pid}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """The workitem is in a queue that is consumed."""

    state: ClassVar = "waiting"
    where: str
    """The queue, here and in the sightings below."""
    place: int
    """1 for the head of the queue."""
    attempts: int
    """How many attempts were begun before."""
    crashes: int


@dataclass(frozen=True, slots=True)
class Delayed:
    """The workitem waits for its time: for a delay that its client asked for, or for its next attempt."""

    state: ClassVar = "delayed"
    where: str
    until: float | None
    """Unix time; None where the message does not say."""
    target: Any
    """The queue it goes to then."""
    attempts: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The workitem has a result that nobody has taken. All but `where` are headers of it, None where it has none."""

    state: ClassVar = "finished"
    where: str
    status: Any
    worker_type: Any
    attempt: Any
    runtime_ms: Any
    host: Any
    error_type: Any


@dataclass(frozen=True, slots=True)
class Dead:
    """The workitem is a dead letter; the fields are those of `protocol.dead_letters.DeadLetter`."""

    state: ClassVar = "dead"
    where: str
    worker_type: str | None
    reason: str | None
    died_at: float | None
    queue: str | None
    host: str | None
    detail: str | None


Sighting = Running | Waiting | Delayed | Finished | Dead


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """The result of a search."""

    found: tuple[Sighting, ...]
    hints: tuple[str, ...] = ()
    """Where nothing was found: who may have the workitem at hand, a line for each."""


def document(sighting: Sighting) -> dict[str, Any]:
    """A sighting for JSON."""
    facts = {each.name: getattr(sighting, each.name) for each in fields(sighting) if each.name != "where"}
    return {"state": sighting.state, "where": sighting.where, **facts}


def where_is(
    broker: Broker,
    message_id: str,
    *,
    worker_types: Iterable[str],
    results_queues: Iterable[str],
    pool: Pool | None,
    management: Management,
    progress: Progress = _no_progress,
) -> Whereabouts:
    """Search for the workitem `message_id`.

    `worker_types`: whose queues it may wait in. `results_queues`: where its result may be, beside `results`. `pool`:
    what this host's workerpool says, None where there is none. Raises `BrokerUnavailable`, `BrokerRefused`.
    """
    search = _Search(broker, message_id, progress)
    workers = [queues.WORKER_PREFIX + name for name in sorted(worker_types)]
    found = [
        *(running(pool, message_id) if pool is not None else ()),
        *search.ended(sorted({queues.RESULTS, *results_queues})),
    ]
    found = found or list(search.to_come([*workers, queues.INGRESS]))
    if found:
        return Whereabouts(tuple(found))
    return Whereabouts((), tuple(_at_hand(pool, management, [queues.INGRESS, *workers])))


def running(pool: Pool, message_id: str) -> Iterator[Running]:
    """The workers of `pool` that run the workitem."""
    for group in pool.groups:
        for worker in group.workers:
            for task in worker.tasks:
                if task.id == message_id:
                    yield Running(pool.host, group.name, worker.pid, task.attempt, task.since)


class _Search:
    """Looks for one workitem in queues."""

    def __init__(self, broker: Broker, message_id: str, progress: Progress) -> None:
        self._broker = broker
        self._id = message_id
        self._progress = progress

    def ended(self, results_queues: Iterable[str]) -> Iterator[Sighting]:
        """As a dead letter, or with a result: one workitem may have both, and more than one."""
        for delivery, _ in self._in(queues.DEAD):
            yield _dead(delivery.properties)
        for queue in results_queues:
            for delivery, _ in self._in(queue):
                yield _finished(queue, delivery.properties)

    def to_come(self, waits_in: Iterable[str]) -> Iterator[Sighting]:
        """Where it waits: in one place."""
        places: list[tuple[str, Callable[[Properties, int], Sighting]]] = [
            *((queue.name, partial(_delayed, queue.name)) for queue in queues.ladder()),
            *((name, partial(_waiting, name)) for name in waits_in),
        ]
        for queue, sighting in places:
            with closing(self._in(queue)) as found:
                for delivery, place in found:
                    yield sighting(delivery.properties, place)
                    return

    def _in(self, queue: str) -> Generator[tuple[Delivery, int], None, None]:
        """Each message in `queue` that has the id, and its place in the queue, from 1."""
        counts = self._broker.counts(queue)
        if counts is None or not counts.ready:
            return
        renew = _on_its_way if queue.startswith(queues.DELAY_PREFIX) else None
        with self._progress(queue, counts.ready) as advance, self._broker.read(queue, renew=renew) as reading:
            for place, message in enumerate(reading, start=1):
                advance(1)
                properties = message.properties
                if self._id in (properties.message_id, header(properties, "task_id")):
                    yield message.delivery, place


def _on_its_way(properties: Properties) -> tuple[str, Properties]:
    """Where the copy of a delayed message goes: on the same rung it would wait for all of its time again."""
    return queues.DELAY_STEP, off_rung(properties, int(time.time() * 1000))


def _at_hand(pool: Pool | None, management: Management, names: Iterable[str]) -> Iterator[str]:
    """Each place that may have the workitem, one line each."""
    for group in pool.groups if pool is not None else ():
        at_hand = sum(each.waiting or 0 for each in group.generations)
        if at_hand:
            yield f"{at_hand} workitems wait at hand of group {group.name} on this host; their ids are not known"
    figures = management.queues() or {}
    for name in names:
        if name in figures and figures[name].unacked:
            yield f"{figures[name].unacked} workitems of {name} are at hand of those who consume it"


def _dead(properties: Properties) -> Dead:
    _, worker_type, reason, died_at, queue, host, detail = dead_letters.read_dead_letter(properties)
    return Dead(queues.DEAD, worker_type, reason, died_at, queue, host, detail)


def _finished(queue: str, properties: Properties) -> Finished:
    names = ("status", "worker_type", "attempt", "runtime_ms", "host", "error_type")
    return Finished(queue, *(header(properties, name) for name in names))


def _delayed(queue: str, properties: Properties, place: int) -> Delayed:
    due_ms = header(properties, DELAY_DUE)
    begun, _ = attempts(properties)
    until = due_ms / 1000 if isinstance(due_ms, int) else None
    return Delayed(queue, until, header(properties, DELAY_TARGET), begun)


def _waiting(queue: str, properties: Properties, place: int) -> Waiting:
    return Waiting(queue, place, *attempts(properties))
