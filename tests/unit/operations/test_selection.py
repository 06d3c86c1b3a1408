"""Which dead letters are chosen, counted and dropped."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from fake_broker import FakeBroker, letter, message
from taskqueue.operations.drop import drop
from taskqueue.operations.selection import NoSuchDeadLetter, Selection, chosen, count
from taskqueue.protocol.dead_letters import DeadLetter
from taskqueue.protocol.queues import DEAD

OLD = DeadLetter("a", "t", "failed", 1000.0, "worker_t", "h", "ValueError")
SILENT = DeadLetter(None, None, None, None, None, None, None)


def these(**conditions: Any) -> Selection:
    return Selection(**{name: frozenset(each) if isinstance(each, set) else each for name, each in conditions.items()})


@pytest.mark.parametrize(
    ("selection", "takes_old", "takes_silent"),
    [
        (these(), True, True),
        (these(ids={"a", "x"}), True, False),
        (these(ids={"x"}), False, False),
        (these(types={"t", "u"}), True, False),
        (these(types={"u"}), False, False),
        (these(reasons={"failed"}), True, False),
        (these(reasons={"crashed"}), False, False),
        (these(died_before=1000.0), True, False),
        (these(died_before=999.9), False, False),
        (these(died_after=1000.0), True, False),
        (these(died_after=1000.1), False, False),
        (these(ids={"a"}, types={"t"}, reasons={"failed"}, died_before=1001.0, died_after=999.0), True, False),
        (these(ids={"a"}, types={"u"}), False, False),
    ],
)
def test_a_letter_fits_every_condition(selection: Selection, takes_old: bool, takes_silent: bool) -> None:
    assert (selection.takes(OLD), selection.takes(SILENT)) == (takes_old, takes_silent)
    assert selection.is_open == takes_silent, "only without a condition a letter fits that says nothing"


@pytest.fixture
def broker() -> FakeBroker:
    broker = FakeBroker()
    broker.queue(DEAD, letter("a"), letter("b", "worker_u"), letter("c"), message(None))
    return broker


def test_chosen_takes_nothing_and_closes_its_reading(broker: FakeBroker) -> None:
    with closing(chosen(broker, these(types={"t"}))) as found:
        assert next(found)[1].message_id == "a"
        assert not broker.readings[0].closed
    assert broker.readings[0].closed
    assert broker.queues[DEAD].ids == ["a", "b", "c", None]


def test_count(broker: FakeBroker) -> None:
    assert count(FakeBroker(), these()) == 0
    assert count(broker, these()) == 4 and not broker.readings, "all of them: the broker has counted"
    assert count(broker, these(types={"t"})) == 2


@pytest.mark.parametrize(
    ("selection", "limit", "dropped", "left"),
    [
        (these(), 9, ["a", "b", "c", None], []),
        (these(), 2, ["a", "b"], ["c", None]),
        (these(), 0, [], ["a", "b", "c", None]),
        (these(types={"t"}), 9, ["a", "c"], ["b", None]),
    ],
)
def test_drop_up_to_a_limit(
    broker: FakeBroker, selection: Selection, limit: int, dropped: list[str], left: list[str]
) -> None:
    assert [each.message_id for each in drop(broker, selection, limit)] == dropped
    assert broker.queues[DEAD].ids == left and all(reading.closed for reading in broker.readings)


def test_drop_stops_between_two_letters(broker: FakeBroker) -> None:
    gone: list[str | None] = []
    for each in drop(broker, these(), 9, stop=lambda: len(gone) == 2):
        gone.append(each.message_id)
    assert (gone, broker.queues[DEAD].ids) == (["a", "b"], ["c", None])


def test_a_letter_whose_ack_was_lost_is_not_reported(broker: FakeBroker) -> None:
    letters = drop(broker, these(), 9)
    assert next(letters).message_id == "a"
    broker.queues[DEAD].deliveries = broker.queues[DEAD].deliveries[1:]  # the connection is cut: `b` went back
    assert next(letters).message_id == "c"


def test_missing_ids_are_named() -> None:
    assert str(NoSuchDeadLetter({"y", "x"})) == "no such dead letter: x, y"
