"""Where a dead letter goes when it is replayed, and why it may not go there."""

from __future__ import annotations

from taskqueue.config.settings import AmqpSettings
from taskqueue.operations.broker import Broker
from taskqueue.protocol import queues
from taskqueue.protocol.queues import Queue
from taskqueue.workitem import TYPE_PATTERN

_NAME_BYTES = 255
"""Bytes of a queue's name, at most (AMQP 0-9-1, 4.2.5.3: short strings); a longer name would end the connection."""


class Destinations:
    """The queues that dead letters go back to, by name; each is looked up once.

    Taskqueue's own queues are declared by whoever publishes to them. Any other queue must exist, and the queue of dead
    letters is never a destination: its letters would go round in a circle.
    """

    def __init__(self, broker: Broker, amqp: AmqpSettings) -> None:
        self._broker = broker
        self._amqp = amqp
        self._known: dict[str, Queue | None] = {
            queues.INGRESS: queues.ingress(amqp),
            queues.DELAY_STEP: queues.delay_step(),
            queues.DEAD: None,
        }

    def of(self, name: str) -> Queue | None:
        """The queue `name`; None where there is none, or nothing may be replayed to it."""
        if name not in self._known:
            self._known[name] = self._found(name)
        return self._known[name]

    def hindrance(self, fault: str, name: str | None) -> str | None:
        """Why a dead letter that died in the queue `name` cannot be replayed; None where it can be.

        `fault`: what of its properties cannot be sent on (`Delivery.fault`), "" for nothing.
        """
        if fault:
            return fault
        if not name:
            return "it does not say which queue it died in"
        return None if self.of(name) else f"there is no queue {name} to send it to"

    def _found(self, name: str) -> Queue | None:
        worker_type = name.removeprefix(queues.WORKER_PREFIX)
        if worker_type != name and TYPE_PATTERN.fullmatch(worker_type):
            return queues.worker(worker_type, self._amqp)
        exists = 0 < len(name.encode()) <= _NAME_BYTES and self._broker.counts(name) is not None
        return Queue(name, {}) if exists else None
