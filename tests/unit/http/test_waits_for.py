"""What a task is said to wait for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from taskqueue.config.http_settings import QueueSettings
from taskqueue.http.book.holding import BEFORE_LIMIT, Holding
from taskqueue.http.states import TaskState
from taskqueue.http.task import Task
from taskqueue.http.waits_for import waits_for

QUEUE = QueueSettings("q", rate_limit=1.0, concurrency=2)
FREE = Holding(1000, False, None, 0, 0, "http://o:80", None, 0, 0)
TASK = Task(
    "i", "q", None, TaskState.READY, None, "http://o/", None, "POST", (), 0, 0, None, 0, 0, 1000, None, None,
)  # fmt: skip
FRONT: dict[str, Any] = {"broker": None, "served": True, "window": 8}


@pytest.mark.parametrize(
    ("task", "found", "front", "line"),
    [
        ({}, {}, {}, "nothing: it is about to be handed out"),
        ({"state": TaskState.SCHEDULED, "next_attempt_ms": 2000}, {}, {}, "not due until 1970-01-01T00:00:02.000Z"),
        (
            {"state": TaskState.RETRYING, "next_attempt_ms": 2000, "attempts": 2}, {"paused": True}, {},
            "attempt 3 is not due until 1970-01-01T00:00:02.000Z; queue q is paused",
        ),
        ({}, {"paused": True}, {"broker": "refused"}, "queue q is paused; the front has no broker: refused"),
        ({}, {"paused": True}, {"served": False}, "queue q is paused"),
        ({}, {}, {"served": False}, "no worker of type webhook consumes"),
        ({"worker_type": "report"}, {}, {"served": False}, "no worker of type report consumes"),
        ({}, {}, {"served": None}, "nothing: it is about to be handed out"),
        ({}, {"token_ms": 3000}, {}, "rate limit 1/s of queue q: the next one may start at 1970-01-01T00:00:03.000Z"),
        ({}, {"running": 2}, {}, "concurrency 2 of queue q: 2 run"),
        ({}, {"running_of_type": 8}, {}, "workers of type webhook are busy: 8 attempts are under way"),
        ({}, {"before": 3}, {}, "its turn: 3 tasks of queue q are due before it"),
        ({}, {"before": BEFORE_LIMIT}, {}, "its turn: 1000 or more tasks of queue q are due before it"),
        (
            {"next_attempt_ms": 9000}, {"rests_until_ms": 9000, "failures": 10}, {},
            "origin http://o:80 rests until 1970-01-01T00:00:09.000Z after 10 failures in a row",
        ),
        ({}, {"rests_until_ms": 9000}, {}, "origin http://o:80 rests until 1970-01-01T00:00:09.000Z, as it asked"),
    ],
)  # fmt: skip
def test_one_that_waits(task: dict[str, Any], found: dict[str, Any], front: dict[str, Any], line: str) -> None:
    assert waits_for(replace(TASK, **task), QUEUE, replace(FREE, **found), **{**FRONT, **front}) == line


@pytest.mark.parametrize("state", [each for each in TaskState if each not in {"scheduled", "ready", "retrying"}])
def test_one_that_does_not_wait(state: TaskState) -> None:
    assert waits_for(replace(TASK, state=state), QUEUE, None, **FRONT) is None


def test_one_that_runs_and_was_cancelled() -> None:
    task = replace(TASK, state=TaskState.RUNNING, cancel_requested=True)
    assert waits_for(task, QUEUE, None, **FRONT) == "the end of its attempt: it was cancelled, and is not tried again"
