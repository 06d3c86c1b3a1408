"""One workitem inside its listener, from delivery to settle. Data, and the one gate of its states."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from taskqueue.amqp import Delivery
from taskqueue.foundation.lifecycle import Lifecycle
from taskqueue.listener.states import RUN_MOVES, RunState
from taskqueue.protocol.properties import Properties, attempts, new_id
from taskqueue.protocol.queues import Queue

_numbers = count(1)


class Publish(NamedTuple):
    """One message that a run led to; it must be confirmed before the run is settled."""

    queue: Queue
    properties: Properties
    body: bytes
    declare: bool = True
    """Ours to declare when it does not exist; a client's `reply_to` is not: its result is then dropped."""
    status: str = ""
    """Of a result: `success` or `error`."""


@dataclass(slots=True, eq=False)
class Run:
    """A workitem in the hands of this listener. Its `delivery` is replaced when it is redelivered to us."""

    delivery: Delivery
    properties: Properties
    """Those of the delivery, with a `message_id` in any case."""
    attempt: int
    """The attempt that is under way, or comes next."""
    crashes: int
    number: int = field(default_factory=lambda: next(_numbers))
    """What worker and listener call it between them."""
    delivered: float = field(default_factory=time.monotonic)
    """When its delivery came, on the monotonic clock: a delivery must not grow older than the broker allows."""
    started: float | None = None
    """When a worker began with it, on the monotonic clock; None while it waits, here or in the kernel."""
    leased: bool = False
    """It runs for long: its delivery is a copy in our lease queue (see `lease`)."""
    unleasable: bool = False
    """The broker has refused its copy for a lease."""
    alone: bool = False
    """It was one of several suspects of a crash: to be run with no other beside it."""
    outcome: tuple[Publish, ...] = ()
    """What it led to and the broker has not confirmed yet, all of it."""
    unanswered: int = 0
    """How many of `outcome` have no answer yet."""
    life: Lifecycle[RunState] = field(default_factory=lambda: Lifecycle(RunState.WAITING, RUN_MOVES))

    @property
    def message_id(self) -> str:
        """The id of the workitem."""
        return self.properties.message_id or ""

    @property
    def failures(self) -> int:
        """Attempts so far that ended with an exception, or a time limit: what `max_retries` counts."""
        return self.attempt - 1 - self.crashes


def begin(delivery: Delivery) -> Run:
    """A run of what was delivered."""
    properties = delivery.properties
    if properties.message_id is None:
        properties = properties._replace(message_id=new_id())
    begun, crashes = attempts(properties)
    return Run(delivery, properties, begun + 1, min(crashes, begun))
