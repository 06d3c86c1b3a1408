"""What a real broker does with a lease queue: the listener knows a copy that comes back by where it has been."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from listening import AMQP
from plain_amqp import PlainAmqp
from taskqueue.amqp import Connection, Consumer, Declarer, Delivery
from taskqueue.config.load import URL_VARIABLE, load
from taskqueue.foundation.loop import Loop
from taskqueue.listener.run import begin
from taskqueue.listener.runs import Runs
from taskqueue.protocol import queues
from taskqueue.protocol.queues import Queue
from turning import turn_until


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop."""
    made = Loop()
    yield made
    made.close()


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
def test_a_copy_that_its_ttl_sends_back_is_known_work(amqp_url: str, loop: Loop, queue_type: str) -> None:
    """A listener was without its broker for longer than the lease queue's TTL, and has finished the workitem."""
    settings = replace(AMQP, queue_type=queue_type)
    worker = queues.worker("w", settings)
    lease = queues.lease("1", "w", settings)
    lease = Queue(lease.name, {**lease.arguments, "x-message-ttl": 50})
    arrived: list[Delivery] = []
    connection = Connection(loop, load(environ={URL_VARIABLE: amqp_url}).amqp, "test")
    Consumer(connection, Declarer(connection), worker, 1, arrived.append)
    with PlainAmqp(amqp_url) as plain:
        for queue in (worker, lease):
            plain.declare(queue.name, dict(queue.arguments))
        plain.submit(b"body", lease.name, message_id="42")
    connection.start()
    turn_until(loop, lambda: arrived, 30.0, "the copy comes back")
    (copy,) = arrived
    assert not copy.redelivered, "for the broker it is a first delivery"
    known = begin(copy._replace(epoch=0, properties=copy.properties._replace(headers=None)))
    runs = Runs()
    runs.keep(known)
    assert runs.reclaim(begin(copy)) is known
    assert time.monotonic() - known.delivered < 10.0, "its delivery is young again"
    ended: list[bool] = []
    connection.close(lambda: ended.append(True))
    turn_until(loop, lambda: ended, what="the connection is closed")
