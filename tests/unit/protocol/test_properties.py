"""What a workitem carries from queue to queue, and what no client can forge (design, section 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.protocol.dead_letters import DeadReason, dead_letter
from taskqueue.protocol.delays import off_ladder, on_ladder
from taskqueue.protocol.properties import (
    ATTEMPT,
    CRASHES,
    DELAY,
    Properties,
    attempts,
    clean,
    forwarded,
    handed_back,
    new_id,
    shorten,
)

BROKERS = {
    "x-death": [{"count": 3}],
    "x-first-death-queue": "a",
    "x-last-death-reason": "expired",
    "x-delivery-count": 4,
    "x-acquired-count": 4,
    "CC": ["other"],
    "BCC": ["other"],
}
OWN = {DELAY: 5, ATTEMPT: 2, CRASHES: 1, "x-delay-target": "elsewhere", "x-delay-expiration": "9"}
CLIENTS = {"worker_type": "w", "x-mine": {"a": [1, None]}, "cc": "small"}

FULL = Properties(
    content_type="application/json",
    content_encoding="utf-8",
    headers={**CLIENTS, **OWN, **BROKERS},
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


def test_the_brokers_headers_are_stripped_on_every_republish() -> None:
    ladder = on_ladder(FULL, "worker_w", 5, 9)
    for properties in (forwarded(FULL, "x"), ladder, off_ladder(ladder), handed_back(FULL, 2, 1), dead(FULL)):
        assert properties.headers is not None
        assert not BROKERS.keys() & properties.headers.keys()
        assert CLIENTS.items() <= properties.headers.items()
    assert clean(None) == {} and clean({}) == {}


def test_a_dispatched_workitem_keeps_all_that_the_client_set_and_none_of_our_own_headers() -> None:
    onward = forwarded(FULL, "text/plain")
    assert onward == FULL._replace(content_type="text/plain", headers=CLIENTS)


def test_a_message_id_is_given_where_the_client_set_none() -> None:
    first, second = (forwarded(Properties(), None) for _ in range(2))
    assert first.message_id and second.message_id and first.message_id != second.message_id
    assert first.headers is None
    assert dead(Properties()).message_id
    assert new_id() != new_id()


def test_user_id_is_never_carried() -> None:
    """RabbitMQ refuses a message whose user_id is not the publisher's own."""
    assert not {"user_id", "delivery_mode", "cluster_id"} & set(Properties._fields)


# -- attempts


@pytest.mark.parametrize("value", [None, "3", -1, 0, 2**63, 1_000_000, 1.5, [1], {"a": 1}, b"1"])
def test_hostile_attempts_count_as_none(value: object) -> None:
    assert attempts(Properties(headers={ATTEMPT: value, CRASHES: value})) == (0, 0)


@given(value=st.none() | st.integers() | st.text() | st.floats() | st.booleans() | st.binary())
def test_attempts_are_never_negative_nor_absurd(value: object) -> None:
    begun, crashes = attempts(Properties(headers={ATTEMPT: value, CRASHES: value}))
    assert 0 <= begun < 1_000_000 and 0 <= crashes < 1_000_000


def test_handed_back() -> None:
    back = handed_back(FULL, 4, 1)
    assert back.headers == {**CLIENTS, ATTEMPT: 4, CRASHES: 1}
    assert back.expiration == FULL.expiration
    assert handed_back(Properties(message_id="m"), 0, 0).headers is None


# -- shorten


@given(text=st.text(max_size=400) | st.text(st.characters(), max_size=400), limit=st.integers(10, 300))
def test_shorten_keeps_both_ends_and_can_be_encoded(text: str, limit: int) -> None:
    short = shorten(text, limit)
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= limit:
        assert short == text
    else:
        assert len(short) <= limit and short[: limit // 2 - 4] == text[: limit // 2 - 4] and short[-1] == text[-1]


def test_shorten_makes_lone_surrogates_encodable() -> None:
    assert shorten("a\ud800b") == "a\\ud800b"


def test_shorten_holds_its_limit_where_surrogates_grow() -> None:
    """A header must fit a frame: what is escaped is longer than what it was."""
    assert len(shorten("\ud800" * 8000)) <= 8192
    assert len(shorten("\ud800" * 20_000)) <= 8192
