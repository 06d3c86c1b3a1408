"""What `taskqueue config` writes is read back as the same value; what is secret is not written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.cli.terminal import values
from taskqueue.config import inifile
from taskqueue.config.load import load
from taskqueue.config.sections import Said

DURATIONS_MS = st.integers(0, 365 * 86_400_000)


def text(kind: str, value: object, key: str = "k") -> str:
    return values._text(Said(key, kind, value, ""))


@given(DURATIONS_MS)
def test_a_duration_is_read_back(milliseconds: int) -> None:
    written = text("duration", milliseconds / 1000)
    assert inifile.duration(written, "0", "365d") == pytest.approx(milliseconds / 1000, abs=1e-6)


@given(st.integers(1, 1 << 44))
def test_a_size_is_read_back(size: int) -> None:
    assert inifile.size(text("size", size), "1", "16384G") == size


def test_the_defaults_are_written_as_the_configspec_has_them(tmp_path: Path) -> None:
    settings = load(str(tmp_path / "none.ini"), environ={})
    written = {f"{each.key}: {text(each.kind, each.value, each.key)}" for each in settings.said_of_group("DEFAULT")}
    assert {"retry_max_delay: 1h", "retry_delay: 1s", "time_limit: none", "prefetch: auto", "preload: yes"} <= written
    assert {each.where for each in settings.said_of_group("DEFAULT")} == {""}


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
    (row,) = values.as_json([("s", Said(key, kind, value, ""))])
    assert "p%40q" not in str(row) and "x" not in str(row["value"]).replace("x=1", "")
