"""Properties and headers of what taskqueue publishes (design, section 4)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile import BODIES
from taskqueue.errors import MalformedWorkitem
from taskqueue.protocol.dead_letters import DeadReason, dead_letter, reduced
from taskqueue.protocol.delays import DELAY_LIMIT_MS, delay_left_ms, delay_ms, off_ladder, on_ladder
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
from taskqueue.protocol.results import Outcome, encode_result, error_body, result

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


# -- delay ladder


def test_expiration_does_not_run_out_on_the_ladder_and_is_back_behind_it() -> None:
    onward = forwarded(FULL, FULL.content_type)
    step = on_ladder(onward, "worker_w", 100, 2000)
    assert step.expiration is None
    assert step.headers is not None and step.headers["x-delay-target"] == "worker_w" and step.headers[DELAY] == 100
    again = on_ladder(step, "worker_w", 4, 2000)
    assert again.headers is not None and again.headers[DELAY] == 4 and again.headers["x-delay-due"] == 2000
    assert off_ladder(again) == onward


def test_without_expiration_and_headers_the_ladder_leaves_no_trace() -> None:
    bare = Properties(message_id="m")
    assert off_ladder(on_ladder(bare, "worker_w", 0, 0)) == bare


@pytest.mark.parametrize("forged", ["soon", "-1", "1e3", "", "9" * 12, "\u0663", 5, None])
def test_a_forged_expiration_does_not_leave_the_ladder(forged: object) -> None:
    """The broker refuses it, each time."""
    assert off_ladder(Properties(headers={"x-delay-expiration": forged})).expiration is None


def test_attempts_survive_the_ladder() -> None:
    onward = handed_back(Properties(message_id="m"), 3, 1)
    assert attempts(off_ladder(on_ladder(onward, "worker_w", 7, 9))) == (3, 1)


@pytest.mark.parametrize(
    ("now", "left"),
    [
        (1000, 500),  # in time
        (1300, 200),  # late: made up for
        (1500, 0),
        (9000, 0),  # late by more than was left
        (200, 500),  # our clock is behind that of the host where it began: no longer than the rungs ahead
    ],
)
def test_what_is_left_between_two_rungs(now: int, left: int) -> None:
    assert delay_left_ms(on_ladder(Properties(), "worker_w", 500, 1500), now) == (left, 1500)


@pytest.mark.parametrize("due", [None, "soon", 1.5, [1]])
def test_without_a_time_the_rungs_alone_count(due: object) -> None:
    assert delay_left_ms(Properties(headers={DELAY: 500, "x-delay-due": due}), 1000) == (500, 1500)


def test_a_client_cannot_say_when_a_delay_is_over() -> None:
    onward = forwarded(Properties(headers={DELAY: 500, "x-delay-due": 1, "x-delay-target": "worker_x"}), None)
    assert onward.headers is None


@pytest.mark.parametrize("value", [0, 1, 250, DELAY_LIMIT_MS])
def test_delays(value: int) -> None:
    assert delay_ms(Properties(headers={DELAY: value})) == value
    assert delay_ms(Properties()) == 0


@pytest.mark.parametrize("value", [-1, DELAY_LIMIT_MS + 1, "250", 1.5, True, [1], 2**70])
def test_bad_delays_are_malformed(value: object) -> None:
    with pytest.raises(MalformedWorkitem) as caught:
        delay_ms(Properties(headers={DELAY: value}))
    assert caught.value.reason == "malformed"


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


# -- dead letters


def test_a_dead_letter_says_why_where_and_when_and_waits_for_a_person() -> None:
    letter = dead(FULL)
    assert letter.expiration is None
    assert letter == FULL._replace(headers=letter.headers, expiration=None)
    assert letter.headers is not None
    assert {
        "x-dead-reason": "failed", "x-dead-detail": "why", "x-dead-queue": "worker_w", "x-dead-at": 1500,
        "x-dead-host": "h", ATTEMPT: 2,
    }.items() <= letter.headers.items()  # fmt: skip


def test_a_dead_letters_detail_is_shortened() -> None:
    letter = dead(FULL, "x" * 1_000_000)
    assert letter.headers is not None and len(letter.headers["x-dead-detail"]) <= 8192


def test_reasons_are_those_of_the_contract() -> None:
    contract = "malformed unknown-format too-large failed rejected crashed timeout expired delivery-limit"
    assert {reason.value for reason in DeadReason} == set(contract.split())


def test_a_reduced_dead_letter_says_why_and_has_nothing_else_of_the_clients() -> None:
    letter = dead(FULL._replace(headers={"x-dead-mine": "x" * 100_000}), "x" * 100_000)
    bare = reduced(letter)
    assert bare.headers is not None and len(bare.headers["x-dead-detail"]) <= 200
    assert bare.headers.keys() == {"x-dead-reason", "x-dead-detail", "x-dead-queue", "x-dead-at", "x-dead-host"}
    assert bare == Properties("application/json", "utf-8", bare.headers, message_id="m")
    assert reduced(bare) == bare


# -- results


def test_a_result() -> None:
    outcome = Outcome("error", b"", "application/json", 2, 12.6, "ValueError")
    made = result(FULL, outcome, worker_type="w", host="h", ttl_s=60.5)
    assert made == Properties(
        content_type="application/json",
        headers={
            "worker_type": "w", "task_id": "m", "status": "error", "attempt": 2, "runtime_ms": 13, "host": "h",
            "error_type": "ValueError",
        },
        priority=3,
        correlation_id="c",
        expiration="60500",
        message_id="m",
    )  # fmt: skip


def test_a_result_of_success_has_no_error_type_and_its_message_id_correlates() -> None:
    outcome = Outcome("success", b"", "text/plain", 1, 0.0)
    made = result(Properties(message_id="m"), outcome, worker_type="w", host="h", ttl_s=0.0)
    assert made.headers is not None and "error_type" not in made.headers
    assert made.correlation_id == "m"
    assert made.expiration == "1", "0 would drop it at once"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("é", ("text/plain", "é".encode())),
        (b"\0", ("application/octet-stream", b"\0")),
        (bytearray(b"a"), ("application/octet-stream", b"a")),
        (memoryview(b"a"), ("application/octet-stream", b"a")),
        (None, ("application/json", b"null")),
        ({"a": [1, 2.5, True, None]}, ("application/json", b'{"a": [1, 2.5, true, null]}')),
        ((1, 2), ("application/json", b"[1, 2]")),
    ],
)
def test_encode_result(value: object, expected: tuple[str, bytes]) -> None:
    assert encode_result(value) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), {"a": b""}, {(1,): 2}, "\ud800"])
def test_what_json_cannot_hold_is_an_error_not_a_wrong_result(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_result(value)


RUOTE = {"fields": {"params": {"worker_type": "w"}, "x": [1]}, "wfid": "20260101-a"}


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", None, ""])
def test_a_ruote_workflow_gets_its_workitem_back(content_type: str | None) -> None:
    body = error_body(json.dumps(RUOTE).encode(), content_type, "bad", "trace")
    assert json.loads(body) == {**RUOTE, "error": "bad", "trace": "trace"}


@pytest.mark.parametrize(
    ("body", "content_type", "workitem"),
    [
        (b"some text", "text/plain", "some text"),
        (b"some text", None, "some text"),
        (b"[1, 2]", "application/json", [1, 2]),
        (b'"s"', "application/json", "s"),
        (b"{bad json", "application/json", "{bad json"),
        (b'{"a": NaN}', "application/json", '{"a": NaN}'),
        (b"{bad json", None, "{bad json"),
        (b'{"a": 1}', "text/plain", '{"a": 1}'),
        (b"\x00\xff", "application/octet-stream", "\x00\\xff"),
        (b"\xff\xfe", "application/json", "\\xff\\xfe"),
        (b"x", "application/json; charset=no-such", "x"),
        (b"", None, ""),
    ],
)
def test_other_workitems_come_back_beside_the_error(body: bytes, content_type: str | None, workitem: Any) -> None:
    assert json.loads(error_body(body, content_type, "bad", "t")) == {
        "error": "bad",
        "trace": "t",
        "workitem": workitem,
    }


@given(body=st.binary(max_size=100), content_type=st.none() | st.sampled_from(["application/json", "text/plain"]))
def test_an_error_body_can_be_made_of_anything(body: bytes, content_type: str | None) -> None:
    assert json.loads(error_body(body, content_type, "e", "t"))["error"] == "e"


@settings(max_examples=300, deadline=None)
@given(body=BODIES, content_type=st.none() | st.sampled_from(["application/json", "text/plain; charset=utf-7"]))
def test_an_error_body_is_json_also_for_what_is_hostile(body: bytes, content_type: str | None) -> None:
    assert json.loads(error_body(body, content_type, "e", "t"), parse_constant=pytest.fail)["trace"] == "t"


@pytest.mark.parametrize("depth", [10, 400, 900, *range(950, 1000), 2000])
@pytest.mark.parametrize("shape", [b"[%s]", b'{"a": %s}'])
def test_an_error_body_of_json_however_deep(depth: int, shape: bytes) -> None:
    """What can be parsed cannot always be written again: the result is then the body as text."""
    body = shape % (b"[" * depth + b"]" * depth)
    assert b'"error": "e"' in error_body(body, "application/json", "e", "t")


def test_an_error_body_of_a_number_that_json_does_not_have() -> None:
    body = json.loads(error_body(b'{"n": 1e999}', "application/json", "e", "t"))
    assert body == {"error": "e", "trace": "t", "workitem": '{"n": 1e999}'}


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
