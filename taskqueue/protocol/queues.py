"""The queues and the delay ladder as data: names, arguments, and the arithmetic of a delay. Never talks to a broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from taskqueue.config.settings import AmqpSettings

INGRESS = "taskqueue"
DEAD = "taskqueue_dead"
RESULTS = "results"
WORKER_PREFIX = "worker_"
DELAY_PREFIX = "taskqueue_delay_"
DELAY_STEP = DELAY_PREFIX + "step"
"""Where every rung of the ladder lets go to: dispatchers take from it and send on to the next rung."""

DIRECT_REPLY_PREFIX = "amq.rabbitmq.reply-to"
"""RabbitMQ's pseudo-queues ("direct reply-to"). They can be neither mandatory nor confirmed; and a publish to one whose
name it cannot resolve ends the whole connection (541), which a client could have us do again and again."""

LEASE_PREFIX = "taskqueue_lease_"
LEASE_AFTER_S = 20.0
"""Seconds that a delivery is held before it is leased: a third of the shortest `consumer_timeout` that RabbitMQ checks
(it checks every 60 s), so that one failed renewal does no harm."""
LEASE_TTL_MS = 60_000
"""How long after its listener was lost a leased workitem goes back: time to reconnect, not time to wait."""
LEASE_EXPIRES_MS = 5 * LEASE_TTL_MS
"""Without a consumer for so long, a lease queue is removed: all that was in it has gone by then."""

DELIVERY_LIMIT = 20
"""Of a quorum queue, before it dead-letters by itself. RabbitMQ 4's own default, which 3.10 does not have."""

LOWEST_RUNG = 4
"""2**4 ms: a delay is rounded up to 16 ms, well within the 100 ms that are promised."""
HIGHEST_RUNG = 31
"""2**31 ms, 24.8 days: the largest power of two below RabbitMQ's limit for a TTL; longer delays pass it again."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue as we would declare it."""

    name: str
    arguments: Mapping[str, Any]


def ingress(amqp: AmqpSettings) -> Queue:
    """`taskqueue`: without arguments by default, so that any client that declares it durable agrees."""
    return Queue(INGRESS, _quorum() if amqp.ingress_queue_type == "quorum" else _classic())


def worker(worker_type: str, amqp: AmqpSettings) -> Queue:
    """`worker_<type>`: what a worker type's listeners consume."""
    return _worker(worker_type, amqp.queue_type)


@lru_cache(1024)
def _worker(worker_type: str, queue_type: str) -> Queue:
    name = WORKER_PREFIX + worker_type
    if queue_type == "quorum":
        return Queue(name, _quorum({"x-delivery-limit": DELIVERY_LIMIT}, dead_letters_to=DEAD))
    return Queue(name, _classic({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD}))


@lru_cache(1024)
def results(name: str) -> Queue:
    """Where results go: durable, no arguments, so that any client can declare it."""
    return Queue(name, _classic())


def dead() -> Queue:
    """`taskqueue_dead`: what needs a person."""
    return Queue(DEAD, _quorum())


def delay_step() -> Queue:
    """The queue between two rungs. RabbitMQ 4 drops what passes its default limit where there is nowhere to put it."""
    return Queue(DELAY_STEP, _quorum({"x-delivery-limit": DELIVERY_LIMIT}, dead_letters_to=DEAD))


def rung(exponent: int) -> Queue:
    """The rung that holds a workitem for 2**exponent milliseconds."""
    return Queue(f"{DELAY_PREFIX}{exponent:02d}", _quorum({"x-message-ttl": 2**exponent}, dead_letters_to=DELAY_STEP))


def ladder() -> tuple[Queue, ...]:
    """All queues in which delayed workitems wait."""
    return (delay_step(), *(rung(exponent) for exponent in range(LOWEST_RUNG, HIGHEST_RUNG + 1)))


def lease(name: str, worker_type: str, amqp: AmqpSettings) -> Queue:
    """What one listener is running for long: private to it, let go to its worker queue when the listener is gone."""
    arguments = {"x-message-ttl": LEASE_TTL_MS, "x-expires": LEASE_EXPIRES_MS}
    target = worker(worker_type, amqp).name
    if amqp.queue_type == "quorum":
        return Queue(LEASE_PREFIX + name, _quorum(arguments, dead_letters_to=target))
    return Queue(
        LEASE_PREFIX + name,
        _classic({**arguments, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": target}),
    )


def next_rung(remaining_ms: int) -> tuple[Queue, int] | None:
    """The rung for a delay's highest bit and the milliseconds left after it; None when the delay is over."""
    unit = 2**LOWEST_RUNG
    remaining_ms = -(-remaining_ms // unit) * unit
    if remaining_ms <= 0:
        return None
    exponent = min(remaining_ms.bit_length() - 1, HIGHEST_RUNG)
    return rung(exponent), remaining_ms - 2**exponent


def _classic(arguments: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    return MappingProxyType(dict(arguments or {}))


def _quorum(arguments: Mapping[str, Any] | None = None, *, dead_letters_to: str | None = None) -> Mapping[str, Any]:
    """At-least-once dead-lettering needs `reject-publish` (RabbitMQ, quorum queues, "dead letter strategy")."""
    made: dict[str, Any] = {"x-queue-type": "quorum", **(arguments or {})}
    if dead_letters_to is not None:
        made |= {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead_letters_to,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
    return MappingProxyType(made)
