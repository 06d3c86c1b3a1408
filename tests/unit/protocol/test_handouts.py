"""A hand-out as a message: what a front writes and a listener reads, and that no client can forge one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.protocol.dead_letters import for_replay
from taskqueue.protocol.delays import off_ladder, on_ladder
from taskqueue.protocol.handouts import Handout, handout, handout_of
from taskqueue.protocol.properties import HANDOUT_HEADERS, Properties, attempts, forwarded, handed_back

UNTIL = 1_767_323_055_000
MADE = handout(
    task_id="t", number=7, until_ms=UNTIL, task_attempt=2, crashes=1, book_id="b", content_type="text/plain",
    content_encoding="gzip", headers={"mine": 1, "x-attempt": 9, "x-handout-event": "done", "x-death": []}, priority=3,
)  # fmt: skip
OWN = {"x-handout": 7, "x-handout-until": UNTIL, "x-task-attempt": 2}
READ = Handout(7, UNTIL, 2, "taskqueue_http_b")


def test_what_a_front_writes_a_listener_reads() -> None:
    made = MADE
    assert made == Properties(
        "text/plain", "gzip", {"mine": 1, **OWN, "x-crashes": 1}, 3, reply_to="taskqueue_http_b", message_id="t"
    )
    assert handout_of(MADE) == READ and attempts(MADE) == (0, 1)


@pytest.mark.parametrize("headers", [None, {}, {"x-task-attempt": 1, "x-handout-until": UNTIL}, {"worker_type": "w"}])
def test_an_ordinary_workitem_is_none(headers: dict[str, Any] | None) -> None:
    assert handout_of(MADE._replace(headers=headers)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"x-handout": 0}, {"x-handout": True}, {"x-handout": "7"}, {"x-handout": None}, {"x-handout": 2**63},
        {"x-handout-until": None}, {"x-handout-until": -1}, {"x-handout-until": 2**62}, {"x-handout-until": "1"},
    ],
)  # fmt: skip
def test_what_is_not_sensible_is_ordinary(changes: dict[str, Any]) -> None:
    assert handout_of(MADE._replace(headers={**OWN, **changes})) is None


@pytest.mark.parametrize(
    "changes", [{"message_id": None}, {"message_id": ""}, {"reply_to": None}, {"reply_to": "taskqueue_dead"}]
)
def test_a_hand_out_has_an_id_and_the_queue_of_a_book(changes: dict[str, Any]) -> None:
    assert handout_of(MADE._replace(**changes)) is None


@pytest.mark.parametrize("attempt", [None, 0, -1, "2", True, 2**40])
def test_an_attempt_that_is_not_sensible_is_the_first(attempt: object) -> None:
    assert handout_of(MADE._replace(headers={**OWN, "x-task-attempt": attempt})) == READ._replace(task_attempt=1)


@given(value=st.none() | st.integers() | st.text() | st.floats() | st.booleans() | st.binary() | st.lists(st.none()))
def test_no_header_makes_it_raise(value: object) -> None:
    for name in OWN:
        handout_of(MADE._replace(headers={**OWN, name: value}))


def test_a_dispatcher_strips_what_a_client_forges() -> None:
    forged = Properties(headers={**dict.fromkeys(HANDOUT_HEADERS, 1), "x-mine": 2}, message_id="t", reply_to="r")
    assert forwarded(forged, None).headers == {"x-mine": 2}


def test_its_copies_are_hand_outs_on_the_ladder_and_behind_it() -> None:
    copy = handed_back(MADE, 1, 4)
    assert copy.headers == {"mine": 1, **OWN, "x-attempt": 1, "x-crashes": 4} and handout_of(copy) == READ
    rung = on_ladder(copy, "worker_w", 5, 9)
    assert handout_of(rung) == READ and off_ladder(rung) == copy


def test_a_replayed_one_is_an_ordinary_workitem() -> None:
    assert for_replay(MADE).headers == {"mine": 1}
