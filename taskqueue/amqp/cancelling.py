"""How consuming ends without losing or rejecting a delivery that is on its way. It must never settle a delivery.

Example: `cancel` two consumers of a channel, with 30 deliveries on their way. All 30 arrive, then `done()` is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from taskqueue.amqp import seams


def cancel(channel: Any, consumer_tags: Iterable[str]) -> None:
    """Cancel consumers that the broker has confirmed: RabbitMQ 3.10 closes the connection (541) for another."""
    for tag in consumer_tags:
        seams.cancel(channel, tag)


def when_all_arrived(channel: Any, done: Callable[[], object]) -> None:
    """Call `done` when no delivery can be on its way any more on `channel`, all whose consumers were cancelled.

    Two rounds: with the first answer all deliveries are in the broker's channel process, which may have read our
    question before it read them; behind the second answer comes none. Not called where the channel closes.
    """
    _ask(channel, lambda: _ask(channel, done))


def _ask(channel: Any, answered: Callable[[], object]) -> None:
    """Call `answered` when the broker has done everything that was sent on `channel` so far."""
    if channel.is_open:
        channel.basic_qos(prefetch_count=1, callback=lambda _frame: answered())
