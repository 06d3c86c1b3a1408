"""The results that wait in a queue, the oldest first: those of one worker type or status, read or followed.

Nothing is taken here but what the caller has taken before: `Message.take` is called by whoever has shown a result.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator

from taskqueue.errors import BrokerUnavailable
from taskqueue.operations.broker import Broker
from taskqueue.operations.reading import Message
from taskqueue.protocol.properties import Properties, header

_REMEMBERED = 100_000
"""Results whose ids are kept while a queue is followed: a lost connection has the broker deliver them again."""
_NO_QUEUE_S = 1.0
"""Seconds between two tries to follow a queue that does not exist yet."""

_Seen = OrderedDict[tuple[str, ...], None]
"""The results that were given, by what tells one from another: id, attempt, status, host; the oldest first."""


class Results:
    """The results in `queue`, `limit` at most; None for `worker_type`, `status` or `limit` fits any.

    `taken`: whether the caller takes what it is given. Then a result that comes again, because its ack was lost with
    the connection, is taken again.
    """

    def __init__(
        self,
        broker: Broker,
        queue: str,
        *,
        worker_type: str | None = None,
        status: str | None = None,
        limit: int | None = None,
        taken: bool = False,
    ) -> None:
        self._broker = broker
        self._queue = queue
        self._wanted = {"worker_type": worker_type, "status": status}
        self._limit = limit
        self._taken = taken
        self._given = 0

    def read(self) -> Generator[Message, None, None]:
        """Those that are there now. Run it to its end, or close it before the broker."""
        with self._broker.read(self._queue) as reading:
            yield from self._fitting(reading)

    def follow(self, resumed: Callable[[BrokerUnavailable], object]) -> Generator[Message, None, None]:
        """Those that are there and those that come, each once, over any number of connections.

        `resumed(error)` is called where the connection was lost and the following goes on. Raises `BrokerUnavailable`
        where the connection does not come back.
        """
        seen: _Seen = OrderedDict()
        while True:
            before = self._given
            try:
                with self._broker.read(self._queue, follow=True) as reading:
                    yield from self._fitting(reading, seen)
                    if self._given == self._limit:
                        return
                self._broker.pause(_NO_QUEUE_S)
            except BrokerUnavailable as error:
                if self._given == before and not self._broker.session.connection.is_up:
                    raise
                resumed(error)

    def _fitting(self, messages: Iterable[Message], seen: _Seen | None = None) -> Iterator[Message]:
        for message in messages:
            if not self._fits(message.properties):
                continue
            if seen is not None and self._came_before(message, seen):
                if self._taken:
                    message.take()
                continue
            self._given += 1
            yield message
            if self._given == self._limit:
                return

    def _fits(self, properties: Properties) -> bool:
        return all(wanted in (None, header(properties, name)) for name, wanted in self._wanted.items())

    def _came_before(self, message: Message, seen: _Seen) -> bool:
        properties = message.properties
        key = (
            str(header(properties, "task_id") or properties.correlation_id),
            *(str(header(properties, name)) for name in ("attempt", "status", "host")),
        )
        if message.delivery.redelivered and key in seen:
            return True
        seen[key] = None
        if len(seen) > _REMEMBERED:
            seen.popitem(last=False)
        return False
