"""States change through one gate, by tables that have no dead ends but the last state."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest

from taskqueue.errors import IllegalMove, TaskqueueError
from taskqueue.foundation.lifecycle import Lifecycle
from taskqueue.listener.states import RUN_MOVES, RunState
from taskqueue.pool.states import GENERATION_MOVES, GROUP_MOVES, GenerationState, GroupState

TABLES: list[tuple[Mapping[Any, frozenset[Any]], Enum, Enum]] = [
    (GROUP_MOVES, GroupState.STARTING, GroupState.STOPPED),
    (GENERATION_MOVES, GenerationState.STARTING, GenerationState.GONE),
    (RUN_MOVES, RunState.WAITING, RunState.SETTLED),
]


@pytest.mark.parametrize(("moves", "first", "last"), TABLES)
def test_every_pair_of_states_moves_as_the_table_says(
    moves: Mapping[Any, frozenset[Any]], first: Enum, last: Enum
) -> None:
    for state in type(first):
        for to in type(first):
            life = Lifecycle(state, moves)
            assert life.can(to) is (to in moves[state])
            if to in moves[state]:
                life.move(to)
                assert life.state is to
            else:
                with pytest.raises(IllegalMove, match=f"{state.value} -> {to.value}"):
                    life.move(to)
                assert life.state is state, "an illegal move changes nothing"


@pytest.mark.parametrize(("moves", "first", "last"), TABLES)
def test_every_state_is_reached_from_the_first_and_leads_to_the_last(
    moves: Mapping[Any, frozenset[Any]], first: Enum, last: Enum
) -> None:
    def closure(start: Enum) -> set[Enum]:
        found, left = {start}, [start]
        while left:
            for to in moves[left.pop()] - found:
                found.add(to)
                left.append(to)
        return found

    assert moves.keys() == set(type(first))
    assert closure(first) == set(type(first))
    assert all(last in closure(state) for state in type(first))
    assert not moves[last]


def test_settled_only_after_publishing() -> None:
    assert [state for state in RunState if RunState.SETTLED in RUN_MOVES[state]] == [RunState.PUBLISHING]


def test_an_illegal_move_is_one_of_our_errors() -> None:
    assert issubclass(IllegalMove, TaskqueueError)
