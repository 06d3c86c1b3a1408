"""The durable lease of a long run: no delivery is held longer than a broker's `consumer_timeout` allows.

1. Message "42" has been run for 20 s: a copy is published to `taskqueue_lease_<id>`, the queue of this listener alone.
2. The broker confirms the copy, and delivers it to this listener. The run goes on with the new delivery, and the older
   one is acked. "42" is leased.
3. 20 s later the copy is 20 s old: it is renewed in the same way, again and again. No delivery grows old.
4. The run ends: its result is published, and the last copy is acked.
5. Had the host died at step 3, the copy would be in the lease queue again. After the queue's TTL of 60 s the broker
   moves it back to `worker_<type>`, and another host runs it. The queue removes itself when nobody consumes it.

This module must never ack a delivery before the copy that takes its place has been delivered.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from taskqueue.amqp import Connection, Consumer, Declarer, Delivery, Published, Publisher
from taskqueue.config.settings import AmqpSettings
from taskqueue.foundation.loop import Timer
from taskqueue.listener.run import Run
from taskqueue.listener.runs import Runs
from taskqueue.listener.states import RunState
from taskqueue.protocol import queues
from taskqueue.protocol.properties import handed_back, new_id

log = logging.getLogger(__name__)

_CHECK_S = 5.0
"""Seconds between two looks at the age of the deliveries: a lease is taken or renewed that much late at most."""
_END_S = 1.0
"""Seconds that the end of the listener waits for the broker to remove the lease queue; then the queue expires."""
_NO_LIMIT = 65_535
"""The prefetch of the lease queue: every copy in it belongs to a run in hand and must be delivered."""


class Leases:
    """Leases and renews the deliveries of `runs`.

    `on_leased()` is called when a run was leased for the first time, `on_unknown(delivery)` for a delivery of the lease
    queue that no run awaits, `on_lost()` when all deliveries of the lease queue have gone back to the broker.
    """

    def __init__(
        self,
        connection: Connection,
        declarer: Declarer,
        publisher: Publisher,
        worker_type: str,
        amqp: AmqpSettings,
        runs: Runs,
        *,
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
        self._awaiting_copy: dict[str, Run] = {}
        """Runs whose copy was published and has not been delivered yet, by `message_id`."""
        self._timer: Timer | None = None

    def watch(self) -> None:
        """Look at the deliveries from time to time, as long as there are runs. Call this when a run begins."""
        if self._timer is None:
            self._timer = self._connection.loop.call_later(_CHECK_S, self._check)

    def end(self, done: Callable[[], None]) -> None:
        """The listener ends: remove the lease queue if it is empty, then call `done`.

        A queue that may hold a workitem is left alone: its TTL sends the workitem back, then the queue expires.
        """
        if self._timer is not None:
            self._timer.cancel()
        if self._consumer is None or not self._connection.is_up or self._awaiting_copy or self._consumer.unsettled:
            done()
            return
        calls = [done]

        def once() -> None:
            if calls:
                calls.pop()()

        self._consumer.cancel(partial(self._declarer.delete, self._queue.name, once))
        self._connection.loop.call_later(_END_S, once)

    def _check(self) -> None:
        self._timer = None
        if self._runs:
            self.watch()
        if not self._connection.is_up or self._connection.blocked:
            return
        now = time.monotonic()
        for run in list(self._runs):
            old = now - run.delivered >= queues.LEASE_AFTER_S and run.life.state in {
                RunState.ASSIGNED,
                RunState.WAITING,
            }
            if old and run.delivery.held and not run.unleasable:
                self._lease(run)

    def _lease(self, run: Run) -> None:
        if self._consumer is None:
            self._consumer = Consumer(
                self._connection, self._declarer, self._queue, _NO_LIMIT, self._delivered, self._on_lost
            )
        self._declarer.declare(self._queue, partial(self._publish, run))

    def _publish(self, run: Run) -> None:
        if run.message_id in self._awaiting_copy or not run.delivery.held:
            return  # a copy is on its way, or the delivery was lost while the queue was declared
        self._awaiting_copy[run.message_id] = run  # not earlier: a lost connection drops the declaration
        copy = handed_back(run.properties, run.attempt - 1, run.crashes)
        self._publisher.publish(
            self._queue.name, copy._replace(expiration=None), run.delivery.body, partial(self._published, run)
        )

    def _published(self, run: Run, published: Published) -> None:
        if published is not Published.CONFIRMED:
            self._awaiting_copy.pop(run.message_id, None)  # the next check publishes another copy
        if published is Published.REFUSED:
            run.unleasable = True
            log.warning("lease refused: task=%s reason=%s", run.message_id, self._publisher.refusal)

    def _delivered(self, delivery: Delivery) -> None:
        run = self._awaiting_copy.pop(delivery.properties.message_id or "", None)
        if run is not None and run.life.state is RunState.SETTLED:
            delivery.settle()  # the run ended meanwhile and was settled with its older delivery
        elif run is not None and run.delivery.held:
            run.delivery.settle()
            run.delivery = delivery
            run.delivered = time.monotonic()
            if not run.leased:
                run.leased = True
                log.info("lease taken: task=%s queue=%s", run.message_id, self._queue.name)
                self._on_leased()
        else:
            self._on_unknown(delivery)  # the redelivery of a kept run, or of a run that this listener has dropped
