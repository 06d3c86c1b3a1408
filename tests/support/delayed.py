"""Workitems with a delay: when each is due, what comes out of the ladder, and when. It must never import taskqueue."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import pika.exceptions

from plain_amqp import Message, PlainAmqp
from waiting import wait_for


class Arrival(NamedTuple):
    """A message that was taken from a queue, and when, in Unix time."""

    message: Message
    at_s: float

    @property
    def name(self) -> str:
        """Its `message_id`."""
        return str(self.message.properties.message_id)


def submit(amqp: PlainAmqp, body: str, name: str, delay_ms: int, headers: Mapping[str, Any] | None = None,
           **properties: Any) -> float:  # fmt: skip
    """Submit a workitem with `x-delay`; the Unix time at which it is due, at the earliest.

    The delay counts from before the publish: a busy broker confirms late.
    """
    due_s = time.time() + delay_ms / 1000
    amqp.submit(body, message_id=name, headers={"x-delay": delay_ms, **(headers or {})}, **properties)
    return due_s


def arrivals(amqp: PlainAmqp, queue: str, count: int, deadline_s: float) -> list[Arrival]:
    """What comes into `queue`, and when, until there are `count` different workitems; with those that come twice."""
    came: list[Arrival] = []

    def enough() -> bool:
        try:
            while (message := amqp.take_now(queue)) is not None:
                came.append(Arrival(message, time.time()))
        except pika.exceptions.AMQPError:  # a broker that has just started: its quorum queues elect their leaders
            amqp.close()
        return len({each.name for each in came}) >= count

    wait_for(enough, deadline_s, "all have come", poll_s=0.002, otherwise=lambda: f"{len(came)} of {count}")
    return came


def lateness(due_s: Mapping[str, float], came: list[Arrival]) -> list[float]:
    """How late each arrival was, in seconds, least first: none was early where the first is not negative."""
    return sorted(each.at_s - due_s[each.name] for each in came)
