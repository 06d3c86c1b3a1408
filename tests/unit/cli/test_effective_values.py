"""What `taskqueue config` writes is read back as the same value; what is secret is not written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.cli.terminal import effective_values
from taskqueue.config.load import load
from taskqueue.config.sections import EffectiveValue
from taskqueue.config.values import duration, size

DURATIONS_MS = st.integers(0, 365 * 86_400_000)


def text(kind: str, value: object, key: str = "k") -> str:
    return effective_values._text(EffectiveValue(key, kind, value, ""))


@given(DURATIONS_MS)
def test_a_duration_is_read_back(milliseconds: int) -> None:
    written = text("duration", milliseconds / 1000)
    assert duration(written, "0", "365d") == pytest.approx(milliseconds / 1000, abs=1e-6)


@given(st.integers(1, 1 << 44))
def test_a_size_is_read_back(count: int) -> None:
    assert size(text("size", count), "1", "16384G") == count


def test_the_defaults_are_written_as_the_configspec_has_them() -> None:
    defaults = load(text="", environ={}).effective_of_group("DEFAULT")
    written = {f"{each.key}: {text(each.kind, each.value, each.key)}" for each in defaults}
    assert {"retry_max_delay: 1h", "retry_delay: 1s", "time_limit: none", "prefetch: auto", "preload: yes"} <= written
    assert {each.origin for each in defaults} == {""}


@pytest.mark.parametrize(
    ("key", "kind", "value", "shown"),
    [
        ("passwd", "text", "guest", "********"),
        ("db_password", "", "x", "********"),
        ("API_KEY", "", ["x", "y"], "********"),
        ("smtp_secret", "", "x", "********"),
        ("passes", "", "3", "3"),
        ("monkey", "", "3", "3"),
        ("dsn", "", "postgres://u:p%40q@h/db?x=1", "postgres://u:********@h/db?x=1"),
        ("urls", "", ["http://h/", "ftp://u:p@h"], "http://h/, ftp://u:********@h"),
        ("size", "", "3", "3"),
    ],
)
def test_what_is_secret(key: str, kind: str, value: object, shown: str) -> None:
    assert text(kind, value, key) == shown
    (row,) = effective_values.as_json([("s", EffectiveValue(key, kind, value, ""))])
    assert "p%40q" not in str(row) and "x" not in str(row["value"]).replace("x=1", "")
