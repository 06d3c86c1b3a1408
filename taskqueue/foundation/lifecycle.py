"""The states of a group, of one generation of its processes, and of a workitem in a listener.

Every state is an enum and every move goes through `Lifecycle.move`, which raises on a move that the table does
not have. Pure: no clock, no processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

from taskqueue.errors import IllegalMove

S = TypeVar("S", bound=Enum)


class Lifecycle(Generic[S]):
    """One state and the only gate through which it changes."""

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
