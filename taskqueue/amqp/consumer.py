"""Consumes one queue, and comes back by itself after whatever ends it.

Its life, with the example of `worker_x` and prefetch 10:

1. The connection is up: `worker_x` is declared, a channel is opened, a consumer begins (see `consumer_channel`).
2. Deliveries arrive. In the connection's turn `on_delivery(delivery)` is called for each.
3. `delivery.settle()` for three of them: at the end of the turn one frame acks all three.
4. `set_prefetch(40)`, `pause()`, `resume()`: consumers begin or are cancelled; the deliveries in hand stay.
5. The broker ends the consumer (`worker_x` was deleted or moved): after a backoff it is declared and consumed again.
6. The channel or the connection closes: `on_lost()`, for the broker delivers again what was not settled; then as from
   1.
7. `cancel(done)`: `done()` once no delivery can be on its way any more. Those in hand can still be settled.

It must never settle a delivery by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from taskqueue.amqp.cancelling import when_all_arrived
from taskqueue.amqp.connection import Connection
from taskqueue.amqp.connection_user import ConnectionUser
from taskqueue.amqp.consumer_channel import ConsumerChannel
from taskqueue.amqp.declarer import Declarer
from taskqueue.amqp.patience import patience_s
from taskqueue.amqp.reasons import describe
from taskqueue.amqp.wire import Delivery
from taskqueue.foundation.backoff import Backoff
from taskqueue.foundation.loop import Timer
from taskqueue.protocol.queues import Queue

log = logging.getLogger(__name__)

_BACKOFF = (0.1, 5.0)
"""Seconds, first and longest wait before a consumer or channel that the broker ended is made again."""
_LAST_ACKS = 16
"""Acks that are sent one by one after `cancel`; the others wait for the last workitem and are sent as one. Where more
than 32 are under way to a quorum queue the broker's channel stashes the rest, and forgets them when it is closed
(RabbitMQ 3.10 to 4.3, rabbit_fifo_client): finished work would be run again."""


class Consumer(ConnectionUser):
    """Consumes `queue`, declaring it first.

    `on_delivery(delivery)` is called in the connection's turn. `on_lost()` when all deliveries that were not settled
    have gone back to the broker.
    """

    def __init__(
        self,
        connection: Connection,
        declarer: Declarer,
        queue: Queue,
        prefetch: int,
        on_delivery: Callable[[Delivery], None],
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.queue = queue
        self.prefetch = prefetch
        self.epoch = 0
        """How many channels there were: a delivery of an earlier one cannot be settled."""
        self._connection = connection
        self._declarer = declarer
        self._on_delivery = on_delivery
        self._on_lost = on_lost
        self._channel: ConsumerChannel | None = None
        self._wanted = True
        self._last_acks = _LAST_ACKS
        self._paused = False
        self._backoff = Backoff(*_BACKOFF)
        self._returning: Timer | None = None
        self._unanswered = 0
        """How many consumers, one after the other, the broker has not confirmed in time."""
        self._deadline: Timer | None = None
        self._cancelled: Callable[[], None] | None = None
        connection.add(self)

    @property
    def unsettled(self) -> int:
        """Deliveries of this channel that were not settled yet."""
        return self._channel.acks.unsettled if self._channel is not None else 0

    @property
    def consuming(self) -> bool:
        """Whether the broker has confirmed a consumer that is not cancelled."""
        return self._channel is not None and bool(self._channel.granted) and not self._channel.starting

    def settle(self, delivery: Delivery) -> bool:
        """Ack `delivery` in this turn; False where its channel is gone, and with it the delivery."""
        channel = self._channel
        if channel is None or delivery.epoch != self.epoch:
            return False
        channel.acks.settled.add(delivery.tag)
        return True

    def holds(self, delivery: Delivery) -> bool:
        """Whether `delivery` can still be settled: the channel that it came on is open."""
        return delivery.epoch == self.epoch and self._channel is not None

    def set_prefetch(self, prefetch: int) -> None:
        """Have at most `prefetch` unsettled deliveries from now on."""
        if self.prefetch != prefetch:
            self.prefetch = prefetch
            self._change()

    def pause(self) -> None:
        """Take no more deliveries until `resume`; those that are here stay."""
        if not self._paused:
            self._paused = True
            self._change()

    def resume(self) -> None:
        """Undo `pause`."""
        if self._paused:
            self._paused = False
            self._change()

    def _change(self) -> None:
        if self._wanted:  # after `cancel` there is nothing to change
            self._reconcile()

    def cancel(self, done: Callable[[], None]) -> None:
        """Take no more deliveries for good; `done` once all that were under way have arrived."""
        self._wanted = False
        self._cancelled = done
        self._reconcile()

    # -- called by the connection

    def up(self) -> None:
        """Declare the queue, then consume it."""
        if self._wanted:
            self._declarer.declare(self.queue, self._declared)

    def down(self) -> None:
        """All deliveries have gone back."""
        self._unanswered = 0
        self._reset()

    def deliver(self) -> None:
        """Hand over what arrived."""
        if (channel := self._channel) is not None and channel.arrived:
            arrived, channel.arrived = iter(channel.arrived), []
            try:
                for delivery in arrived:
                    self._on_delivery(delivery)
            finally:
                channel.arrived[:0] = arrived  # those behind one whose `on_delivery` raised
        if self._cancelled is not None and self._channel is None:
            self._all_arrived()

    def flush(self) -> None:
        """Ack what was settled, in as few frames as may be."""
        channel = self._channel
        if channel is None or not channel.acks.settled or not channel.channel.is_open:
            return
        if not self._wanted and self.unsettled and not self._connection.closing:
            if len(channel.acks.settled) > self._last_acks:
                return
            self._last_acks -= len(channel.acks.settled)
        if channel.ack():
            self._reconcile()

    # -- consumers

    def _reconcile(self) -> None:
        """Have the consumers that are wanted: the one place where they begin and end."""
        channel = self._channel
        if channel is None:
            self._all_arrived()
        elif channel.starting:
            pass
        elif not self._wanted:
            channel.stop()
            if self._cancelled is not None:
                when_all_arrived(channel.channel, self._all_arrived)
        elif self._paused:
            channel.stop()
        elif not self._declarer.knows(self.queue.name):
            pass  # consuming would end the channel and all that it holds
        elif channel.grant(self.prefetch, partial(self._started, channel)):
            self._await(channel)

    def _started(self, channel: ConsumerChannel) -> None:
        if channel is not self._channel:  # the answer came after all, when nobody waited for it
            channel.channel.close()
            return
        channel.starting = False
        self._end_deadline()
        self._unanswered = 0
        self._backoff.reset()
        self._reconcile()

    def _await(self, channel: ConsumerChannel) -> None:
        wait_s = patience_s(self._unanswered)
        self._deadline = self._connection.loop.call_later(wait_s, partial(self._give_up, channel))

    def _give_up(self, channel: ConsumerChannel) -> None:
        """Try another channel; but not with deliveries in hand, which would be lost, and run twice.

        The old one is closed when it answers: pika would cancel the consumer that is not yet confirmed.
        """
        if channel.acks.order:
            self._await(channel)
            return
        log.warning("broker does not answer a consumer: queue=%s; has it a leader? trying again", self.queue.name)
        self._unanswered += 1
        self._reset()
        self._reopen()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _all_arrived(self) -> None:
        done, self._cancelled = self._cancelled, None
        self.deliver()
        if done is not None:
            done()

    # -- channels that come and go

    def _declared(self) -> None:
        if self._channel is None:
            if self._connection.pika.is_open:  # it may be closing already
                self._connection.pika.channel(on_open_callback=self._opened)
        else:
            self._reconcile()

    def _opened(self, channel: Any) -> None:
        if self._channel is not None:  # asked for twice, by a reconnect and by a timer
            channel.close()
            return
        self.epoch += 1
        self._channel = ConsumerChannel(channel, self, self.epoch)
        channel.add_on_close_callback(partial(self._closed, self._channel))
        channel.add_on_cancel_callback(partial(self._on_cancel, self._channel))
        self._reconcile()

    def _on_cancel(self, channel: ConsumerChannel, frame: Any) -> None:
        """The broker ended a consumer: its queue was deleted or moved, or (RabbitMQ 4) a delivery took too long."""
        if not channel.ended(frame.method.consumer_tag):
            return
        if self._returning is None:  # the queue's other consumers end with it
            log.warning("broker cancelled the consumer: queue=%s; consuming again", self.queue.name)
            self._declarer.forget(self.queue.name)
            self._returning = self._connection.loop.call_later(self._backoff.next_s(), self._return)

    def _return(self) -> None:
        self._returning = None
        if self._connection.is_up:
            self.up()

    def _closed(self, channel: ConsumerChannel, _channel: Any, error: BaseException) -> None:
        if channel is not self._channel:
            return
        self._reset()
        if not self._connection.is_up or not self._connection.pika.is_open:
            return
        log.warning("consuming channel closed: queue=%s reason=%s; opening another", self.queue.name, describe(error))
        self._declarer.forget(self.queue.name, gone=False)
        self._connection.loop.call_later(self._backoff.next_s(), self._reopen)

    def _reopen(self) -> None:
        if self._connection.is_up and self._channel is None:
            self.up()

    def _reset(self) -> None:
        self._end_deadline()
        if self._channel is not None:
            self._channel.abandon()
            self._channel = None
        self._on_lost()
