"""The queues as data: their names and arguments, and which rung of the delay ladder is next. Pure.

    taskqueue              workitems from clients; a dispatcher reads each one's worker type
    worker_<type>          workitems of one type, for its listeners
    taskqueue_delay_<n>    a rung: workitems that wait 2**n milliseconds, then move to taskqueue_delay_step
    taskqueue_lease_<id>   copies of what one listener runs for long; they return to worker_<type> if it is lost
    results                results that have no `reply_to`; a group may name another queue
    taskqueue_http_<book>  what became of the hand-outs of one book, for its fronts
    taskqueue_dead         dead letters, for a person

Whoever needs a queue declares it: two programs must never disagree about its arguments, so they are here only. This
module must never talk to a broker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any

from taskqueue.config.settings import AmqpSettings

INGRESS = "taskqueue"
DEAD = "taskqueue_dead"
RESULTS = "results"
WORKER_PREFIX = "worker_"
DELAY_PREFIX = "taskqueue_delay_"
DELAY_STEP = DELAY_PREFIX + "step"
"""Every rung dead-letters into this queue; a dispatcher takes each workitem from it and sends it to its next rung."""

DIRECT_REPLY_PREFIX = "amq.rabbitmq.reply-to"
"""The beginning of the names of RabbitMQ's pseudo-queues ("Direct Reply-to"). A publish to one can be neither mandatory
nor confirmed, and a name that RabbitMQ cannot resolve ends the whole connection (reply code 541): a client could make
a listener reconnect again and again. So such a `reply_to` gets no result."""

LEASE_PREFIX = "taskqueue_lease_"
"""The beginning of the names of lease queues; the rest is a listener's own id."""
LEASE_AFTER_S = 20.0
"""Seconds that a listener holds a delivery before it leases it, and between renewals. RabbitMQ checks
`consumer_timeout` every 60 s, so one renewal may fail and the delivery is still held."""
LEASE_TTL_MS = 60_000
"""Milliseconds after the loss of a listener until its leased workitems return to their worker queue: enough for it to
reconnect, and little enough that another host begins soon."""
LEASE_EXPIRES_MS = 5 * LEASE_TTL_MS
"""Milliseconds without a consumer after which the broker removes a lease queue; all that was in it has returned by
then."""

DELIVERY_LIMIT = 20
"""Deliveries of one message before a quorum queue dead-letters it. It is RabbitMQ 4's default; 3.10 has no default, and
would deliver a workitem that ends its listener for ever."""

OUTCOMES_PREFIX = "taskqueue_http_"
"""The beginning of the names of outcome queues; the rest is the id of a book."""
OUTCOMES_DELIVERY_LIMIT = 1_000_000
"""Deliveries of one outcome. Fronts hold outcomes while their book is away, and each front that ends counts one for all
that it held: RabbitMQ 4's default of 20 would drop them. 3.10 refuses -1, which is 4's word for no limit."""

LOWEST_RUNG = 4
"""Exponent of the shortest rung, 2**4 = 16 ms. A delay is rounded up to a multiple of 16 ms, so rounding
makes a workitem less than 16 ms late."""
HIGHEST_RUNG = 31
"""Exponent of the longest rung, 2**31 ms = 24.8 days: the largest power of two below RabbitMQ's limit for a TTL
(2**32 - 1 ms). A longer delay passes it several times."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue, and the arguments with which taskqueue declares it."""

    name: str
    arguments: Mapping[str, Any]


def ingress(amqp: AmqpSettings) -> Queue:
    """`taskqueue`. By default it has no arguments, so that a client of any kind may declare it, too."""
    return Queue(INGRESS, _quorum() if amqp.ingress_queue_type == "quorum" else _classic())


def worker(worker_type: str, amqp: AmqpSettings) -> Queue:
    """`worker_<type>`, which the listeners of that type consume."""
    return _worker(worker_type, amqp.queue_type)


