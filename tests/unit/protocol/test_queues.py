"""Queues and the delay ladder as data (design, section 4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from taskqueue.config.settings import AmqpSettings
from taskqueue.protocol import queues
from taskqueue.protocol.queues import HIGHEST_RUNG, LOWEST_RUNG, next_rung

AMQP = AmqpSettings((("localhost", 5672),), "guest", "guest", "/", 60, False, None, None, None, "quorum", "classic")
TEN_YEARS_MS = 10 * 366 * 86_400_000
UNIT_MS = 2**LOWEST_RUNG


@pytest.mark.parametrize("delay", [0, -1, -(10**9)])
def test_no_delay_is_no_rung(delay: int) -> None:
    assert next_rung(delay) is None


def test_rungs_have_fixed_ttls_that_rabbitmq_takes() -> None:
    for exponent in range(LOWEST_RUNG, HIGHEST_RUNG + 1):
        queue = queues.rung(exponent)
        assert queue.name == f"taskqueue_delay_{exponent:02d}"
        assert queue.arguments == {
            "x-queue-type": "quorum",
            "x-message-ttl": 2**exponent,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "taskqueue_delay_step",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        assert 2**exponent < 2**32, "RabbitMQ's limit for a TTL"


def test_taskqueue_has_no_arguments_by_default() -> None:
    assert queues.ingress(AMQP) == queues.Queue("taskqueue", {})
    quorum = queues.ingress(replace(AMQP, ingress_queue_type="quorum"))
    assert quorum == queues.Queue("taskqueue", {"x-queue-type": "quorum"})


def test_worker_queues() -> None:
    assert queues.worker("a.b", AMQP) == queues.Queue(
        "worker_a.b",
        {
            "x-queue-type": "quorum",
            "x-delivery-limit": 20,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "taskqueue_dead",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )
    classic = queues.worker("a", replace(AMQP, queue_type="classic"))
    assert classic.arguments == {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "taskqueue_dead"}


def test_results_dead_and_step() -> None:
    assert queues.results("results") == queues.Queue("results", {})
    assert queues.dead() == queues.Queue("taskqueue_dead", {"x-queue-type": "quorum"})
    assert queues.delay_step().arguments == queues.worker("w", AMQP).arguments, "limited, and never dropped"


def test_no_outcome_is_ever_dropped_in_silence() -> None:
    assert queues.outcomes("b") == queues.Queue(
        "taskqueue_http_b",
        {
            "x-queue-type": "quorum",
            "x-delivery-limit": 1_000_000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "taskqueue_dead",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )


def test_a_queue_cannot_be_changed_by_who_declares_it() -> None:
    with pytest.raises(TypeError):
        queues.worker("a", AMQP).arguments["x"] = 1  # type: ignore[index]


def test_a_worker_type_of_any_length_makes_a_queue_name_that_amqp_takes() -> None:
    assert len(queues.worker("a" * 201, AMQP).name.encode()) <= 255
