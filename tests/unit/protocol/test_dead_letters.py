"""What a dead letter says, whoever made it and whatever is in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from taskqueue.protocol.dead_letters import DeadLetter, DeadReason, dead_letter, for_replay, read_dead_letter, reduced
from taskqueue.protocol.properties import ATTEMPT, Properties

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def death(queue: str = "worker_t", reason: str = "expired", time: Any = AT) -> dict[str, Any]:
    return {"queue": queue, "reason": reason, "time": time, "count": 1, "exchange": "", "routing-keys": [queue]}


def test_ours() -> None:
    made = dead_letter(
        Properties(message_id="m", headers={"worker_type": "u"}), DeadReason.TIMEOUT, "why",
        queue="worker_t", at_s=12.5, host="h",
    )  # fmt: skip
    assert read_dead_letter(made) == DeadLetter("m", "t", "timeout", 12.5, "worker_t", "h", "why")


@pytest.mark.parametrize("time", [AT, AT.replace(tzinfo=None)], ids=["pika 1.3", "pika 1.2"])
def test_the_brokers(time: datetime) -> None:
    found = read_dead_letter(Properties(message_id="m", headers={"x-death": [death(time=time)]}))
    assert found[:6] == ("m", "t", "expired", AT.timestamp(), "worker_t", None)
    assert found.detail


def test_the_newest_death_counts() -> None:
    """It was delayed, which is an expiry, and then went round too often; and it bears headers that a client forged."""
    headers = {
        "x-death": [death("worker_t", "delivery_limit"), death("taskqueue_delay_10", "expired")],
        "x-first-death-reason": "expired", "x-first-death-queue": "taskqueue_delay_10",
        "x-dead-reason": "forged", "x-dead-queue": "taskqueue",
    }  # fmt: skip
    found = read_dead_letter(Properties(headers=headers))
    assert (found.reason, found.queue, found.worker_type) == ("delivery-limit", "worker_t", "t")


def test_the_type_is_in_the_queue_or_in_a_header() -> None:
    assert read_dead_letter(Properties(headers={"x-dead-queue": "taskqueue", "worker_type": "u"})).worker_type == "u"
    step = {"x-dead-queue": "taskqueue_delay_step", "x-delay-target": "worker_v"}
    assert read_dead_letter(Properties(headers=step)).worker_type == "v"


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {"x-death": "text"}, {"x-death": []}, {"x-death": [1]}, {"x-death": [{}]},
        {"x-death": [{"queue": 1, "reason": [], "time": "now"}]},
        {"x-dead-at": "now", "x-dead-reason": 1, "x-dead-queue": {}, "x-dead-host": [], "x-dead-detail": True},
        {"x-dead-at": 2**62}, {"x-dead-at": -(2**62)}, {"x-dead-at": -1}, {"x-dead-at": 250_000_000_000_000},
    ],
)  # fmt: skip
def test_what_it_does_not_say_is_none(headers: dict[str, Any] | None) -> None:
    assert read_dead_letter(Properties(message_id="m", headers=headers)) == DeadLetter(
        "m", None, None, None, None, None, None
    )


def test_a_replay_begins_anew_with_all_that_was_the_clients() -> None:
    headers = {
        "x-death": [death()], "x-first-death-queue": "q", "x-last-death-queue": "q", "x-delivery-count": 3, "CC": ["q"],
        "x-dead-reason": "failed", "x-dead-detail": "", "x-dead-queue": "q", "x-dead-at": 1, "x-dead-host": "h",
        "x-attempt": 3, "x-crashes": 1, "x-delay": 5, "mine": 1,
    }  # fmt: skip
    before = Properties(message_id="m", correlation_id="c", reply_to="r", headers=headers)
    assert for_replay(before) == before._replace(headers={"x-delay": 5, "mine": 1})
    assert for_replay(Properties(headers={"x-attempt": 1})).headers is None
    assert for_replay(Properties()).message_id, "the broker returns by it"


# -- made by taskqueue

WORKITEM = Properties(
    content_type="application/json",
    content_encoding="utf-8",
    headers={"mine": 1, ATTEMPT: 2},
    priority=3,
    correlation_id="c",
    reply_to="r",
    expiration="60000",
    message_id="m",
    timestamp=1_700_000_000,
    type="t",
    app_id="app",
)


def dead(properties: Properties, detail: str = "why") -> Properties:
    return dead_letter(properties, DeadReason.FAILED, detail, queue="worker_w", at_s=1.5, host="h")


def test_a_dead_letter_says_why_where_and_when_and_waits_for_a_person() -> None:
    letter = dead(WORKITEM)
    assert letter.expiration is None
    assert letter == WORKITEM._replace(headers=letter.headers, expiration=None)
    assert letter.headers is not None
    assert {
        "x-dead-reason": "failed", "x-dead-detail": "why", "x-dead-queue": "worker_w", "x-dead-at": 1500,
        "x-dead-host": "h", ATTEMPT: 2,
    }.items() <= letter.headers.items()  # fmt: skip


def test_a_dead_letters_detail_is_shortened() -> None:
    letter = dead(WORKITEM, "x" * 1_000_000)
    assert letter.headers is not None and len(letter.headers["x-dead-detail"]) <= 8192


def test_reasons_are_those_of_the_contract() -> None:
    contract = "malformed unknown-format too-large failed rejected crashed timeout expired delivery-limit"
    assert {reason.value for reason in DeadReason} == set(contract.split())


def test_a_reduced_dead_letter_says_why_and_has_nothing_else_of_the_clients() -> None:
    letter = dead(WORKITEM._replace(headers={"x-dead-mine": "x" * 100_000}), "x" * 100_000)
    bare = reduced(letter)
    assert bare.headers is not None and len(bare.headers["x-dead-detail"]) <= 200
    assert bare.headers.keys() == {"x-dead-reason", "x-dead-detail", "x-dead-queue", "x-dead-at", "x-dead-host"}
    assert bare == Properties("application/json", "utf-8", bare.headers, message_id="m")
    assert reduced(bare) == bare
