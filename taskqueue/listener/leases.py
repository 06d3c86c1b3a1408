"""The durable lease of a long run: no delivery is held longer than a broker's `consumer_timeout` allows.

A workitem that runs long is copied, confirmed, into a queue of this listener alone, which the listener consumes; its
run goes on with the delivery of the copy, and the older delivery is settled. Renewed again and again, no delivery
grows old, whatever the broker's limit is. When the host dies, the copy is in its queue again, whose TTL sends it back
to `worker_<type>`: it is run elsewhere. The queue removes itself when nobody has consumed it for a while.

It must never settle a delivery before the copy that takes its place has been delivered.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial

from taskqueue.amqp import Connection, Consumer, Declarer, Delivery, Published, Publisher
from taskqueue.config.settings import AmqpSettings
from taskqueue.foundation.loop import Timer
from taskqueue.listener.run import Run
from taskqueue.listener.states import RunState
from taskqueue.protocol import queues
from taskqueue.protocol.properties import handed_back, new_id

log = logging.getLogger(__name__)

_CHECK_S = 5.0
_END_S = 1.0


class Leases:
    """Renews the deliveries of `runs()`; `on_leased()` is called where one is the lease queue's from now on.

    `on_unknown(delivery)` gets what no run of ours waits for.
    """

    def __init__(
        self,
        connection: Connection,
        declarer: Declarer,
        publisher: Publisher,
        worker_type: str,
        amqp: AmqpSettings,
        *,
        runs: Callable[[], Iterable[Run]],
        on_leased: Callable[[], None],
        on_unknown: Callable[[Delivery], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._declarer = declarer
        self._publisher = publisher
        self._queue = queues.lease(new_id(), worker_type, amqp)
        self._runs = runs
        self._on_leased = on_leased
        self._on_unknown = on_unknown
        self._on_lost = on_lost
        self._consumer: Consumer | None = None
        self._due: dict[str, Run] = {}
        """Runs whose copy was published and has not been delivered yet, by `message_id`."""
        self._timer: Timer | None = None

    def watch(self) -> None:
        """Something runs: look at it from time to time, until nothing does."""
        if self._timer is None:
            self._timer = self._connection.loop.call_later(_CHECK_S, self._check)

    def end(self, done: Callable[[], None]) -> None:
        """The listener ends: remove the queue, where there is one with nothing in it, then call `done`.

        What may hold a workitem is left to let go of it, and to remove itself.
        """
        if self._timer is not None:
            self._timer.cancel()
        if self._consumer is None or not self._connection.is_up or self._due or self._consumer.unsettled:
            done()
            return
        left = [done]

        def once() -> None:
            if left:
                left.pop()()

        self._consumer.cancel(partial(self._declarer.delete, self._queue.name, once))
        self._connection.loop.call_later(_END_S, once)

    def _check(self) -> None:
        self._timer = None
        runs = list(self._runs())
        if runs:
            self.watch()
        if not self._connection.is_up or self._connection.blocked:
            return
        now = time.monotonic()
        for run in runs:
            old = now - run.delivered >= queues.LEASE_AFTER_S and run.life.state in {RunState.HANDED, RunState.WAITING}
            if old and run.delivery.held and run.message_id not in self._due and not run.unleasable:
                self._lease(run)

    def _lease(self, run: Run) -> None:
        if self._consumer is None:
            # No limit: it is for what runs here already.
            self._consumer = Consumer(
                self._connection, self._declarer, self._queue, 65535, self._delivered, self._on_lost
            )
        self._declarer.declare(self._queue, partial(self._publish, run))

    def _publish(self, run: Run) -> None:
        if run.message_id in self._due or not run.delivery.held:
            return  # the declaration was asked for twice, or took longer than the run's delivery lived
        self._due[run.message_id] = run  # not before: a declaration is forgotten with its connection
        copy = handed_back(run.properties, run.attempt - 1, run.crashes)
        self._publisher.publish(
            self._queue.name, copy._replace(expiration=None), run.delivery.body, partial(self._published, run)
        )

    def _published(self, run: Run, published: Published) -> None:
        if published is not Published.CONFIRMED:
            self._due.pop(run.message_id, None)  # the next check tries again
        if published is Published.REFUSED:
            run.unleasable = True
            log.warning("lease refused: task=%s reason=%s", run.message_id, self._publisher.refusal)

    def _delivered(self, delivery: Delivery) -> None:
        run = self._due.pop(delivery.properties.message_id or "", None)
        if run is not None and run.life.state is RunState.SETTLED:
            delivery.settle()  # it ended meanwhile, with its older delivery
        elif run is not None and run.delivery.held:
            run.delivery.settle()
            run.delivery = delivery
            run.delivered = time.monotonic()
            if not run.leased:
                run.leased = True
                log.info("lease taken: task=%s queue=%s", run.message_id, self._queue.name)
                self._on_leased()
        else:
            self._on_unknown(delivery)  # known to the settler, which keeps what has lost its delivery; or run anew
