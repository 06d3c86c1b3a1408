"""What `taskqueue why` tells of a task."""

from __future__ import annotations

from typing import Any

import pytest

from taskqueue.operations.find_task import is_task_id, story

TASK: dict[str, Any] = {
    "state": "ready", "reason": None, "attempts": 0, "last": None, "ended_at": None, "waits_for": None,
}  # fmt: skip
LAST = {"outcome": "answered", "status": 503, "error": None}


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"waits_for": "queue q is paused"}, "waits for: queue q is paused"),
        ({"state": "running"}, "attempt 1 is handed out"),
        (
            {"state": "running", "attempts": 2, "last": LAST},
            "attempt 3 is handed out; tried 2 times, at last answered 503",
        ),
        ({"attempts": 1}, "it waits; tried once"),
    ],
)  # fmt: skip
def test_the_story_of_one_that_has_not_ended(more: dict[str, Any], line: str) -> None:
    assert story({**TASK, **more}) == line


def test_the_story_of_one_that_has_ended() -> None:
    ended = {**TASK, "state": "dead", "ended_at": "2026-01-01T00:00:00.000Z", "attempts": 3, "last": LAST}
    told = story({**ended, "reason": "failed"})
    assert told.startswith("ended 20") and told.endswith(
        ": its attempts are used up; tried 3 times, at last answered 503"
    )
    assert ": strange; tried" in story({**ended, "reason": "strange"})
    assert "ago); tried" in story(ended)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("01981a2b-0000-7000-8000-000000000001", True),
        ("01981A2B-0000-7000-8000-000000000001", True),
        ("01981a2b-0000-4000-8000-000000000001", False),
        ("done", False),
        ("01981a2b-0000-7000-8000-000000000001/x", False),
    ],
)
def test_only_what_a_front_gave_is_looked_for_there(text: str, expected: bool) -> None:
    assert is_task_id(text) is expected
