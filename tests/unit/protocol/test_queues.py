"""Queues and the delay ladder as data (design, section 4)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskqueue.config.settings import AmqpSettings
from taskqueue.protocol import queues
from taskqueue.protocol.delays import delay_left_ms, on_ladder
from taskqueue.protocol.properties import Properties
from taskqueue.protocol.queues import HIGHEST_RUNG, LOWEST_RUNG, next_rung

AMQP = AmqpSettings((("localhost", 5672),), "guest", "guest", "/", 60, False, None, None, None, "quorum", "classic")
TEN_YEARS_MS = 10 * 366 * 86_400_000
UNIT_MS = 2**LOWEST_RUNG


def walk(delay: int) -> list[int]:
    """The TTLs of the rungs that a delay passes."""
    ttls = []
    left = delay
    while (step := next_rung(left)) is not None:
        rung, left = step
        ttls.append(rung.arguments["x-message-ttl"])
        assert len(ttls) < 200, "it never ends"
    return ttls


@settings(max_examples=500, deadline=None)
@given(delay=st.integers(1, TEN_YEARS_MS) | st.integers(1, 100_000))
@example(delay=1)
@example(delay=15)
@example(delay=16)
@example(delay=17)
@example(delay=2**31 - 1)
@example(delay=2**31)
@example(delay=TEN_YEARS_MS)
def test_the_rungs_of_a_delay_sum_to_it(delay: int) -> None:
    ttls = walk(delay)
    assert 0 <= sum(ttls) - delay < UNIT_MS, "never early, and at most 16 ms late"
    assert len(ttls) <= (HIGHEST_RUNG - LOWEST_RUNG + 1) + TEN_YEARS_MS // 2**HIGHEST_RUNG
    assert ttls == sorted(ttls, reverse=True)
    if sum(ttls) < 2**HIGHEST_RUNG:
        assert len(set(ttls)) == len(ttls), "the same rung twice would look like a cycle to the broker"


@settings(max_examples=500, deadline=None)
@given(
    delay=st.integers(1, 30 * 86_400_000) | st.integers(1, 100_000),
    late=st.lists(st.integers(0, 50) | st.integers(0, 10_000_000), min_size=64, max_size=64),
)
@example(delay=30 * 86_400_000, late=[50] * 64)
@example(delay=2**31 - 16, late=[1000] * 64)
@example(delay=65_536, late=[0, *[50] * 63])
def test_what_a_rung_is_late_by_does_not_add_up(delay: int, late: list[int]) -> None:
    """However late every hop is, the workitem is late at last by its last hop and the resolution, and never early."""
    due = began = now = 1_800_000_000_000
    due += delay
    left, hops = delay, 0
    while (step := next_rung(left)) is not None:
        rung, left = step
        now += rung.arguments["x-message-ttl"] + late[hops]
        hops += 1
        left, still_due = delay_left_ms(on_ladder(Properties(), "worker_w", left, due), now)
        assert still_due == due
    assert 0 <= now - due < UNIT_MS + late[hops - 1], f"{hops} hops, {now - began} ms"
    assert hops <= HIGHEST_RUNG - LOWEST_RUNG + 1, "no rung twice"


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


def test_a_queue_cannot_be_changed_by_who_declares_it() -> None:
    with pytest.raises(TypeError):
        queues.worker("a", AMQP).arguments["x"] = 1  # type: ignore[index]


def test_a_worker_type_of_any_length_makes_a_queue_name_that_amqp_takes() -> None:
    assert len(queues.worker("a" * 201, AMQP).name.encode()) <= 255
