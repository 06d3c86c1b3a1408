"""What a dead letter says, whoever made it and whatever is in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from taskqueue.protocol.dead_letters import DeadReason, Letter, dead_letter, read, revived
from taskqueue.protocol.properties import Properties

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def death(queue: str = "worker_t", reason: str = "expired", time: Any = AT) -> dict[str, Any]:
    return {"queue": queue, "reason": reason, "time": time, "count": 1, "exchange": "", "routing-keys": [queue]}


def test_ours() -> None:
    made = dead_letter(
        Properties(message_id="m", headers={"worker_type": "u"}), DeadReason.TIMEOUT, "why",
        queue="worker_t", at_s=12.5, host="h",
    )  # fmt: skip
    assert read(made) == Letter("m", "t", "timeout", 12.5, "worker_t", "h", "why")


@pytest.mark.parametrize("time", [AT, AT.replace(tzinfo=None)], ids=["pika 1.3", "pika 1.2"])
def test_the_brokers(time: datetime) -> None:
    found = read(Properties(message_id="m", headers={"x-death": [death(time=time)]}))
    assert found[:6] == ("m", "t", "expired", AT.timestamp(), "worker_t", None)
    assert found.detail


def test_the_newest_death_counts() -> None:
    """It was delayed, which is an expiry, and then went round too often; and it bears headers that a client forged."""
    headers = {
        "x-death": [death("worker_t", "delivery_limit"), death("taskqueue_delay_10", "expired")],
        "x-first-death-reason": "expired", "x-first-death-queue": "taskqueue_delay_10",
        "x-dead-reason": "forged", "x-dead-queue": "taskqueue",
    }  # fmt: skip
    found = read(Properties(headers=headers))
    assert (found.reason, found.queue, found.worker_type) == ("delivery-limit", "worker_t", "t")


def test_the_type_is_in_the_queue_or_in_a_header() -> None:
    assert read(Properties(headers={"x-dead-queue": "taskqueue", "worker_type": "u"})).worker_type == "u"
    step = {"x-dead-queue": "taskqueue_delay_step", "x-delay-target": "worker_v"}
    assert read(Properties(headers=step)).worker_type == "v"


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {"x-death": "text"}, {"x-death": []}, {"x-death": [1]}, {"x-death": [{}]},
        {"x-death": [{"queue": 1, "reason": [], "time": "now"}]},
        {"x-dead-at": "now", "x-dead-reason": 1, "x-dead-queue": {}, "x-dead-host": [], "x-dead-detail": True},
        {"x-dead-at": 2**62}, {"x-dead-at": -(2**62)},
    ],
)  # fmt: skip
def test_what_it_does_not_say_is_none(headers: dict[str, Any] | None) -> None:
    assert read(Properties(message_id="m", headers=headers)) == Letter("m", None, None, None, None, None, None)


def test_revived_begins_anew_with_all_that_was_the_clients() -> None:
    headers = {
        "x-death": [death()], "x-first-death-queue": "q", "x-last-death-queue": "q", "x-delivery-count": 3, "CC": ["q"],
        "x-dead-reason": "failed", "x-dead-detail": "", "x-dead-queue": "q", "x-dead-at": 1, "x-dead-host": "h",
        "x-attempt": 3, "x-crashes": 1, "x-delay": 5, "mine": 1,
    }  # fmt: skip
    before = Properties(message_id="m", correlation_id="c", reply_to="r", headers=headers)
    assert revived(before) == before._replace(headers={"x-delay": 5, "mine": 1})
    assert revived(Properties(headers={"x-attempt": 1})).headers is None
    assert revived(Properties()).message_id, "the broker returns by it"
