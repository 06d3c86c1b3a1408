"""Fairness between origins."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from taskqueue.webhook.slots import Slots


@pytest.mark.parametrize(("slots", "most"), [(1, 1), (2, 1), (4, 3), (8, 6), (200, 150)])
def test_one_origin_leaves_a_quarter_to_others(slots: int, most: int) -> None:
    kept, room = Slots(slots), 0
    with ExitStack() as stack:
        while kept.has_room("a"):
            stack.enter_context(kept.taken("a"))
            room += 1
        assert room == most
        assert kept.has_room("b"), "others have theirs"
    assert kept.has_room("a"), "what has ended is free again"


def test_an_origin_below_its_quarter_runs_whatever_is_free() -> None:
    kept = Slots(8)
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(kept.taken("a"))
        stack.enter_context(kept.taken("b"))
        assert kept.has_room("b") and not kept.has_room("a")
        stack.enter_context(kept.taken("b"))
        assert not kept.has_room("b")
