"""One workitem inside its listener, from delivery to settle: its data, and the one gate of its states.

1. `worker_resize` delivers message "42" with `x-attempt: 1`: `begin(delivery)` is run number 7, attempt 2, WAITING.
2. A worker is assigned run 7: ASSIGNED. It dies before it has read the workitem: WAITING again.
3. Another worker reports success: the run is PUBLISHING its `outcome`, a result for the queue `results`.
4. The broker confirms the result, the delivery is acked: SETTLED.
5. Had the connection been cut at step 3, the run would be KEPT until the broker delivers "42" again.

This module must never publish, settle or assign.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from taskqueue.amqp import Delivery
from taskqueue.foundation.lifecycle import Lifecycle
from taskqueue.listener.states import RUN_MOVES, RunState
from taskqueue.protocol.handouts import Handout, handout_of
from taskqueue.protocol.properties import Properties, attempts, new_id
from taskqueue.protocol.queues import Queue

_numbers = count(1)


class Publish(NamedTuple):
    """One message that a run led to; the broker must confirm it before the run is settled."""

    queue: Queue
    properties: Properties
    body: bytes
    declare: bool = True
    """Whether the listener declares the queue where it does not exist. A client's `reply_to` is never declared: where
    it does not exist, the result is dropped."""
    status: str = ""
    """`success` or `error` for a result, `report` for what else a front is told of its hand-out, "" for a workitem."""


@dataclass(slots=True, eq=False)
class Run:
    """A workitem in the hands of this listener. Its `delivery` is replaced when the broker delivers it again."""

    delivery: Delivery
    properties: Properties
    """The properties of the delivery; a `message_id` is added where the client set none."""
    attempt: int
    """The attempt that is under way, or comes next, from 1."""
    crashes: int
    """How many attempts ended with the death of the worker; of a hand-out: over all its hand-outs."""
    handout: Handout | None = None
    """What makes it a front's hand-out; None for an ordinary workitem."""
    number: int = field(default_factory=lambda: next(_numbers))
    """Names the run between listener and worker: `Assignment.tag` and `Report.tag`."""
    delivered: float = field(default_factory=time.monotonic)
    """When its delivery came, on the monotonic clock: no delivery may grow older than `consumer_timeout`."""
    started: float | None = None
    """When its worker began with it, on the monotonic clock; None while it waits for a worker, or behind another run in
    the kernel's queue to its worker."""
    leased: bool = False
    """It runs for long: its delivery is a copy in the lease queue of this listener (see `leases`)."""
    unleasable: bool = False
    """The broker has refused its copy for a lease; no other is sent."""
    alone: bool = False
    """It is one of several suspects of a crash: its worker gets nothing else beside it."""
    told: float | None = None
    """When its front was last told that it runs, on the monotonic clock; None where it was not. Of a hand-out only."""
    outcome: tuple[Publish, ...] = ()
    """All messages that it led to, until the broker has confirmed the last of them."""
    unanswered: int = 0
    """How many messages of `outcome` have no answer from the broker yet."""
    life: Lifecycle[RunState] = field(default_factory=lambda: Lifecycle(RunState.WAITING, RUN_MOVES))

    @property
    def message_id(self) -> str:
        """The id of the workitem."""
        return self.properties.message_id or ""

    @property
    def failures(self) -> int:
        """Attempts before this one that ended with an exception or a time limit: `max_retries` counts these.

        A hand-out whose worker dies is not run again here, so that none of its attempts here was a crash.
        """
        return self.attempt - 1 - (self.crashes if self.handout is None else 0)


def begin(delivery: Delivery) -> Run:
    """The run of a workitem that was delivered."""
    properties = delivery.properties
    if properties.message_id is None:
        properties = properties._replace(message_id=new_id())
    begun, crashes = attempts(properties)
    handout = handout_of(properties)
    return Run(delivery, properties, begun + 1, min(crashes, begun) if handout is None else crashes, handout)


def unix_ms() -> int:
    """Unix time in milliseconds: delays and the times of hand-outs are counted on several hosts."""
    return time.time_ns() // 1_000_000
