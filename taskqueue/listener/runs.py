"""Every run in the hands of this listener: which of them wait, and which have lost their delivery. All parts share it.

1. Message "42" is delivered: run 7 goes behind all that are `waiting`. The scheduler takes it from the front.
2. Its worker dies with the workitem unread: `wait_first([run])` puts run 7 before all that wait.
3. The connection is cut while run 7 runs: the broker has the delivery back, `keep(run)` remembers the run by "42".
4. The broker delivers "42" again: `reclaim` gives run 7, which goes on with the new delivery. It is not run twice.
5. Its delivery is settled: `drop(run)`.

This module must never publish, settle or assign: it says what there is.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from taskqueue.amqp import Delivery
from taskqueue.amqp.wire import Source
from taskqueue.listener.run import Run
from taskqueue.listener.states import RunState
from taskqueue.protocol import queues
from taskqueue.protocol.properties import attempts, header

_KEPT_LIMIT = 10_000
"""Runs: that many are kept for their redelivery; the oldest is given up for each one more."""
_KEPT_S = 3600.0
"""Seconds that a run is kept for its redelivery, which may have gone to another host; then the run is given up."""


class _Kept(NamedTuple):
    run: Run
    since: float
    """On the monotonic clock."""


class Runs:
    """The runs of one listener."""

    def __init__(self) -> None:
        self.in_hand: dict[int, Run] = {}
        """Every run that is not settled, by number, in the order of its delivery."""
        self.waiting: deque[Run] = deque()
        """The runs that no worker has, first come first."""
        self.kept: OrderedDict[str, _Kept] = OrderedDict()
        """The runs whose delivery is lost and may come again, by `message_id`."""

    def __iter__(self) -> Iterator[Run]:
        return iter(self.in_hand.values())

    def __len__(self) -> int:
        return len(self.in_hand)

    # -- what the parts ask

    @property
    def unfinished(self) -> bool:
        """Whether a run waits or is with a worker."""
        return any(run.life.state in {RunState.ASSIGNED, RunState.WAITING} for run in self)

    @property
    def unconfirmed(self) -> bool:
        """Whether the broker has yet to confirm the outcome of a run."""
        return any(run.life.state is RunState.PUBLISHING for run in self)

    def held_beside(self, consumer: Source) -> int:
        """How many runs hold a delivery that is not of `consumer`, but of the lease queue."""
        return sum(run.delivery.source is not consumer and run.delivery.held for run in self)

    # -- waiting

    def wait_first(self, runs: list[Run]) -> None:
        """Let `runs` wait before all others. A run whose delivery is lost is dropped: the broker delivers it anew."""
        for run in reversed(runs):
            run.started = None
            if not run.delivery.held:
                self.drop(run)
                continue
            if run.life.state is RunState.ASSIGNED:
                run.life.move(RunState.WAITING)
            self.waiting.appendleft(run)

    def take_waiting(self, chosen: Callable[[Run], bool] | None = None) -> list[Run]:
        """All that waits, or what is `chosen` of it: it waits no more."""
        if chosen is None:
            taken = list(self.waiting)
            self.waiting.clear()
        elif taken := [run for run in self.waiting if chosen(run)]:
            self.waiting = deque(run for run in self.waiting if run not in taken)
        return taken

    def drop(self, run: Run) -> None:
        """Forget `run`: if the broker delivers its workitem to this listener again, that is a new run."""
        self.in_hand.pop(run.number, None)
        kept = self.kept.get(run.message_id)
        if kept is not None and kept.run is run:
            del self.kept[run.message_id]

    # -- lost deliveries

    def drop_lost(self) -> list[Run]:
        """A channel was closed, and the broker has its deliveries back. Drop the runs among them that waited; give the
        others, which go on without a delivery."""
        lost = [run for run in self if not run.delivery.held]
        self.waiting = deque(run for run in self.waiting if run.delivery.held)
        for run in lost:
            if run.life.state is RunState.WAITING:
                del self.in_hand[run.number]
        return [run for run in lost if run.life.state is not RunState.WAITING]

    def keep(self, run: Run) -> None:
        """Remember `run` for the redelivery of its workitem. It takes the place of another with its `message_id`."""
        now = time.monotonic()
        older = self.kept.get(run.message_id)
        if older is not None and older.run is not run and older.run.life.state is RunState.KEPT:
            self.drop(older.run)
        self.kept[run.message_id] = _Kept(run, now)
        while self.kept:
            oldest = next(iter(self.kept.values()))
            if len(self.kept) <= _KEPT_LIMIT and now - oldest.since < _KEPT_S:
                break
            self.drop(oldest.run)

    def reclaim(self, run: Run) -> Run | None:
        """`run` was delivered: give the kept run that this redelivers, with the new delivery; None where it is new.

        A redelivery is known by the broker's flag, or by its way through a lease queue, and has the attempts and the
        body of the kept run. A dead letter that an operator has sent again, or the next attempt of another host, has
        not (design, section 7).
        """
        kept = self.kept.get(run.message_id)
        if kept is None:
            return None
        known = kept.run
        begun = {attempts(known.delivery.properties), (known.attempt - 1, known.crashes)}
        if not (
            comes_again(run.delivery)
            and _hand_out_number(run) == _hand_out_number(known)
            and attempts(run.delivery.properties) in begun
            and run.delivery.body == known.delivery.body
        ):
            return None
        del self.kept[run.message_id]
        known.delivery = run.delivery
        known.delivered = run.delivered
        return known


def comes_again(delivery: Delivery) -> bool:
    """Whether the broker had delivered it before, or held it in a lease queue, whose copies are first deliveries."""
    ways = (delivery.source.queue.name, header(delivery.properties, "x-first-death-queue"))
    return delivery.redelivered or any(str(way).startswith(queues.LEASE_PREFIX) for way in ways)


def _hand_out_number(run: Run) -> int | None:
    return None if run.handout is None else run.handout.number
