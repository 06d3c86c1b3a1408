"""How many hand-outs may be under way."""

from __future__ import annotations

from taskqueue.http.delivery.windows import Window


def test_it_is_small_until_somebody_has_reported_and_then_twice_the_slots() -> None:
    window = Window()
    assert window.size == 32
    window.heard("a", 200, 0.0)
    assert window.size == 400
    window.heard("b", 200, 1.0)
    assert window.size == 800


def test_a_host_that_is_silent_counts_no_more() -> None:
    window = Window()
    window.heard("a", 200, 0.0)
    window.heard("b", 10, 91.0)
    assert window.size == 20


def test_what_comes_back_late_halves_it_once_and_outcomes_let_it_grow() -> None:
    window = Window()
    window.heard("a", 200, 0.0)
    for _ in range(50):
        window.late(10.0)
    assert window.size == 200
    for _ in range(30):
        window.heard("a", 200, 11.0)
    assert window.size == 230


def test_one_slot_is_never_taken_away() -> None:
    window = Window()
    for second in range(20):
        window.late(float(second * 2))
    assert window.size == 1
    window.heard("a", 0, 50.0)
    assert window.size == 1
