"""How many dispatchers and listeners would take a workitem that is submitted now."""

from __future__ import annotations

from dataclasses import dataclass

from taskqueue.operations.broker import Broker
from taskqueue.protocol import queues


@dataclass(frozen=True, slots=True)
class Consumers:
    """How many consume at present, on all hosts."""

    dispatchers: int
    workers: int
    """Listeners of the worker type: one for each group on each host. None consumes while all its workers run long
    workitems."""


def consumers(broker: Broker, worker_type: str) -> Consumers:
    """The consumers of the ingress, and of the queue of `worker_type`; 0 where there is no such queue."""
    found = broker.counts_of([queues.INGRESS, queues.WORKER_PREFIX + worker_type])
    return Consumers(*(0 if counts is None else counts.consumers for counts in found.values()))
