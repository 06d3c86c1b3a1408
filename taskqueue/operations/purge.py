"""Removes the workitems that wait for a worker type. It must never touch what a worker runs or has at hand."""

from __future__ import annotations

from dataclasses import dataclass

from taskqueue.errors import TaskqueueError
from taskqueue.operations.broker import Broker
from taskqueue.protocol.queues import WORKER_PREFIX


class NothingWasSent(TaskqueueError):
    """The queue of a worker type does not exist: nothing was ever sent to its workers."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The workitems that wait in the queue of a worker type."""

    queue: str
    ready: int


def backlog(broker: Broker, worker_type: str) -> Backlog:
    """The queue of `worker_type`, and how many workitems wait in it; raises `NothingWasSent` where there is none."""
    queue = WORKER_PREFIX + worker_type
    counts = broker.counts(queue)
    if counts is None:
        raise NothingWasSent(f"there is no queue {queue}: nothing was ever sent to workers of type {worker_type}")
    return Backlog(queue, counts.ready)


def purge(broker: Broker, worker_type: str) -> int:
    """Remove for good what waits for workers of `worker_type`; how many workitems that were."""
    return broker.purge(WORKER_PREFIX + worker_type) or 0
