"""Looks at the messages of one queue that exists: the broker sends them, and those that are not settled go back.

1. `Browser(connection, "taskqueue_dead", 250, …)`: a consumer with prefetch 100 begins.
2. 50 of them were looked at: another begins beside it, with prefetch 100, then a third with 50.
3. The operator has chosen 3 of the 250: they are settled, each with an ack at once.
4. `stop(done)`, `give_back()`, `close()`: the other 247 go back, in the order in which they came.

A message that was sent and goes back counts towards the delivery limit of a quorum queue, so hardly more are asked for
than are wanted. A million may be out at a time: it keeps one bit of each. It must never declare the queue.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import count
from typing import Any

import pika.exceptions

from taskqueue.amqp.cancelling import cancel, when_all_arrived
from taskqueue.amqp.connection import Connection
from taskqueue.amqp.connection_user import ConnectionUser
from taskqueue.amqp.reasons import FORBIDDEN, NOT_FOUND, describe
from taskqueue.amqp.wire import Delivery, from_pika
from taskqueue.errors import BrokerRefused, BrokerUnavailable, TaskqueueError
from taskqueue.protocol.queues import Queue

_BATCH = (100, 10_000)
"""Messages, prefetch of the first consumer and the largest; doubled each time."""
_BATCH_BYTES = 32 * 1024 * 1024
"""Bytes of bodies on their way to us at once, about: a message that has arrived takes memory until it is looked at."""


class Browser(ConnectionUser):
    """Browses `queue`: hands over `wanted` messages, perhaps some more.

    `on_delivery(delivery)` is called for each, in a turn of the connection; `on_end(error)` where it ends before
    `close`: None where there is no such queue.
    """

    def __init__(
        self,
        connection: Connection,
        queue: str,
        wanted: float,
        on_delivery: Callable[[Delivery], None],
        on_end: Callable[[TaskqueueError | None], None],
    ) -> None:
        self.queue = Queue(queue, {})
        self._wanted = wanted
        self._connection = connection
        self._ended = False
        self._on_delivery = on_delivery
        self._on_end = on_end
        self._channel: Any = None
        self._names = count(1)
        self._consumers: list[str] = []
        self._starting = False
        """Whether a consumer has begun that the broker has not confirmed: it must not be cancelled (see
        `cancelling`)."""
        self._granted = 0
        self._arrived = 0
        self._looked = 0
        self._bytes = 0
        self._settled = 0
        self._settled_tags = bytearray()
        """A bit for each delivery tag."""
        self._runs = array("Q")
        """The tags after which the deliveries of another consumer began."""
        self._last_consumer = ""
        self._stopping = False
        self._stopped: Callable[[], None] = lambda: None
        self._arrivals: list[Delivery] = []
        connection.add(self)

    @property
    def is_open(self) -> bool:
        """Whether deliveries can be settled."""
        return self._channel is not None and self._channel.is_open

    @property
    def unsettled(self) -> int:
        """How many deliveries came and were not settled."""
        return self._arrived - self._settled

    def settle(self, delivery: Delivery) -> bool:
        """Ack `delivery`: it is taken. False where it went back with its channel."""
        if not self.holds(delivery):
            return False
        self._channel.basic_ack(delivery.tag)
        self._settled += 1
        byte, bit = divmod(delivery.tag, 8)
        self._settled_tags[byte] |= 1 << bit
        self._grow()
        return True

    def holds(self, delivery: Delivery) -> bool:
        """Whether the channel that `delivery` came on is open, and it was not settled."""
        return self.is_open and not self._is_settled(delivery.tag)

    def _is_settled(self, tag: int) -> bool:
        byte, bit = divmod(tag, 8)
        return bool(self._settled_tags[byte] >> bit & 1)

    def looked_at(self) -> None:
        """A delivery that was handed over does not take memory any more: there is room for others."""
        self._looked += 1
        self._grow()

    def stop(self, done: Callable[[], None]) -> None:
        """Take no more; `done` once every delivery that was on its way was handed over. Not called where it has
        ended."""
        self._stopping = True
        self._stopped = done
        if not self._starting:
            self._cancel()

    def give_back(self) -> None:
        """Give back the deliveries that were not settled, consumer by consumer: only so does the broker keep their
        order.

        The broker answers neither this nor an ack. Where more than 32 of them are under way to a quorum queue it
        stashes the rest, and forgets them with the channel (RabbitMQ 3.10 to 4.3, rabbit_fifo_client): a message that
        was acked would be in the queue again. So wait before `close` until the queue counts no consumer of this
        channel: it keeps a cancelled one while a delivery of it is out (rabbit_fifo, query_stat).
        """
        first = 1
        for last in (*self._runs, self._arrived) if self.is_open else ():
            tag = next((tag for tag in range(last, first - 1, -1) if not self._is_settled(tag)), None)
            if tag is not None:
                self._channel.basic_nack(tag, multiple=True, requeue=True)
            first = last + 1

    def close(self) -> None:
        """Close the channel: deliveries that were neither settled nor given back go back, too."""
        self._connection.remove(self)
        channel, self._channel = self._channel, None
        if channel is not None and channel.is_open:
            channel.close()

    # -- called by the connection

    def up(self) -> None:
        """Open a channel."""
        if not self._ended:
            self._connection.pika.channel(on_open_callback=self._opened)

    def down(self) -> None:
        """All deliveries are back in the queue."""
        self._end(BrokerUnavailable(f"{self._connection.host}: connection lost while reading {self.queue.name}"))

    def deliver(self) -> None:
        """Hand over what arrived."""
        if self._arrivals:
            arrivals, self._arrivals = iter(self._arrivals), []
            try:
                for delivery in arrivals:
                    self._on_delivery(delivery)
            finally:
                self._arrivals[:0] = arrivals  # those behind one whose `on_delivery` raised

    # -- channel

    def _opened(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._closed)
        channel.add_on_cancel_callback(
            lambda _frame: self._end(BrokerUnavailable(f"queue {self.queue.name}: it was deleted, or moved"))
        )
        if self._stopping:
            self._cancel()
        else:
            self._grow()

    def _grow(self) -> None:
        """Grant more once half of the last batch was looked at."""
        if self._starting or self._stopping or not self.is_open:
            return
        smallest, largest = _BATCH
        if self._bytes:
            largest = max(smallest, min(largest, _BATCH_BYTES * self._arrived // self._bytes))
        batch = int(min(max(smallest, self._granted), largest, self._wanted - self._arrived - self._free))
        if batch > 0 and self._free + self._arrived - self._looked <= batch // 2:
            name = f"taskqueue-{next(self._names)}"
            self._consumers.append(name)
            self._granted += batch
            self._starting = True
            self._channel.basic_qos(prefetch_count=batch)
            self._channel.basic_consume(
                self.queue.name, self._on_message, consumer_tag=name, callback=lambda _frame: self._started()
            )

    @property
    def _free(self) -> int:
        """How many more the broker may send as things are."""
        return self._granted - self.unsettled

    def _started(self) -> None:
        self._starting = False
        if self._stopping:
            self._cancel()
        else:
            self._grow()

    def _cancel(self) -> None:
        if self._channel is not None:
            cancel(self._channel, self._consumers)
            self._consumers.clear()
            when_all_arrived(self._channel, self._all_arrived)

    def _all_arrived(self) -> None:
        self.deliver()
        self._stopped()

    def _on_message(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if channel is self._channel:
            self._arrived += 1
            self._bytes += len(body)
            if method.consumer_tag != self._last_consumer:
                self._last_consumer = method.consumer_tag
                if self._arrived > 1:
                    self._runs.append(self._arrived - 1)
            if self._arrived // 8 >= len(self._settled_tags):
                self._settled_tags.extend(bytes(1024))
            readable, fault = from_pika(properties)
            self._arrivals.append(Delivery(self, method.delivery_tag, 1, readable, body, method.redelivered, fault))

    def _closed(self, channel: Any, error: BaseException) -> None:
        if channel is not self._channel or not self._connection.is_up or not self._connection.pika.is_open:
            return
        host, name = self._connection.host, self.queue.name
        if isinstance(error, pika.exceptions.ChannelClosed) and error.reply_code == NOT_FOUND:
            self._end(None)
        elif isinstance(error, pika.exceptions.ChannelClosed) and error.reply_code == FORBIDDEN:
            self._end(BrokerRefused(f"{host}: queue {name}: {describe(error)}"))
        else:
            self._end(BrokerUnavailable(f"{host}: queue {name}: {describe(error)}"))

    def _end(self, error: TaskqueueError | None) -> None:
        if not self._ended:
            self._ended = True
            self._channel = None
            self._arrivals.clear()
            self._on_end(error)
