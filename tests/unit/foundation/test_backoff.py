"""Delay mathematics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.amqp.patience import patience_s
from taskqueue.foundation.backoff import Backoff, delay_s


@pytest.mark.parametrize(("tries", "expected"), [(-1, 0.0), (0, 0.0), (1, 2.0), (2, 4.0), (5, 32.0), (6, 60.0)])
def test_doubles_up_to_the_longest(tries: int, expected: float) -> None:
    assert delay_s(tries, first_s=2.0, longest_s=60.0, jitter=lambda: 0.0) == expected


def test_jitter_takes_off_a_quarter_and_never_adds() -> None:
    assert delay_s(3, first_s=1.0, longest_s=60.0, jitter=lambda: 1.0) == 3.0
    assert delay_s(3, first_s=1.0, longest_s=60.0, jitter=lambda: 0.5) == 3.5


@given(tries=st.integers(1, 10**9), first=st.floats(0.001, 3600), longest=st.floats(0.001, 86_400 * 365))
def test_never_above_the_longest_and_never_an_overflow(tries: int, first: float, longest: float) -> None:
    assert 0 < delay_s(tries, first_s=first, longest_s=longest) <= longest


def test_patience_is_short_for_an_election_and_long_for_a_slow_broker() -> None:
    assert [patience_s(tries) for tries in range(7)] == [1, 1, 1, 1, 1, 10, 10]


def test_default_jitter_spreads() -> None:
    assert len({delay_s(4, first_s=1.0, longest_s=60.0) for _ in range(20)}) > 1


def test_counts_and_resets() -> None:
    backoff = Backoff(1.0, 5.0, jitter=lambda: 0.0)
    assert [backoff.next_s() for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
    backoff.reset()
    assert backoff.next_s() == 1.0
