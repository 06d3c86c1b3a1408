"""Submit workitems from Python, and wait for their results.

    from taskqueue.client import Client

    with Client("amqp://guest:guest@localhost/") as client:
        submitted = client.submit("worker1", {"size": 3})
        print(client.wait(submitted, timeout_s=60).value)

The life of a submitted workitem, as the client sees it:

1. `submit` publishes it to `taskqueue`, with a `message_id` for life, and a private reply queue as `reply_to`. It
   returns when the broker has confirmed it: the workitem is safe, whatever happens to this program.
2. A dispatcher and a worker do the rest, on any host, now or when they run again.
3. The result comes to the reply queue: `status: success` and a value, or `status: error` and a traceback.
4. `wait` takes it from there. `Result.get` gives the value, or raises `WorkitemFailed`.

A client belongs to one thread. It must never need more than a broker: no dispatcher has to run when it submits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

from taskqueue.amqp import Consumer, Delivery
from taskqueue.amqp.session import Outbox, Session
from taskqueue.config.load import URL_VARIABLE, load
from taskqueue.errors import MalformedWorkitem, ResultTimeout, WorkitemFailed
from taskqueue.protocol import queues
from taskqueue.protocol.delays import DELAY_LIMIT_MS
from taskqueue.protocol.properties import DELAY, WORKER_TYPE, Properties, header, new_id
from taskqueue.protocol.queues import Queue
from taskqueue.protocol.results import encode_result
from taskqueue.workitem import decode, worker_type

__all__ = ["Client", "Result", "Submitted"]

_REPLY_EXPIRES_MS = 30 * 60_000
"""Milliseconds after the loss of its client until the broker removes a reply queue, with the results in it."""


class Submitted(NamedTuple):
    """A workitem that the broker has confirmed."""

    message_id: str
    correlation_id: str
    reply_to: str
    """The queue that gets its result; "" for the one that the group's `results_routing_key` names."""


class Result(NamedTuple):
    """The result of a workitem."""

    message_id: str
    status: str
    """`success` or `error`."""
    value: Any
    """The value that the handler returned: `str`, `bytes` or parsed JSON. An error: a dict with `error` and `trace`."""
    content_type: str | None
    headers: Mapping[str, Any]
    """Among them `attempt`, `runtime_ms`, `host` and, for an error, `error_type`."""

    @property
    def ok(self) -> bool:
        """Whether the workitem succeeded."""
        return self.status == "success"

    def get(self) -> Any:
        """`value`; raises `WorkitemFailed` for an error result."""
        if self.ok:
            return self.value
        failure = self.value if isinstance(self.value, dict) else {}
        error_type = str(self.headers.get("error_type", "error"))
        raise WorkitemFailed(self.message_id, error_type, str(failure.get("error", "")), str(failure.get("trace", "")))


