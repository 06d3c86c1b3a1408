"""Workitems that kill: each is run as often as it may, and nobody else is blamed. `tests/faults/poison.py` at large."""

from __future__ import annotations

import poison
import pytest

from daemons import Stage


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_every_way_to_kill_a_worker_among_good_ones(stage: Stage, queue_type: str) -> None:
    poison.crashes(stage, queue_type, seed=1, count=200)


def test_the_brokers_limit_ends_what_kills_its_listener(stage: Stage) -> None:
    """On a queue with a limit of 2, which an operator has declared so and which is used as it is.

    One at a time: the broker counts for all that a listener holds when it dies, and two deaths are soon come by.
    """
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 2,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "taskqueue_dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    stage.amqp.channel.queue_declare("worker_poison", durable=True, arguments=arguments)
    poison.install(stage, "quorum", workers=2)
    stage.configure(stage.config_file.read_text() + "prefetch: 1\n")
    stage.start("poison")
    poison.backstop(stage, [stage.pool], limit=2, good=50)
