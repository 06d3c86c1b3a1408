"""A state machine: one state, a table of the legal moves, and one function that every move goes through.

The states are an enum: `pool/states.py` has those of groups and generations, `listener/states.py` those of a run.
Example: `life = Lifecycle(GroupState.STARTING, GROUP_MOVES)`, then `life.move(GroupState.RUNNING)`;
a move that the table does not have raises `IllegalMove`. It must never know a clock or a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

from taskqueue.errors import IllegalMove

S = TypeVar("S", bound=Enum)


class Lifecycle(Generic[S]):
    """One state, and the only function that changes it."""

    __slots__ = ("_moves", "state")

    def __init__(self, first: S, moves: Mapping[S, frozenset[S]]) -> None:
        self.state = first
        self._moves = moves

    def move(self, to: S) -> None:
        """Change to `to`; raises `IllegalMove` where the table has no such move."""
        if to not in self._moves[self.state]:
            raise IllegalMove(f"{type(to).__name__}: {self.state.value} -> {to.value}")
        self.state = to

    def can(self, to: S) -> bool:
        """Whether `move(to)` is legal now."""
        return to in self._moves[self.state]
