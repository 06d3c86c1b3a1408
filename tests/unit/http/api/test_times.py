"""Times and durations: what is written, and what is read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.http.api.times import (
    LAST_MS,
    BadTime,
    in_units,
    read_duration,
    read_seconds,
    read_time,
    read_unix_or_time,
    rfc3339,
)


@given(st.integers(0, LAST_MS))
def test_a_time_is_read_as_it_was_written(ms: int) -> None:
    assert read_time(rfc3339(ms)) == ms
    assert len(rfc3339(ms)) == 24


@given(st.integers(86_400_000, LAST_MS - 86_400_000), st.integers(-1439, 1439))
def test_an_offset_is_taken_off(ms: int, minutes: int) -> None:
    local = rfc3339(ms + minutes * 60_000)[:-1]
    assert read_time(f"{local}{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}") == ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00.5z", 500),
        ("1970-01-01 00:00:00.0019-00:00", 1),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2017-01-01T00:59:60.5+01:00", 1_483_228_800_500),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_a_time_is_read(text: str, ms: int) -> None:
    assert read_time(text) == ms


NO_TIME = "must be a time such as "
NOT_THERE = "is a time that does not exist"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("2026-02-29T00:00:00Z", NOT_THERE),
        ("2026-01-01T24:00:00Z", NOT_THERE),
        ("2026-13-01T00:00:00Z", NOT_THERE),
        ("0000-01-01T00:00:00Z", NOT_THERE),
        ("2026-01-01T12:00:60Z", NOT_THERE),
        ("2026-01-01T00:00:00", "must end with Z or an offset"),
        ("2026-01-01T00:00:00+24:00", "has an offset that does not exist"),
        ("2026-01-01", NO_TIME),
        ("2026-01-01T00:00Z", NO_TIME),
        ("2026-01-01T00:00:00Z\n", NO_TIME),
        ("\u0662026-01-01T00:00:00Z", NO_TIME),
        ("tomorrow", NO_TIME),
        (5, NO_TIME),
        (None, NO_TIME),
        ([], NO_TIME),
    ],
)
def test_what_is_no_time_is_told(value: Any, says: str) -> None:
    with pytest.raises(BadTime, match=f"^{says}"):
        read_time(value)


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (1_700_000_000, 1_700_000_000_000),
        (1_700_000_000.25, 1_700_000_000_250),
        ("1700000000.25", 1_700_000_000_250),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        (-5, -5000),
        (0.1, 100),
    ],
)
def test_miyamotos_eta(value: Any, ms: int) -> None:
    assert read_unix_or_time(value) == ms


@pytest.mark.parametrize("value", ["soon", True, [], float("nan"), float("inf"), 1e300, "1e3", "253402300800", ""])
def test_what_is_no_eta_is_told(value: Any) -> None:
    with pytest.raises(BadTime):
        read_unix_or_time(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(5, 5), (0, 0), (1.5, 1.5), ("5s", 5), ("2m", 120), ("1h", 3600), ("100ms", 0.1), ("3d", 259_200), ("1.5h", 5400)],
)
def test_a_duration_is_read(value: Any, seconds: float) -> None:
    assert read_duration(value, 1e6) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "value",
    [
        -1,
        "5",
        "5 weeks",
        "-5s",
        "s",
        "",
        "1e3s",
        "5S",
        True,
        None,
        {},
        float("nan"),
        float("inf"),
        "\u0665s",
        "5s\n",
        10**400,
    ],
)
def test_what_is_no_duration_is_told(value: Any) -> None:
    with pytest.raises(BadTime):
        read_duration(value, 1e6)


def test_bounds_are_told_in_units() -> None:
    with pytest.raises(BadTime, match=r"^must be from 100ms to 31d: '32d'$"):
        read_duration("32d", 31 * 86_400, 0.1)
    assert [in_units(each) for each in (0, 0.1, 5, 5400, 7200, 86_400, 1.5)] == [
        "0s", "100ms", "5s", "90m", "2h", "1d", "1.5s",
    ]  # fmt: skip


@pytest.mark.parametrize(("value", "seconds"), [("5", 5), (5, 5), ("1.5", 1.5), (0, 0)])
def test_miyamotos_countdown(value: Any, seconds: float) -> None:
    assert read_seconds(value, 60) == seconds


@pytest.mark.parametrize("value", ["5m", -1, 61, 10**400, "", None, float("nan"), True])
def test_what_is_no_countdown_is_told(value: Any) -> None:
    with pytest.raises(BadTime, match=r"^must be a number of seconds from 0 to 60"):
        read_seconds(value, 60)
