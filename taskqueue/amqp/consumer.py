"""Consumes one queue on a channel of its own: deliveries in, acks out in as few frames as may be.

A delivery is settled once; acks of one turn are gathered and the contiguous ones sent as one `multiple`. Prefetch is
per consumer (`global=False`; RabbitMQ refuses the other with quorum queues) and fixed when it begins: more prefetch
is a further consumer beside the first, less is a new one that leaves room for what the old ones have delivered.
Nothing here nacks: on a quorum queue that would count towards the delivery limit of a workitem that has done nothing
wrong.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from pika import spec

from taskqueue.amqp.connection import Connection
from taskqueue.amqp.declarer import Declarer
from taskqueue.amqp.frames import Message
from taskqueue.amqp.patience import patience_s
from taskqueue.amqp.wire import Delivery, describe, from_pika
from taskqueue.foundation.backoff import Backoff
from taskqueue.foundation.loop import Timer
from taskqueue.protocol.queues import Queue

log = logging.getLogger(__name__)

_MOST_CONSUMERS = 8
"""Growing prefetch adds consumers; above so many, one takes the place of all."""
_LAST_ACKS = 16
"""Acks that leave by themselves after `cancel`; the others wait for the last one and leave with it, as one.

Where more than 32 are under way to a quorum queue the broker's channel stashes the rest, and forgets them when it is
closed (RabbitMQ 3.10 to 4.3, rabbit_fifo_client): finished work would be run again. A cancel is answered when the
queue has done all that was under way; so few after it leave room."""


class Consumer:
    """Consumes `queue`, declaring it first; comes back by itself after whatever ends it.

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
        self._connection = connection
        self._declarer = declarer
        self._on_delivery = on_delivery
        self._on_lost = on_lost
        self._channel: Any = None
        self._route: dict[int, Callable[[Message], None]] = {}
        self._names = count(1)
        self._granted: dict[str, int] = {}
        """Consumers that are, by tag, and the prefetch of each."""
        self._starting = False
        """A consumer has begun that the broker has not confirmed. RabbitMQ 3.10 closes the connection (541) when such
        a one is cancelled, so nothing is changed until it has."""
        self._orphaned: set[int] = set()
        """Unsettled deliveries of consumers that were cancelled: no consumer's prefetch counts them any more."""
        self._wanted = True
        self._last_acks = _LAST_ACKS
        self._paused = False
        self._arrived: list[Delivery] = []
        self._order: deque[int] = deque()
        self._settled: set[int] = set()
        self._backoff = Backoff(0.1, 5.0)
        self._returning: Timer | None = None
        self._unanswered = 0
        """So many consumers, one after the other, had no answer."""
        self._deadline: Timer | None = None
        self._cancelled: Callable[[], None] | None = None
        connection.add(self)

    @property
    def unsettled(self) -> int:
        """Deliveries of this channel that were not settled yet."""
        return len(self._order) - len(self._settled)

    @property
    def consuming(self) -> bool:
        """Whether the broker has confirmed a consumer that is not cancelled."""
        return bool(self._granted) and not self._starting

    def settle(self, delivery: Delivery) -> bool:
        """Ack `delivery` in this turn; False where its channel is gone, and with it the delivery."""
        if not self.holds(delivery):
            return False
        self._settled.add(delivery.tag)
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

    # -- Room

    def up(self) -> None:
        """Called by the connection."""
        if self._wanted:
            self._declarer.declare(self.queue, self._declared)

    def down(self) -> None:
        """Called by the connection."""
        self._unanswered = 0
        self._reset()

    def outcomes(self) -> None:
        """Nothing to do."""

    def deliver(self) -> None:
        """Called by the connection in every turn: hand over what arrived."""
        arrived, self._arrived = self._arrived, []
        for delivery in arrived:
            self._on_delivery(delivery)
        if self._cancelled is not None and self._channel is None:
            self._all_arrived()

    def flush(self) -> None:
        """Called by the connection in every turn: ack what was settled in as few frames as may be."""
        if not self._settled or self._channel is None:
            return
        if not self._wanted and self.unsettled and not self._connection.closing:
            if len(self._settled) > self._last_acks:
                return
            self._last_acks -= len(self._settled)
        order, settled = self._order, self._settled
        last = 0
        while order and order[0] in settled:
            last = order.popleft()
            settled.discard(last)
        if last:
            self._channel.basic_ack(last, multiple=True)
        for tag in settled:  # behind one that still runs
            self._channel.basic_ack(tag)
        if settled:
            self._order = deque(tag for tag in order if tag not in settled)
            settled.clear()
        if self._orphaned:
            self._orphaned.intersection_update(self._order)
            self._reconcile()

    # -- channel

    def _declared(self) -> None:
        if self._channel is None:
            self._connection.pika.channel(on_open_callback=self._opened)
        else:
            self._reconcile()

    def _opened(self, channel: Any) -> None:
        if self._channel is not None:  # asked for twice, by a reconnect and by a timer
            channel.close()
            return
        self._channel = channel
        self._route = self._connection.pika.deliveries
        self._route[channel.channel_number] = self._arrive
        self.epoch += 1
        channel.add_on_close_callback(self._closed)
        channel.add_on_cancel_callback(self._on_cancel)
        self._reconcile()

    def _reconcile(self) -> None:
        """Have the consumers that are wanted: the one place where they begin and end."""
        if self._starting:
            return
        if self._channel is None:
            self._all_arrived()
        elif not self._wanted:
            self._stop()
            if self._cancelled is not None:
                # Two rounds: with the first answer all deliveries are at the broker's channel process, which may have
                # read our question before it read them; behind the second answer comes none.
                self._ask(lambda: self._ask(self._all_arrived))
        elif self._paused:
            self._stop()
        elif self._declarer.knows(self.queue.name):  # if not, consuming would end the channel and all that it holds
            if sum(self._granted.values()) > self.prefetch or len(self._granted) >= _MOST_CONSUMERS:
                self._stop()
            missing = self.prefetch - sum(self._granted.values()) - len(self._orphaned)
            if missing >= (max(1, self.prefetch // 4) if self._granted else 1):
                self._start(missing)

    def _ask(self, answered: Callable[[], None]) -> None:
        """Call `answered` when the broker has done all that this channel was told so far."""
        if self._channel is not None:
            self._channel.basic_qos(prefetch_count=1, callback=lambda _frame: answered())

    def _start(self, prefetch: int) -> None:
        name = f"taskqueue-{self.epoch}-{next(self._names)}"
        self._granted[name] = prefetch
        self._starting = True
        self._channel.basic_qos(prefetch_count=prefetch)
        self._channel.basic_consume(
            self.queue.name, self._on_message, consumer_tag=name, callback=partial(self._started, self._channel)
        )
        self._await(self._channel)

    def _started(self, channel: Any, _frame: Any) -> None:
        if channel is not self._channel:  # the answer came after all, when nobody waited for it
            channel.close()
            return
        self._starting = False
        self._end_deadline()
        self._unanswered = 0
        self._backoff.reset()
        self._reconcile()

    def _await(self, channel: Any) -> None:
        wait_s = patience_s(self._unanswered)
        self._deadline = self._connection.loop.call_later(wait_s, partial(self._give_up, channel))

    def _give_up(self, channel: Any) -> None:
        """Try another channel; but not with deliveries in hand, which would be lost, and run twice.

        The old one is closed when it answers: pika would cancel the consumer that is not yet confirmed.
        """
        if self._order:
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

    def _stop(self) -> None:
        """Cancel without pika's `basic_cancel`, which rejects what is still on its way: that would count towards the
        delivery limit. `_send_method` is the same in pika 1.2.0 to 1.4."""
        for name in self._granted:
            self._channel._send_method(spec.Basic.Cancel(name, nowait=True))
        self._granted.clear()
        self._orphan()

    def _orphan(self) -> None:
        self._orphaned.update(tag for tag in self._order if tag not in self._settled)

    def _on_message(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Called by pika."""
        if channel is self._channel:  # else it goes back with its channel
            ours, fault = from_pika(properties)
            self._arrive(Message(method.consumer_tag, method.delivery_tag, method.redelivered, ours, body), fault)

    def _arrive(self, message: Message, fault: str = "") -> None:
        consumer_tag, tag, redelivered, properties, body = message
        self._order.append(tag)
        if consumer_tag not in self._granted:
            self._orphaned.add(tag)  # it was on its way when its consumer was cancelled
        self._arrived.append(Delivery(self, tag, self.epoch, properties, body, redelivered, fault))

    def _on_cancel(self, frame: Any) -> None:
        """The broker ended a consumer: its queue was deleted or moved, or (RabbitMQ 4) a delivery took too long."""
        if self._granted.pop(frame.method.consumer_tag, None) is None:
            return
        self._orphan()
        if self._returning is None:  # the queue's other consumers end with it
            log.warning("broker cancelled the consumer: queue=%s; consuming again", self.queue.name)
            self._declarer.forget(self.queue.name)
            self._returning = self._connection.loop.call_later(self._backoff.next_s(), self._return)

    def _return(self) -> None:
        self._returning = None
        if self._connection.is_up:
            self.up()

    def _closed(self, channel: Any, error: BaseException) -> None:
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
            self._route.pop(self._channel.channel_number, None)
        self._channel = None
        self._starting = False
        self._granted.clear()
        self._orphaned.clear()
        self._arrived.clear()
        self._order.clear()
        self._settled.clear()
        self._on_lost()

    def _all_arrived(self) -> None:
        done, self._cancelled = self._cancelled, None
        self.deliver()
        if done is not None:
            done()
