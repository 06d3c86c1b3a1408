"""The dispatcher: takes workitems from `taskqueue`, reads which worker type each is for, sends it to that queue.

The way of a delivery, say the text `mail hello` of the client's message 4711:

1. The ingress consumer calls `_dispatch`. The text format finds the worker type `mail` and the body `hello`.
2. `_send` declares `worker_mail` where it is not known to exist, and publishes the workitem there.
3. The broker confirms: the delivery is settled. Only now may the broker forget it.

A workitem with the header `x-delay` goes to the delay ladder in step 2: to the queue `taskqueue_delay_*` for the
highest bit of its delay. When its time there is over, the ladder consumer calls `_step`, which sends it to the next
rung, and at last to `worker_mail`. A workitem that cannot be dispatched goes to `taskqueue_dead` with the reason.

This module must never run a plugin's code, never look into a body whose header names the type, and never drop a
message.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from functools import partial

from taskqueue.amqp import Connection, Consumer, Declarer, Delivery, Published, Publisher
from taskqueue.config.load import Settings
from taskqueue.errors import MalformedWorkitem
from taskqueue.foundation.loop import Loop
from taskqueue.protocol import queues
from taskqueue.protocol.dead_letters import DeadReason, dead_letter, reduced
from taskqueue.protocol.delays import delay_left_ms, delay_ms, next_step
from taskqueue.protocol.properties import DELAY_TARGET, WORKER_TYPE, Properties, forwarded, header, new_id
from taskqueue.protocol.queues import Queue
from taskqueue.workitem import route, worker_type

log = logging.getLogger(__name__)


class Dispatcher:
    """One dispatcher on a connection of its own; `drain` ends it. `dispatched` and `dead` count since its start."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self._loop = loop
        self._settings = settings
        self._host = socket.gethostname()
        self._drained: Callable[[], None] | None = None
        self._cancelling = 0
        self._in_hand: set[tuple[object, int, int]] = set()
        """The deliveries whose publish has no answer yet. A set of names, not a counter: in the turn in which the
        connection is lost an answer can come after `_down`, and must not be counted then."""
        self.dispatched = 0
        self.dead = 0
        self.connection = Connection(loop, settings.amqp, "taskqueue-dispatcher", on_up=self._up, on_down=self._down)
        self._declarer = Declarer(self.connection)
        self._publisher = Publisher(self.connection)
        prefetch = settings.dispatcher.prefetch
        self._ingress = Consumer(
            self.connection, self._declarer, queues.ingress(settings.amqp), prefetch, self._dispatch
        )
        self._ladder = Consumer(self.connection, self._declarer, queues.delay_step(), prefetch, self._step)

    def start(self) -> None:
        """Connect and begin; never blocks."""
        self.connection.start()

    def drain(self, done: Callable[[], None]) -> None:
        """Consume no more, wait for the answers to what was published, close the connection, then call `done`."""
        self._drained = done
        self._cancelling = 2
        self._ingress.cancel(self._cancelled)
        self._ladder.cancel(self._cancelled)

    def _cancelled(self) -> None:
        self._cancelling -= 1
        self._maybe_drained()

    def _maybe_drained(self) -> None:
        if self._drained is not None and self._cancelling == 0 and not self._in_hand:
            done, self._drained = self._drained, None
            self.connection.close(done)

    def _up(self) -> None:
        self._declarer.declare(queues.dead(), lambda: None)

    def _down(self) -> None:
        self._in_hand.clear()
        self._maybe_drained()

    # -- from taskqueue

    def _dispatch(self, delivery: Delivery) -> None:
        properties, body = delivery.properties, delivery.body
        try:
            if delivery.fault:
                raise MalformedWorkitem(DeadReason.MALFORMED.value, delivery.fault)
            limit = self._settings.dispatcher.max_body_bytes
            if len(body) > limit:
                raise MalformedWorkitem(DeadReason.TOO_LARGE.value, f"{len(body)} bytes; max_body is {limit}")
            routed = route(body, properties.content_type, properties.content_encoding, header(properties, WORKER_TYPE))
            delay = delay_ms(properties)
        except MalformedWorkitem as error:
            self._bury(delivery, error)
            return
        queue = queues.worker(routed.worker_type, self._settings.amqp)
        onward = forwarded(properties, routed.content_type)
        if delay:
            self._climb(delivery, queue, onward, routed.body, delay, _now_ms() + delay)
        else:
            self._send(delivery, queue, onward, routed.body)

    # -- the delay ladder

    def _climb(
        self, delivery: Delivery, target: Queue, onward: Properties, body: bytes,
        remaining_ms: int, due_ms: int,
    ) -> None:  # fmt: skip
        """Put a workitem on the rung of the highest bit of its delay, or send it to its queue when none is left."""
        self._send(delivery, *next_step(onward, target, remaining_ms, due_ms), body)

    def _step(self, delivery: Delivery) -> None:
        properties = delivery.properties
        try:
            if delivery.fault:
                raise MalformedWorkitem(DeadReason.MALFORMED.value, delivery.fault)
            target = header(properties, DELAY_TARGET)
            if not isinstance(target, str) or not target.startswith(queues.WORKER_PREFIX):
                raise MalformedWorkitem("malformed", f"{DELAY_TARGET} is not a worker queue", target)
            queue = queues.worker(worker_type(target.removeprefix(queues.WORKER_PREFIX)), self._settings.amqp)
            remaining_ms, due_ms = delay_left_ms(properties, _now_ms())
        except MalformedWorkitem as error:
            self._bury(delivery, error)
            return
        if properties.message_id is None:
            properties = properties._replace(message_id=new_id())
        self._climb(delivery, queue, properties, delivery.body, remaining_ms, due_ms)

    # -- onward

    def _bury(self, delivery: Delivery, error: MalformedWorkitem) -> None:
        self.dead += 1
        log.warning(
            "dead letter: queue=%s message_id=%s reason=%s detail=%s",
            delivery.source.queue.name, delivery.properties.message_id, error.reason, error.what,
        )  # fmt: skip
        properties = dead_letter(
            delivery.properties, DeadReason(error.reason), error.detail,
            queue=delivery.source.queue.name, at_s=time.time(), host=self._host,
        )  # fmt: skip
        self._send(delivery, queues.dead(), properties, delivery.body)

    def _send(self, delivery: Delivery, queue: Queue, properties: Properties, body: bytes) -> None:
        """Publish to `queue`, declaring it first where it is not known to exist; settle when it is confirmed."""
        self._in_hand.add((delivery.source, delivery.epoch, delivery.tag))
        done = partial(self._published, delivery, queue, properties, body)
        if self._declarer.knows(queue.name):
            self._publisher.publish(queue.name, properties, body, done)
        else:
            publish = partial(self._publisher.publish, queue.name, properties, body, done)
            refused = None if queue.name == queues.DEAD else partial(self._refused, delivery, queue, properties, body)
            self._declarer.declare(queue, publish, refused)

    def _published(
        self, delivery: Delivery, queue: Queue, properties: Properties, body: bytes,
        published: Published,
    ) -> None:  # fmt: skip
        if published is Published.LOST:
            return  # the delivery is lost, too: the broker delivers it again; `_down` has forgotten this one
        self._in_hand.discard((delivery.source, delivery.epoch, delivery.tag))
        match published:
            case Published.UNROUTABLE:
                self._declarer.forget(queue.name)
                self._send(delivery, queue, properties, body)
            case Published.REFUSED:
                self._refused(delivery, queue, properties, body, self._publisher.refusal)
            case Published.CONFIRMED:
                delivery.settle()
                self.dispatched += 1
        self._maybe_drained()

    def _refused(self, delivery: Delivery, queue: Queue, properties: Properties, body: bytes, why: str) -> None:
        """The broker refuses the message: make it a dead letter, and where the broker refuses that, one without the
        client's headers. Where the broker refuses that, too, the delivery stays unsettled in its queue, until a person
        has looked at the broker's limits."""
        if queue.name != queues.DEAD:
            self._bury(delivery, MalformedWorkitem(DeadReason.REJECTED.value, f"it cannot be sent on: {why}"))
        elif (bare := reduced(properties)) != properties:
            self._send(delivery, queue, bare, body)
        else:
            log.error(
                "dead letter not taken, left in its queue: queue=%s message_id=%s reason=%s",
                delivery.source.queue.name, properties.message_id, why,
            )  # fmt: skip


def _now_ms() -> int:
    """Unix time in milliseconds: a delay is walked by several hosts, and outlives a boot."""
    return time.time_ns() // 1_000_000
