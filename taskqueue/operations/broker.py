"""The operator's connection to the broker: calls that return with an answer, or raise a typed error.

It looks without making or taking anything; what changes the broker is only what its caller says by name.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from taskqueue.amqp import Counts, Inspector
from taskqueue.amqp.session import Outbox, Session
from taskqueue.config.settings import AmqpSettings
from taskqueue.errors import BrokerRefused, BrokerUnavailable, TaskqueueError
from taskqueue.foundation.loop import Loop
from taskqueue.operations.giving_back import Renewal
from taskqueue.operations.reading import Reading
from taskqueue.protocol.properties import Properties
from taskqueue.protocol.queues import Queue

T = TypeVar("T")

NAME = "taskqueue"
_TIMEOUT_S = 30.0
"""Seconds that a broker which was there may be silent or gone; then a call raises `BrokerUnavailable`."""


class Interrupts(Protocol):
    """Ends a call early, as a person at a terminal does. The methods are called by `Broker`."""

    def watch(self, loop: Loop) -> None:
        """The connection is being opened: from now on an interrupt must wake `loop`."""

    def end(self) -> None:
        """The connection is closed: `loop` must not be woken any more."""

    def safe_point(self) -> None:
        """Nothing is half done at present: raises, to end the call, where an interrupt came."""


class _NoInterrupts:
    """Nobody interrupts."""

    def watch(self, loop: Loop) -> None:
        """Nothing to watch."""

    def end(self) -> None:
        """Nothing to end."""

    def safe_point(self) -> None:
        """Never raises."""


class Server(NamedTuple):
    """The server properties that the broker sends over AMQP. `host` is the `host:port` that we are connected to."""

    host: str
    product: str
    version: str
    cluster_name: str


class Broker:
    """A connection that is open while entered, made at the first host that answers.

    Entering raises `BrokerUnavailable` when no host of the list could be reached, at once and not after retries, and
    `BrokerRefused` for a wrong password or virtual host. A connection that is lost later comes back by itself:
    `trouble(line)` is called with what was logged of it, and a call raises `BrokerUnavailable` only after `timeout_s`.
    """

    def __init__(
        self,
        amqp: AmqpSettings,
        *,
        timeout_s: float = _TIMEOUT_S,
        trouble: Callable[[str], None] = lambda line: None,
        interrupts: Interrupts | None = None,
    ) -> None:
        self._interrupts = interrupts or _NoInterrupts()
        self.session = Session(amqp, NAME, timeout_s=timeout_s, safe_point=self._interrupts.safe_point)
        self._inspector = Inspector(self.session.connection)
        self._trouble = _Trouble(trouble)

    def __enter__(self) -> Self:
        self._interrupts.watch(self.session.loop)
        try:
            self.session.open(patient=False)
        except BaseException:
            self._interrupts.end()
            raise
        logging.getLogger("taskqueue").addHandler(self._trouble)  # what was logged while connecting is in the error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("taskqueue").removeHandler(self._trouble)
        self.session.close()
        self._interrupts.end()

    @property
    def server(self) -> Server:
        """The server properties of the broker that this connection has."""
        properties = self.session.connection.server
        names = ("product", "version", "cluster_name")
        return Server(self.session.connection.host, *(str(properties.get(name, "")) for name in names))

    @property
    def blocked(self) -> bool:
        """Whether the broker takes no messages (memory or disk alarm); known once this connection has published."""
        return self.session.connection.blocked

    # -- looking

    def counts(self, queue: str) -> Counts | None:
        """Messages that are ready and consumers; None where there is no such queue."""
        return self._ask(self._inspector.counts, queue)

    def counts_of(self, queues: Iterable[str]) -> dict[str, Counts | None]:
        """`counts` of each."""
        return {queue: self.counts(queue) for queue in queues}

    def difference(self, queue: Queue) -> str | None:
        """How the arguments of `queue`, which exists, differ from those we would declare, in the broker's words; None:
        in nothing that the broker compares. Raises `BrokerRefused` where we may not declare it."""
        try:
            self._ask(lambda name, answered, failed: self._inspector.declare(queue, answered, failed), queue.name)
        except BrokerRefused as error:
            _, failed, difference = str(error).partition("PRECONDITION_FAILED - ")
            if not failed:
                raise
            return difference
        return None

    def read(
        self, queue: str, *, limit: int | None = None, follow: bool = False, renew: Renewal | None = None
    ) -> Reading:
        """Read `queue` without taking, but for what is taken by name: see `Reading`, and use it in a `with`."""
        return Reading(self.session, self.counts, queue, limit=limit, follow=follow, renew=renew)

    def pause(self, seconds: float) -> None:
        """Let time pass, while the connection is kept alive."""
        self.session.wait(lambda: False, time.monotonic() + seconds)

    # -- changing

    def outbox(self, window: int = 1000) -> Outbox:
        """To publish many, confirmed."""
        return Outbox(self.session, window)

    def publish(self, queue: Queue, properties: Properties, body: bytes) -> None:
        """Publish one message to `queue`, declaring it; returns when the broker has confirmed it."""
        outbox = self.outbox()
        outbox.publish(queue, properties, body, lambda: None)
        outbox.settle()

    def purge(self, queue: str) -> int | None:
        """Remove all that is ready in `queue`; how many messages that were, None where there is no such queue."""
        return self._ask(self._inspector.purge, queue)

    def delete(self, queue: str) -> int | None:
        """Delete `queue`; how many messages went with it."""
        return self._ask(self._inspector.delete, queue)

    def _ask(
        self, question: Callable[[str, Callable[[T], None], Callable[[TaskqueueError], None]], None], queue: str
    ) -> T:
        session = self.session
        answers: list[T] = []
        errors: list[TaskqueueError] = []
        session.open()
        question(queue, answers.append, errors.append)
        if not session.wait(lambda: answers or errors, session.deadline()):
            raise BrokerUnavailable(f"{session.connection.host}: no answer for queue {queue}")
        if errors and session.connection.blocked:
            raise BrokerUnavailable(f"{session.connection.host}: it takes no messages (memory or disk alarm)")
        if errors:
            raise errors[0]
        return answers[0]


class _Trouble(logging.Handler):
    """Passes on what the connection logs: a connection lost, an alarm."""

    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._report = report

    def emit(self, record: logging.LogRecord) -> Any:
        self._report(record.getMessage())
