"""Dead letters for tests: made as taskqueue makes them, and as the broker makes its own."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import Any

from plain_amqp import PlainAmqp
from taskqueue.amqp.session import Outbox, Session
from taskqueue.config.load import URL_VARIABLE, load
from taskqueue.protocol import queues
from taskqueue.protocol.properties import Properties
from waiting import wait_for

DEAD = "taskqueue_dead"
QUORUM = {"x-queue-type": "quorum"}
LIKE_RABBITMQ_4 = {**QUORUM, "x-delivery-limit": 20}
"""What RabbitMQ 4 makes of every quorum queue by itself."""


def headers(
    *, reason: str = "failed", queue: str = "worker_t", age_s: float = 0.0, detail: str = "", **more: Any
) -> dict[str, Any]:
    """The headers of a dead letter, as docs/protocol.rst has them."""
    return {
        "x-dead-reason": reason,
        "x-dead-detail": detail or f"Traceback (most recent call last):\n  File x\nValueError: {reason}",
        "x-dead-queue": queue,
        "x-dead-at": int((time.time() - age_s) * 1000),
        "x-dead-host": "elsewhere",
        **more,
    }


def bury(amqp: PlainAmqp, message_id: str, body: bytes | str = b"body", **fields: Any) -> None:
    """Put one dead letter into the queue; it is there when this returns."""
    amqp.submit(body, DEAD, message_id=message_id, content_type="text/plain", headers=headers(**fields))


def bury_many(amqp: PlainAmqp, count: int, body: bytes = b"body", **fields: Any) -> list[str]:
    """`count` dead letters; their ids, in order. Confirmed: of what is not, a busy RabbitMQ forgets some."""
    ids = [f"d{number}" for number in range(count)]
    shared = headers(**fields)
    session = Session(load(environ={URL_VARIABLE: amqp.url}).amqp, "test", timeout_s=120.0)
    session.open()
    try:
        outbox = Outbox(session)
        for message_id in ids:
            properties = Properties(message_id=message_id, content_type="text/plain", headers=shared)
            outbox.publish(queues.dead(), properties, body, lambda: None)
        outbox.settle()
    finally:
        session.close()
    wait_for(lambda: amqp.depth(queues.DEAD) >= count, 30, f"{count} dead letters are counted")  # later than confirmed
    return ids


def declare(amqp: PlainAmqp, worker_types: Iterable[str] = ("t",)) -> None:
    """The queues that the daemons would make, for when none runs."""
    amqp.declare(DEAD, QUORUM)
    for worker_type in worker_types:
        amqp.declare(
            f"worker_{worker_type}",
            {
                **QUORUM,
                "x-delivery-limit": 20,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": DEAD,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            },
        )


def expire(amqp: PlainAmqp, message_id: str, worker_type: str = "t") -> None:
    """A workitem that the broker dead-letters for its expiration."""
    before = amqp.depth(DEAD)
    amqp.submit("too late", f"worker_{worker_type}", message_id=message_id, expiration="1", headers={"mine": "yes"})
    wait_for(lambda: amqp.depth(DEAD) == before + 1, 10, "it expired")


def wear_out(amqp: PlainAmqp, message_id: str, worker_type: str) -> None:
    """A workitem that the broker dead-letters for its delivery limit."""
    before = amqp.depth(DEAD)
    queue = f"worker_{worker_type}"
    amqp.submit("again and again", queue, message_id=message_id, headers={"x-attempt": 3})

    def give_back() -> bool:
        for _ in itertools.count():
            method, _properties, _body = amqp.channel.basic_get(queue)
            if method is None:
                return amqp.depth(DEAD) == before + 1
            amqp.channel.basic_nack(method.delivery_tag, requeue=True)
        return False

    wait_for(give_back, 10, "its deliveries were used up")