@lru_cache(1024)
def _worker(worker_type: str, queue_type: str) -> Queue:
    name = WORKER_PREFIX + worker_type
    if queue_type == "quorum":
        return Queue(name, _quorum({"x-delivery-limit": DELIVERY_LIMIT}, dead_letters_to=DEAD))
    return Queue(name, _classic({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD}))


@lru_cache(1024)
def results(name: str) -> Queue:
    """A queue of results. It has no arguments, so that a client of any kind may declare it, too."""
    return Queue(name, _classic())


@lru_cache(1024)
def outcomes(book_id: str) -> Queue:
    """`taskqueue_http_<book id>`, what became of a book's hand-outs. It dead-letters into `taskqueue_dead`, for an
    operator's policy can lower the delivery limit, and nothing may be dropped in silence."""
    arguments = {"x-delivery-limit": OUTCOMES_DELIVERY_LIMIT}
    return Queue(OUTCOMES_PREFIX + book_id, _quorum(arguments, dead_letters_to=DEAD))


def dead() -> Queue:
    """`taskqueue_dead`, the dead letters."""
    return Queue(DEAD, _quorum())


def delay_step() -> Queue:
    """`taskqueue_delay_step`, between two rungs. It dead-letters into `taskqueue_dead`: otherwise RabbitMQ 4 would drop
    a workitem that passes its default delivery limit."""
    return Queue(DELAY_STEP, _quorum({"x-delivery-limit": DELIVERY_LIMIT}, dead_letters_to=DEAD))


@cache
def rung(exponent: int) -> Queue:
    """The rung that holds a workitem for 2**exponent milliseconds."""
    return Queue(f"{DELAY_PREFIX}{exponent:02d}", _quorum({"x-message-ttl": 2**exponent}, dead_letters_to=DELAY_STEP))


def ladder() -> tuple[Queue, ...]:
    """All queues in which delayed workitems wait."""
    return (delay_step(), *(rung(exponent) for exponent in range(LOWEST_RUNG, HIGHEST_RUNG + 1)))


def lease(name: str, worker_type: str, amqp: AmqpSettings) -> Queue:
    """The lease queue of the listener `name`: it dead-letters into the worker queue when that listener is lost."""
    arguments = {"x-message-ttl": LEASE_TTL_MS, "x-expires": LEASE_EXPIRES_MS}
    target = worker(worker_type, amqp).name
    if amqp.queue_type == "quorum":
        return Queue(LEASE_PREFIX + name, _quorum(arguments, dead_letters_to=target))
    return Queue(
        LEASE_PREFIX + name,
        _classic({**arguments, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": target}),
    )


def next_rung(remaining_ms: int) -> tuple[Queue, int] | None:
    """(the rung for the highest bit of a delay, milliseconds left after it); None when the delay is over.

    The delay is rounded up to 16 ms. Below 2**32 ms no rung comes twice. In a longer delay the highest does, and the
    broker sees no cycle, since whoever publishes the workitem again removes `x-death`.
    """
    unit = 2**LOWEST_RUNG
    remaining_ms = -(-remaining_ms // unit) * unit
    if remaining_ms <= 0:
        return None
    exponent = min(remaining_ms.bit_length() - 1, HIGHEST_RUNG)
    return rung(exponent), remaining_ms - 2**exponent


def _classic(arguments: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    return MappingProxyType(dict(arguments or {}))


def _quorum(arguments: Mapping[str, Any] | None = None, *, dead_letters_to: str | None = None) -> Mapping[str, Any]:
    """The arguments of a quorum queue. At-least-once dead-lettering needs `reject-publish` (RabbitMQ, "Quorum Queues",
    "Activating at-least-once dead-lettering")."""
    merged: dict[str, Any] = {"x-queue-type": "quorum", **(arguments or {})}
    if dead_letters_to is not None:
        merged |= {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead_letters_to,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
    return MappingProxyType(merged)
