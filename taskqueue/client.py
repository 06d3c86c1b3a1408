"""Submit workitems from Python, and wait for their results.

    from taskqueue.client import Client

    with Client("amqp://guest:guest@localhost/") as client:
        submitted = client.submit("worker1", {"size": 3})
        print(client.wait(submitted, timeout_s=60).value)

A client belongs to one thread. It must never need more than a broker: no dispatcher has to run when it submits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

from taskqueue import config, topology
from taskqueue.amqp import Connection, Consumer, Declarer, Delivery, Published, Publisher
from taskqueue.errors import (
    BrokerRefused,
    BrokerUnavailable,
    MalformedWorkitem,
    ResultTimeout,
    WorkitemFailed,
    WorkitemRefused,
)
from taskqueue.loop import Loop
from taskqueue.message import DELAY, DELAY_LIMIT_MS, WORKER_TYPE, Properties, encode_result, header, new_id
from taskqueue.topology import Queue
from taskqueue.workitem import decode, worker_type

__all__ = ["Client", "Result", "Submitted"]

_WINDOW = 1000
"""Workitems of `submit_many` under way at a time without a confirm."""
_REPLY_EXPIRES_MS = 30 * 60_000
"""A reply queue whose client is gone for so long is removed by the broker."""


class Submitted(NamedTuple):
    """A workitem that the broker has confirmed: it is safe there."""

    message_id: str
    correlation_id: str
    reply_to: str


class Result(NamedTuple):
    """What became of a workitem."""

    message_id: str
    status: str
    """`success` or `error`."""
    value: Any
    """What the handler returned: `str`, `bytes` or parsed JSON. For an error: the object with `error` and `trace`."""
    content_type: str | None
    headers: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == "success"

    def get(self) -> Any:
        """`value`; raises `WorkitemFailed` for an error result."""
        if self.ok:
            return self.value
        said = self.value if isinstance(self.value, dict) else {}
        error_type = str(self.headers.get("error_type", "error"))
        raise WorkitemFailed(self.message_id, error_type, str(said.get("error", "")), str(said.get("trace", "")))


class Client:
    """A connection to the broker that comes back by itself, to submit workitems and wait for results.

    `url`: `amqp://user:password@host:port/vhost` (`amqps` for TLS; several hosts separated by commas); by default
    what the environment's `TASKQUEUE_AMQP_URL` or `/etc/taskqueue/config.ini` says. `reply_to`: the queue that gets
    the results of what is submitted; by default a private one, from which `wait` takes them. `timeout_s`: how long a
    call waits for the broker, in seconds, before it raises `BrokerUnavailable`.
    """

    def __init__(self, url: str | None = None, *, reply_to: str | None = None, timeout_s: float = 30.0) -> None:
        environ = os.environ if url is None else {config.URL_VARIABLE: url}
        self._amqp = config.load(environ=environ).amqp
        self._timeout_s = timeout_s
        self._private = f"taskqueue_reply_{new_id()}"
        self._reply_to = reply_to or self._private
        self._results: dict[str, Result] = {}
        self._loop = Loop()
        self._connection = Connection(self._loop, self._amqp, "taskqueue-client")
        self._fact: Callable[[], bool] = lambda: False
        self._loop.before_wait(self._wait_no_more)  # behind the connection's own hook
        self._declarer = Declarer(self._connection)
        self._publisher = Publisher(self._connection)
        self._replies: Consumer | None = None
        self._private_used = False
        self._open = False

    def __enter__(self) -> Self:
        """Connect; raises `BrokerUnavailable`, `BrokerRefused`."""
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def connect(self) -> None:
        """Connect, where that has not been done; called by every other method."""
        if not self._open:
            self._open = True
            self._connection.start()
        deadline = time.monotonic() + self._timeout_s
        if not self._run_until(lambda: self._publisher.ready, deadline):
            self._unavailable()

    def close(self) -> None:
        """Remove the private reply queue and close the connection."""
        if self._open:
            self._open = False
            done: list[bool] = []
            deadline = time.monotonic() + min(self._timeout_s, 5.0)
            if self._replies is not None:
                self._replies.cancel(lambda: None)
            if self._private_used and self._connection.is_up:
                self._declarer.delete(self._private, lambda: done.append(True))
                self._run_until(lambda: bool(done) or not self._connection.is_up, deadline)
            self._connection.close(lambda: done.append(False))
            self._run_until(lambda: False in done, deadline)
            self._loop.close()

    # -- submit

    def submit(
        self,
        worker_type: str,
        workitem: Any,
        *,
        content_type: str | None = None,
        headers: Mapping[str, Any] | None = None,
        delay_s: float = 0.0,
        message_id: str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
    ) -> Submitted:
        """Submit one workitem; returns when the broker has confirmed it.

        `workitem`: `str` is sent as text, `bytes` as they are, anything else as JSON; `content_type` says otherwise
        for `str` and `bytes`. `delay_s`: seconds to wait before it is dispatched. `message_id`: its id for its whole
        life, a new UUID by default. Raises `BrokerUnavailable` where no confirm came in time: it may be there or not,
        and can be submitted again with the same `message_id`. Raises `WorkitemRefused` where the broker does not take
        it (too large a body), `MalformedWorkitem` for a bad worker type, `ValueError` for an impossible delay.
        """
        properties, body = self._message(
            worker_type, workitem, content_type, headers, delay_s, message_id, correlation_id, reply_to
        )
        self._publish_all([(properties, body)])
        return _submitted(properties)

    def submit_many(
        self,
        worker_type: str,
        workitems: Iterable[Any],
        *,
        content_type: str | None = None,
        headers: Mapping[str, Any] | None = None,
        delay_s: float = 0.0,
        reply_to: str | None = None,
    ) -> list[Submitted]:
        """Submit many workitems of one type, many at a time; returns when the broker has confirmed them all.

        See `submit`. `workitems` may be a generator; it is read as fast as the broker confirms. Where one is refused
        those before it are submitted, and some behind it may be.
        """
        submitted: list[Submitted] = []

        def messages() -> Iterable[tuple[Properties, bytes]]:
            for workitem in workitems:
                made = self._message(worker_type, workitem, content_type, headers, delay_s, None, None, reply_to)
                submitted.append(_submitted(made[0]))
                yield made

        self._publish_all(messages())
        return submitted

    def _message(
        self,
        of_type: str,
        workitem: Any,
        content_type: str | None,
        headers: Mapping[str, Any] | None,
        delay_s: float,
        message_id: str | None,
        correlation_id: str | None,
        reply_to: str | None,
    ) -> tuple[Properties, bytes]:
        own: dict[str, Any] = {WORKER_TYPE: worker_type(of_type)}
        if not 0 <= delay_s * 1000 <= DELAY_LIMIT_MS:
            raise ValueError(f"delay_s is {delay_s}; expected 0 to {DELAY_LIMIT_MS // 1000} seconds")
        if delay_s > 0:
            own[DELAY] = round(delay_s * 1000)
        natural, body = encode_result(workitem)
        message_id = message_id or new_id()
        return Properties(
            content_type=content_type or natural,
            headers={**(headers or {}), **own},
            message_id=message_id,
            correlation_id=correlation_id or message_id,
            reply_to=reply_to or self._reply_to,
        ), body

    def _publish_all(self, messages: Iterable[tuple[Properties, bytes]]) -> None:
        """Publish and wait for every confirm; what was lost with a connection is published again on the next."""
        self.connect()
        waiting: dict[str | None, tuple[Properties, bytes]] = {}
        lost: list[tuple[Properties, bytes]] = []
        refused: list[str] = []

        def answered(message: tuple[Properties, bytes], published: Published) -> None:
            if published is Published.CONFIRMED:
                waiting.pop(message[0].message_id, None)
                return
            if published is Published.REFUSED:
                waiting.pop(message[0].message_id, None)
                refused.append(f"workitem {message[0].message_id}: {self._publisher.refusal}")
                return
            if published is Published.UNROUTABLE:
                self._declarer.forget(topology.INGRESS)
            lost.append(message)

        def send(message: tuple[Properties, bytes]) -> None:
            self._publisher.publish(topology.INGRESS, message[0], message[1], partial(answered, message))

        def moved(before: int) -> bool:
            return bool(lost) or len(waiting) < before

        def settle(left: int) -> None:
            deadline = time.monotonic() + self._timeout_s
            while len(waiting) > left:
                before = len(waiting)
                if not self._run_until(partial(moved, before), deadline):
                    self._unavailable()
                if refused:
                    raise WorkitemRefused(refused[0])
                if len(waiting) < before:
                    deadline = time.monotonic() + self._timeout_s
                if lost and self._run_until(lambda: self._publisher.ready, deadline):
                    again, lost[:] = lost[:], []
                    self._prepare(any(message[0].reply_to == self._private for message in again), deadline)
                    for message in again:
                        send(message)

        for message in messages:
            private = message[0].reply_to == self._private
            if not self._declarer.knows(topology.INGRESS) or (private and not self._declarer.knows(self._private)):
                self._prepare(private, time.monotonic() + self._timeout_s)
            waiting[message[0].message_id] = message
            send(message)
            settle(_WINDOW)
        settle(0)

    def _prepare(self, private: bool, deadline: float) -> None:
        """Have the queues that a submit needs."""
        self._have(topology.ingress(self._amqp), deadline)
        if private:
            self._private_used = True
            self._have(self._reply_queue(), deadline)

    def _have(self, queue: Queue, deadline: float) -> None:
        done: list[bool] = []
        while not done:
            self._declarer.declare(queue, partial(done.append, True))
            if not (
                self._run_until(lambda: bool(done) or not self._connection.is_up, deadline)
                and self._run_until(lambda: self._connection.is_up, deadline)
            ):
                self._unavailable()

    def _reply_queue(self) -> Queue:
        return Queue(self._private, {"x-expires": _REPLY_EXPIRES_MS})

    # -- wait

    def wait(self, submitted: Submitted, timeout_s: float | None = None) -> Result:
        """Wait for the result of a workitem that was submitted with the private reply queue.

        `timeout_s`: seconds; None waits for ever. Raises `ResultTimeout`; the workitem may still be run, and `wait`
        be called again. An error result is returned like any other: see `Result.get`.
        """
        if submitted.reply_to != self._private:
            raise ValueError(f"its result goes to {submitted.reply_to!r}, not to this client")
        self.connect()
        if self._replies is None:
            self._replies = Consumer(
                self._connection, self._declarer, self._reply_queue(), prefetch=100, on_delivery=self._on_reply
            )
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._run_until(lambda: submitted.message_id in self._results, deadline):
            raise ResultTimeout(f"no result of workitem {submitted.message_id} within {timeout_s:g} s")
        return self._results.pop(submitted.message_id)

    def _on_reply(self, delivery: Delivery) -> None:
        properties = delivery.properties
        try:
            value = decode(delivery.body, properties.content_type, properties.content_encoding)
        except MalformedWorkitem:  # not from a worker: anyone may publish to a queue
            value = delivery.body
        result = Result(
            message_id=str(header(properties, "task_id") or properties.correlation_id),
            status=str(header(properties, "status")),
            value=value,
            content_type=properties.content_type,
            headers=properties.headers or {},
        )
        self._results[result.message_id] = result
        delivery.settle()

    # -- the loop

    def _run_until(self, fact: Callable[[], bool], deadline: float | None) -> bool:
        """Turn the loop until `fact()`; False at the deadline. A broker that says no raises `BrokerRefused`."""
        self._fact = fact
        while not fact():
            if self._connection.refused:
                raise BrokerRefused(f"{self._connection.host}: {self._connection.trouble}")
            left_s = 3600.0 if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                return False
            self._loop.turn(left_s)
        return True

    def _wait_no_more(self) -> None:
        """A fact that has come true in this turn's hooks is not to wait for the next packet."""
        if self._fact():
            self._loop.call_soon(lambda: None)

    def _unavailable(self) -> None:
        connection = self._connection
        why = "it takes no messages (memory or disk alarm)" if connection.blocked else connection.trouble or "no answer"
        raise BrokerUnavailable(f"{connection.host}: {why} for {self._timeout_s:g} s")


def _submitted(properties: Properties) -> Submitted:
    assert properties.message_id and properties.correlation_id and properties.reply_to
    return Submitted(properties.message_id, properties.correlation_id, properties.reply_to)
