"""Broker, queues and this host's pool at one moment, for `taskqueue status` or a dashboard.

The figures come from AMQP, from the pool and, where it is enabled, from the management plugin. A figure that none of
them gives is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from taskqueue.operations.broker import Broker, Server
from taskqueue.operations.front_overview import FrontSeen
from taskqueue.operations.management import Management, Node, QueueFigures
from taskqueue.protocol import queues
from taskqueue.status.document import Pool

DELAYED = queues.DELAY_PREFIX + "*"
LEASED = queues.LEASE_PREFIX + "*"
"""Rows that stand for many queues."""
_DISPATCHER = "taskqueue-dispatcher "


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue, or all those of one kind together. Rates are messages a second, in and out."""

    name: str
    ready: int
    unacked: int | None
    consumers: int | None
    in_rate: float | None
    out_rate: float | None


@dataclass(slots=True)
class Overview:
    """The figures of one moment. `trouble`: why there are none of the broker; `pool_trouble`: none of the pool."""

    at: float
    server: Server | None = None
    vhost: str = ""
    trouble: str | None = None
    nodes: list[Node] | None = None
    queues: list[QueueState] = field(default_factory=list)
    dispatchers: int | None = None
    dispatcher_names: list[str] | None = None
    """Host and pid of each, of all hosts."""
    pool: Pool | None = None
    pool_trouble: str | None = None
    front: FrontSeen | None = None
    """This host's front; None where none is set up here."""

    @property
    def alarms(self) -> list[str] | None:
        """The alarms of the broker's nodes, a line for each: under an alarm the broker takes no messages."""
        if self.nodes is None:
            return None
        kinds = (("memory", "memory_alarm"), ("disk", "disk_alarm"))
        return [f"{kind} alarm on {node.name}" for node in self.nodes for kind, name in kinds if getattr(node, name)]

    def document(self) -> dict[str, Any]:
        """All of it for JSON; the pool's own document as it came."""
        return {
            "at": self.at,
            "broker": None if self.server is None else {**self.server._asdict(), "vhost": self.vhost},
            "trouble": self.trouble,
            "nodes": None if self.nodes is None else [_named(node) for node in self.nodes],
            "alarms": self.alarms,
            "dispatchers": self.dispatchers,
            "dispatcher_names": self.dispatcher_names,
            "queues": [_named(queue) for queue in self.queues],
            "pool": None if self.pool is None else self.pool.document,
            "pool_trouble": self.pool_trouble,
            "front": None if self.front is None else self.front.document(),
        }


def see_broker(
    overview: Overview,
    broker: Broker,
    management: Management,
    *,
    vhost: str,
    worker_types: Iterable[str],
    results_queues: Iterable[str],
) -> None:
    """Fill in what the broker says, with a row for the queues of `worker_types` and for `results_queues`."""
    overview.vhost = vhost
    overview.server = broker.server
    figures = management.queues()
    names = _names(worker_types, results_queues, figures)
    counted = {name: counts for name, counts in broker.counts_of(names).items() if counts is not None}
    for name, counts in counted.items():
        known = (figures or {}).get(name)
        overview.queues.append(
            QueueState(
                name,
                counts.ready,
                known.unacked if known else None,
                counts.consumers,
                known.publish_rate if known else None,
                known.deliver_rate if known else None,
            )
        )
    overview.queues += _together(broker, figures)
    overview.dispatchers = counted[queues.INGRESS].consumers if queues.INGRESS in counted else 0
    overview.nodes = management.nodes()
    overview.dispatcher_names = _dispatchers(management)


def _names(
    worker_types: Iterable[str], results_queues: Iterable[str], figures: dict[str, QueueFigures] | None
) -> list[str]:
    """The queues with a row of their own. AMQP cannot list them: they are those of the worker types that are known."""
    workers = {queues.WORKER_PREFIX + worker_type for worker_type in worker_types}
    workers |= {name for name in figures or () if name.startswith(queues.WORKER_PREFIX)}
    return [queues.INGRESS, *sorted(workers), *sorted({*results_queues, queues.RESULTS}), queues.DEAD]


def _together(broker: Broker, figures: dict[str, QueueFigures] | None) -> Iterable[QueueState]:
    """Rows for delays, and for the leases of long tasks, whose names only the management plugin knows."""
    names = [queue.name for queue in queues.ladder()]
    found = [counts for counts in broker.counts_of(names).values() if counts is not None]
    if found:
        yield QueueState(DELAYED, sum(counts.ready for counts in found), None, None, None, None)
    leases = [each for name, each in (figures or {}).items() if name.startswith(queues.LEASE_PREFIX)]
    if leases:
        yield QueueState(
            LEASED, sum(each.ready for each in leases), sum(each.unacked for each in leases),
            sum(each.consumers for each in leases), None, None,
        )  # fmt: skip


def _dispatchers(management: Management) -> list[str] | None:
    names = management.connections()
    return (
        None
        if names is None
        else sorted(name.removeprefix(_DISPATCHER) for name in names if name.startswith(_DISPATCHER))
    )


def _named(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}
