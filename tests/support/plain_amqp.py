"""An AMQP client for tests, on pika alone: what any program of a user's could do. It must never import taskqueue."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import pika
import pika.exceptions

from waiting import wait_for

logging.getLogger("pika").setLevel(logging.CRITICAL)  # a test looks for queues that are not there yet


class Message(NamedTuple):
    """A message that was taken from a queue."""

    body: bytes
    properties: Any

    @property
    def headers(self) -> Mapping[str, Any]:
        """Its headers, empty where it has none; without the one that a quorum queue adds to each delivery."""
        return {name: value for name, value in (self.properties.headers or {}).items() if name != "x-delivery-count"}

    @property
    def returned(self) -> int:
        """How often a quorum queue has counted it as given back: what walks it towards the delivery limit."""
        return int((self.properties.headers or {}).get("x-delivery-count", 0))

    @property
    def text(self) -> str:
        """Its body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """Its body as JSON."""
        return json.loads(self.body)


class PlainAmqp:
    """A connection with one channel that confirms publishes. Reconnects where the broker was restarted meanwhile."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection: Any = None
        self._channel: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def channel(self) -> Any:
        """The open channel."""
        if self._connection is not None and self._connection.is_open:
            try:
                self._connection.process_data_events()  # hears of a broker that was restarted
            except (pika.exceptions.AMQPError, OSError):
                self._connection = self._channel = None
        if self._channel is None or not self._channel.is_open or not self._connection.is_open:
            self.close()
            parameters = pika.URLParameters(self.url)
            parameters.heartbeat = 0  # tests are silent for long
            self._connection = pika.BlockingConnection(parameters)
            self._channel = self._connection.channel()
            self._channel.confirm_delivery()
        return self._channel

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and connection.is_open:
            with contextlib.suppress(pika.exceptions.AMQPError, OSError):
                connection.close()

    def declare(self, queue: str, arguments: Mapping[str, Any] | None = None) -> None:
        """A durable queue; without arguments, as any client declares `taskqueue` and `results`."""
        self.channel.queue_declare(queue, durable=True, arguments=arguments)

    def private(self) -> str:
        """The name of a new queue that goes with this connection: for `reply_to`."""
        return str(self.channel.queue_declare("", exclusive=True).method.queue)

    def delete(self, queue: str) -> int:
        """Delete a queue; how many messages went with it."""
        return int(self.channel.queue_delete(queue).method.message_count)

    def purge(self, queue: str) -> int:
        """Remove the messages that wait in a queue; how many."""
        return int(self.channel.queue_purge(queue).method.message_count)

    def drain(self, *queues: str) -> None:
        """Take all that is in these queues, where there are queues of that name."""
        for queue in queues:
            while self.take_now(queue) is not None:
                pass

    def submit(self, body: bytes | str, routing_key: str = "taskqueue", **properties: Any) -> None:
        """Publish persistently; returns when the broker has confirmed, raises where there is no such queue."""
        content = body.encode() if isinstance(body, str) else body
        properties = {"delivery_mode": 2, **properties}
        self.channel.basic_publish("", routing_key, content, pika.BasicProperties(**properties), mandatory=True)

    def submit_json(self, value: object, routing_key: str = "taskqueue", **properties: Any) -> None:
        """Publish a value as application/json."""
        self.submit(json.dumps(value), routing_key, content_type="application/json", **properties)

    def submit_many(self, messages: Iterator[tuple[bytes, dict[str, Any]]], routing_key: str = "taskqueue") -> None:
        """Publish many without waiting for each; returns when the broker has taken them all."""
        channel = self.channel.connection.channel()  # one that does not confirm
        for body, properties in messages:
            channel.basic_publish("", routing_key, body, pika.BasicProperties(delivery_mode=2, **properties))
        channel.close()  # answered in order: behind all that was published

    def exists(self, queue: str) -> bool:
        """Whether a queue of that name exists."""
        try:
            self.channel.queue_declare(queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code != 404:
                raise
            return False
        return True

    def depth(self, queue: str) -> int:
        """How many messages wait in a queue; 0 where there is none of that name."""
        if not self.exists(queue):
            return 0
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def consumers(self, queue: str) -> int:
        """How many consumers a queue has; 0 where there is none of that name."""
        if not self.exists(queue):
            return 0
        return int(self.channel.queue_declare(queue, passive=True).method.consumer_count)

    def take_now(self, queue: str) -> Message | None:
        """The next message of a queue, acked; None where there is none, or no such queue."""
        try:
            method, properties, body = self.channel.basic_get(queue)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code != 404:
                raise
            return None
        except pika.exceptions.ConnectionClosedByBroker as error:
            if "noproc" not in error.reply_text:  # RabbitMQ 3.10, where the quorum queue is just being declared
                raise
            return None
        if method is None:
            return None
        self.channel.basic_ack(method.delivery_tag)  # not before it is here: a broker that dies would lose it for us
        return Message(body, properties)

    def take(self, queue: str = "results", deadline_s: float = 10.0) -> Message:
        """The next message of a queue, waited for."""
        message = wait_for(lambda: self.take_now(queue), deadline_s, f"a message in {queue}")
        assert message is not None
        return message

    def take_many(self, queue: str, count: int, deadline_s: float = 20.0) -> list[Message]:
        """The next `count` messages of a queue."""
        taken: list[Message] = []

        def enough() -> bool:
            while len(taken) < count and (message := self.take_now(queue)) is not None:
                taken.append(message)
            return len(taken) >= count

        wait_for(
            enough, deadline_s, f"{count} messages in {queue}", otherwise=lambda: f"{len(taken)} came: {taken[-3:]}"
        )
        return taken

    def take_for(self, message_id: str, queue: str = "results", deadline_s: float = 10.0) -> Message:
        """The next message of a queue, which must be the one with this `message_id`."""
        message = self.take(queue, deadline_s)
        assert message.properties.message_id == message_id, message
        return message

    def consume(self, queue: str, deadline_s: float, enough: Any) -> list[Message]:
        """Consume a queue until `enough(messages)` is true; all that came."""
        channel = self.channel.connection.channel()
        channel.basic_qos(prefetch_count=1000)
        taken: list[Message] = []

        def came(_channel: Any, method: Any, properties: Any, body: bytes) -> None:
            taken.append(Message(body, properties))
            if len(taken) % 100 == 0:
                channel.basic_ack(method.delivery_tag, multiple=True)

        tag = channel.basic_consume(queue, came)

        def fact() -> bool:
            channel.connection.process_data_events(time_limit=0.02)
            return bool(enough(taken))

        try:
            wait_for(fact, deadline_s, f"enough in {queue}", poll_s=0, otherwise=lambda: f"{len(taken)} came")
            channel.basic_ack(0, multiple=True)
        finally:
            channel.basic_cancel(tag)
            channel.close()
        return taken