class Client:
    """Submits workitems and waits for results, over a connection that is made anew where it is lost.

    `url`: `amqp://user:password@host:port/vhost` (`amqps` for TLS; several hosts separated by commas); by default the
    environment's `TASKQUEUE_AMQP_URL`, or section [amqp] of `/etc/taskqueue/config.ini`. `reply_to`: the queue for
    results, "" for the one that the group's `results_routing_key` names; by default a private one, from which `wait`
    takes them. `timeout_s`: seconds that a call waits for the broker before it raises `BrokerUnavailable`. `session`:
    the connection that the program has already; `close` leaves it open. Raises `ConfigError` for a wrong `url`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        reply_to: str | None = None,
        timeout_s: float = 30.0,
        session: Session | None = None,
    ) -> None:
        self._session = session or _session(url, timeout_s)
        self._owns_session = session is None
        self._private = f"taskqueue_reply_{new_id()}"
        self._reply_to = self._private if reply_to is None else reply_to
        self._results: dict[str, Result] = {}
        self._replies: Consumer | None = None
        self._private_used = False

    def __enter__(self) -> Self:
        """Connect. Raises `BrokerUnavailable` or `BrokerRefused`."""
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def connect(self) -> None:
        """Connect, where the client is not connected. Every method that needs a connection calls it."""
        self._session.open()

    def close(self) -> None:
        """Remove the private reply queue and close the connection."""
        session = self._session
        if session.is_open:
            if self._replies is not None:
                self._replies.cancel(lambda: None)
            if self._private_used:
                session.delete(self._private)
            if self._owns_session:
                session.close()

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

        `workitem`: a `str` is sent as text, `bytes` as octets, any other value as JSON; `content_type` overrides the
        type of `str` and `bytes`. `delay_s`: seconds until it is dispatched, up to ten years. `message_id`: its id for
        its whole life, a new UUID by default.

        Raises `BrokerUnavailable` where no confirm came in time: the broker may have it or not; submit it again with
        the same `message_id`. Raises `WorkitemRefused` where the broker refuses it (too large a body),
        `MalformedWorkitem` for a bad worker type, `ValueError` or `TypeError` for an impossible delay or value.
        """
        properties, body = self._message(
            worker_type,
            workitem,
            content_type=content_type,
            headers=headers,
            delay_s=delay_s,
            message_id=message_id,
            correlation_id=correlation_id,
            reply_to=reply_to,
        )
        self.connect()
        outbox = Outbox(self._session)
        self._publish(outbox, properties, body, lambda: None)
        outbox.settle()
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
        """Submit workitems of one type, many at a time; returns when the broker has confirmed them all.

        Keywords and errors are those of `submit`. `workitems` may be a generator; it is read as fast as the broker
        confirms. Where the broker refuses one, those before it are submitted, and some after it may be.
        """
        submitted: list[Submitted] = []
        options = {"content_type": content_type, "headers": headers, "delay_s": delay_s, "reply_to": reply_to}
        self.submit_each(worker_type, ((workitem, options) for workitem in workitems), submitted.append)
        return submitted

    def submit_each(
        self,
        worker_type: str,
        workitems: Iterable[tuple[Any, Mapping[str, Any]]],
        on_submitted: Callable[[Submitted], object],
    ) -> None:
        """As `submit_many`, in constant memory, for pairs of a workitem and its own keywords of `submit`.

        It calls `on_submitted(submitted)` for each workitem, in order, once the broker has confirmed it. After an error
        some further ones may have been submitted: those that were under way without a confirm.
        """
        self.connect()
        outbox = Outbox(self._session)
        for workitem, options in workitems:
            properties, body = self._message(worker_type, workitem, **options)
            self._publish(outbox, properties, body, partial(on_submitted, _submitted(properties)))
        outbox.settle()

    def _message(
        self,
        of_type: str,
        workitem: Any,
        *,
        content_type: str | None = None,
        headers: Mapping[str, Any] | None = None,
        delay_s: float = 0.0,
        message_id: str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
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
            reply_to=(self._reply_to if reply_to is None else reply_to) or None,
        ), body

    def _publish(self, outbox: Outbox, properties: Properties, body: bytes, confirmed: Callable[[], object]) -> None:
        private = properties.reply_to == self._private
        self._private_used = self._private_used or private
        needs = self._reply_queue() if private else None
        outbox.publish(queues.ingress(self._session.amqp), properties, body, confirmed, needs=needs)

    def _reply_queue(self) -> Queue:
        return Queue(self._private, {"x-expires": _REPLY_EXPIRES_MS})

    # -- wait

    def wait(self, submitted: Submitted, timeout_s: float | None = None) -> Result:
        """Wait for the result of a workitem that was submitted with the private reply queue.

        `timeout_s`: seconds, None for ever. An error result is returned like any other: see `Result.get`. Raises
        `ResultTimeout`: the workitem may still be run, and `wait` may be called again. Raises `ValueError` where the
        result goes to another queue.
        """
        if submitted.reply_to != self._private:
            raise ValueError(f"its result goes to {submitted.reply_to!r}, not to this client")
        self.connect()
        if self._replies is None:
            self._replies = Consumer(
                self._session.connection,
                self._session.declarer,
                self._reply_queue(),
                prefetch=100,
                on_delivery=self._on_reply,
            )
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._session.wait(lambda: submitted.message_id in self._results, deadline):
            raise ResultTimeout(f"no result of workitem {submitted.message_id} within {timeout_s:g} s")
        return self._results.pop(submitted.message_id)

    def _on_reply(self, delivery: Delivery) -> None:
        result = read_result(delivery.properties, delivery.body)
        self._results[result.message_id] = result
        delivery.settle()


def read_result(properties: Properties, body: bytes) -> Result:
    """Read a message from a queue of results; the value is `bytes` where the body does not fit its content type."""
    try:
        value = decode(body, properties.content_type, properties.content_encoding)
    except MalformedWorkitem:  # it is not from a worker: any client may publish to a queue
        value = body
    return Result(
        message_id=str(header(properties, "task_id") or properties.correlation_id),
        status=str(header(properties, "status")),
        value=value,
        content_type=properties.content_type,
        headers=properties.headers or {},
    )


def _session(url: str | None, timeout_s: float) -> Session:
    environ = os.environ if url is None else {URL_VARIABLE: url}
    return Session(load(environ=environ).amqp, "taskqueue-client", timeout_s=timeout_s)


def _submitted(properties: Properties) -> Submitted:
    assert properties.message_id and properties.correlation_id
    return Submitted(properties.message_id, properties.correlation_id, properties.reply_to or "")
