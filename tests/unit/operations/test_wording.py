"""How times and errors are worded."""

from __future__ import annotations

import pytest

from taskqueue.operations.wording import last_line, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0s"), (0.04, "0.0s"), (9.94, "9.9s"), (10, "10s"), (59, "59s"), (60, "1m 0s"), (310, "5m 10s"),
        (3600, "1h 0m"), (7380, "2h 3m"), (86_400, "1d 0h"), (349_200, "4d 1h"),
    ],
)  # fmt: skip
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("text", "width", "line"),
    [
        ("", None, ""),
        ("Traceback:\n  x\nValueError: no\n\n", None, "ValueError: no"),
        ("one line", 8, "one line"),
        ("one line", 7, "one li…"),
    ],
)
def test_last_line(text: str, width: int | None, line: str) -> None:
    assert last_line(text, width) == line
