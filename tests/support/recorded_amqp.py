"""A connection without a broker, for unit tests of its users: it records what they send, and the test answers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from taskqueue.foundation.loop import Timer
from taskqueue.protocol.properties import Properties


class RecordedLoop:
    """Timers and callbacks that the test runs."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        """With `due` as the delay in seconds."""
        self.soon: list[Callable[[], object]] = []

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        timer = Timer(delay, callback)
        self.timers.append(timer)
        return timer

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.soon.append(callback)

    def fire(self) -> list[float]:
        """Run all timers that are set now and not cancelled; their delays."""
        due = [timer for timer in self.timers if timer.callback is not None]
        self.timers.clear()
        for timer in due:
            assert timer.callback is not None
            timer.callback()
        return [timer.due for timer in due]

    def run_soon(self) -> None:
        """Run all that was called soon."""
        while self.soon:
            self.soon.pop(0)()


class RecordedChannel:
    """pika's channel: `sent` has what was called on it, in order, `answers` the callbacks without an answer."""

    def __init__(self, connection: RecordedPika, number: int, on_open: Callable[[Any], object]) -> None:
        self.connection = connection
        self.channel_number = number
        self.on_open = on_open
        self.is_open = False
        self.sent: list[tuple[Any, ...]] = []
        self.answers: list[Callable[[Any], object]] = []
        self.on_close: list[Callable[[Any, Any], object]] = []
        self.on_cancel: Callable[[Any], object] = lambda frame: None
        self.on_return: Callable[..., object] = lambda *arguments: None

    def open(self) -> RecordedChannel:
        """The broker has opened it; what is sent at once has its answer where all channels need one."""
        self.is_open = True
        self.on_open(self)
        return self

    def answer(self, **method: Any) -> None:
        """The broker answers the oldest question."""
        self.answers.pop(0)(SimpleNamespace(method=SimpleNamespace(**method)))

    def closed(self, error: BaseException) -> None:
        """The broker, or the user, has closed it."""
        self.is_open = False
        for callback in self.on_close:
            callback(self, error)

    @property
    def bodies(self) -> list[bytes]:
        """Bodies of what was published on it, in order."""
        return [call[2] for call in self.sent if call[0] == "publish"]

    def ack(self, tag: int, multiple: bool = False) -> None:
        """The broker confirms what was published on it."""
        self.connection.acks[self.channel_number](tag, multiple)

    # -- as pika's

    def add_on_close_callback(self, callback: Callable[[Any, Any], object]) -> None:
        self.on_close.append(callback)

    def add_on_cancel_callback(self, callback: Callable[[Any], object]) -> None:
        self.on_cancel = callback

    def add_on_return_callback(self, callback: Callable[..., object]) -> None:
        self.on_return = callback

    def confirm_delivery(self, on_confirm: Callable[[Any], object], callback: Callable[[Any], object]) -> None:
        callback(None)

    def queue_declare(self, queue: str, *, passive: bool = False, callback: Callable[[Any], object], **_: Any) -> None:
        self.sent.append(("declare", queue, passive))
        self.answers.append(callback)

    def basic_qos(self, prefetch_count: int, callback: Callable[[Any], object] | None = None) -> None:
        self.sent.append(("qos", prefetch_count))
        if callback is not None:
            self.answers.append(callback)

    def basic_consume(self, queue: str, on_message: Any, consumer_tag: str, callback: Callable[[Any], object]) -> None:
        self.sent.append(("consume", queue, consumer_tag))
        self.answers.append(callback)

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        self.sent.append(("ack", tag, multiple))

    def _send_method(self, method: Any) -> None:
        self.sent.append((method.NAME, method.consumer_tag))

    def close(self) -> None:
        self.sent.append(("close",))
        self.is_open = False


class RecordedPika:
    """pika's connection, as users see it."""

    is_open = True

    def __init__(self) -> None:
        self.channels: list[RecordedChannel] = []
        self.acks: dict[int, Callable[[int, bool], None]] = {}
        self.deliveries: dict[int, Callable[[Any], None]] = {}

    def channel(self, on_open_callback: Callable[[Any], object]) -> RecordedChannel:
        self.channels.append(RecordedChannel(self, len(self.channels) + 1, on_open_callback))
        return self.channels[-1]

    def publish(self, channel: RecordedChannel, routing_key: str, properties: Properties, body: bytes) -> None:
        if body == b"unencodable":
            raise ValueError("unencodable")
        channel.sent.append(("publish", routing_key, body))


class RecordedConnection:
    """`taskqueue.amqp.Connection`, as users see it; up until the test says otherwise."""

    blocked = closing = refused = False
    trouble: str | None = None
    host = "recorded:5672"

    def __init__(self) -> None:
        self.loop = RecordedLoop()
        self.pika = RecordedPika()
        self.is_up = True
        self.users: list[Any] = []

    def add(self, user: Any) -> None:
        self.users.append(user)
        if self.is_up:
            user.up()

    def turn(self) -> None:
        """One turn, as the connection makes it."""
        self.loop.run_soon()
        for user in self.users:
            user.outcomes()
        for user in self.users:
            user.deliver()
        for user in self.users:
            user.flush()

    def lose(self) -> None:
        """The connection is lost."""
        self.is_up = False
        for user in self.users:
            user.down()

    def open(self, index: int = -1) -> RecordedChannel:
        """Open the channel that was asked for last."""
        return self.pika.channels[index].open()
