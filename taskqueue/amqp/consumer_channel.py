"""One channel that consumes one queue: its consumers, what they delivered, and what of it is acked.

A consumer's prefetch is fixed when it begins (`global=False`; RabbitMQ refuses the other with quorum queues). So:

1. `grant(10)`: a consumer with prefetch 10 begins.
2. `grant(40)`: another begins beside it, with prefetch 30.
3. `grant(5)`: both are cancelled. 12 of their deliveries are not settled, and no consumer's prefetch counts them any
   more.
4. Eight of these are settled: with `grant(5)` a consumer with prefetch 1 begins, and further ones as more are settled.

It must never nack: on a quorum queue that counts towards the delivery limit of a workitem that has done nothing wrong.
It must never open a channel again: that is `consumer`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from taskqueue.amqp.acks import Acks
from taskqueue.amqp.cancelling import cancel
from taskqueue.amqp.frames import Message
from taskqueue.amqp.wire import Delivery, Source, from_pika

_CONSUMERS_LIMIT = 8
"""Consumers on one channel: a growing prefetch adds some, and at this number one takes the place of all."""
_PREFETCH_LIMIT = 65_535
"""Deliveries: the prefetch of a consumer has 16 bits (AMQP 0-9-1, basic.qos)."""


class ConsumerChannel:
    """`channel` is pika's, open; deliveries are made for `source` and `epoch`."""

    def __init__(self, channel: Any, source: Source, epoch: int) -> None:
        self.channel = channel
        self.acks = Acks()
        self.arrived: list[Delivery] = []
        """Deliveries that were not handed over yet."""
        self.granted: dict[str, int] = {}
        """By consumer tag: the prefetch of each consumer that has begun."""
        self.starting = False
        """Whether a consumer has begun that the broker has not confirmed. RabbitMQ 3.10 closes the connection (541)
        when such a one is cancelled, so nothing is changed until it has."""
        self._uncounted: set[int] = set()
        """Unsettled deliveries of consumers that were cancelled: no consumer's prefetch counts them any more."""
        self._source = source
        self._epoch = epoch
        self._numbers = count(1)
        channel.connection.deliveries[channel.channel_number] = self._arrive

    def grant(self, prefetch: int, started: Callable[[], object]) -> bool:
        """Let the broker have at most `prefetch` deliveries unsettled.

        True where a consumer begins: `started()` is called when the broker has confirmed it.
        """
        prefetch = min(prefetch, _PREFETCH_LIMIT)
        if sum(self.granted.values()) > prefetch or len(self.granted) >= _CONSUMERS_LIMIT:
            self.stop()
        missing = prefetch - sum(self.granted.values()) - len(self._uncounted)
        if missing < (max(1, prefetch // 4) if self.granted else 1):
            return False
        self._start(missing, started)
        return True

    def stop(self) -> None:
        """Cancel all consumers; what is on its way still arrives."""
        cancel(self.channel, self.granted)
        self.granted.clear()
        self._count_no_more()

    def ended(self, consumer_tag: str) -> bool:
        """The broker has ended a consumer; False where there is none of that name, because it was cancelled."""
        if self.granted.pop(consumer_tag, None) is None:
            return False
        self._count_no_more()
        return True

    def ack(self) -> bool:
        """Ack what is settled; True where that makes room for more prefetch."""
        multiple, alone = self.acks.take()
        if multiple:
            self.channel.basic_ack(multiple, multiple=True)
        for tag in alone:  # behind one that still runs
            self.channel.basic_ack(tag)
        before = len(self._uncounted)
        if before:
            self._uncounted.intersection_update(self.acks.order)
        return before > 0

    def abandon(self) -> None:
        """Take no more from it: what it has delivered goes back to the broker when it closes."""
        self.channel.connection.deliveries.pop(self.channel.channel_number, None)

    def _start(self, prefetch: int, started: Callable[[], object]) -> None:
        name = f"taskqueue-{self._epoch}-{next(self._numbers)}"
        self.granted[name] = prefetch
        self.starting = True
        self.channel.basic_qos(prefetch_count=prefetch)
        self.channel.basic_consume(
            self._source.queue.name, self._on_message, consumer_tag=name, callback=lambda _frame: started()
        )

    def _count_no_more(self) -> None:
        self._uncounted.update(tag for tag in self.acks.order if tag not in self.acks.settled)

    def _on_message(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Called by pika."""
        readable, fault = from_pika(properties)
        self._arrive(Message(method.consumer_tag, method.delivery_tag, method.redelivered, readable, body), fault)

    def _arrive(self, message: Message, fault: str = "") -> None:
        consumer_tag, tag, redelivered, properties, body = message
        self.acks.order.append(tag)
        if consumer_tag not in self.granted:
            self._uncounted.add(tag)  # it was on its way when its consumer was cancelled
        self.arrived.append(Delivery(self._source, tag, self._epoch, properties, body, redelivered, fault))
