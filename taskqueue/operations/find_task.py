"""Finds one task of a front by its id, for `taskqueue why`, and tells its story in a line.

    find_task(front, "01981a2b-…")     {"state": "ready", "waits_for": "queue emails is paused", …}
    story(task)                        "waits for: queue emails is paused; tried 2 times, at last answered 503"

Not every id is a task's: a workitem that a client published has none, and then no front is asked.
"""

from __future__ import annotations

import re
from typing import Any

from taskqueue.errors import FrontRefused
from taskqueue.operations.front import Front, part
from taskqueue.operations.wording import local

_TASK_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
_NOT_FOUND = 404
_WHY = {
    "failed": "its attempts are used up",
    "gone": "the target wants no other attempt",
    "crashed": "its worker crashed too often",
    "rejected": "its worker rejected it",
    "timeout": "its worker took too long",
    "expired": "it was not begun in time",
    "max-task-age": "it waited longer than max_task_age",
    "cancelled": "somebody cancelled it",
}
"""What the reason of an end means."""


def is_task_id(text: str) -> bool:
    """Whether a front may have given this id: a UUIDv7."""
    return _TASK_ID.fullmatch(text) is not None


def find_task(front: Front, task_id: str) -> dict[str, Any] | None:
    """The task's document; None where the front has none of that id. Raises `FrontUnavailable` and `FrontRefused`."""
    try:
        task: dict[str, Any] = front.get(f"/v1/tasks/{part(task_id.lower())}")
    except FrontRefused as error:
        if error.status == _NOT_FOUND:
            return None
        raise
    return task


def story(task: dict[str, Any]) -> str:
    """What became of a task so far, or what it waits for."""
    parts = []
    if task.get("waits_for"):
        parts.append(f"waits for: {task['waits_for']}")
    elif task["ended_at"]:
        reason = _WHY.get(task["reason"], task["reason"])
        parts.append(f"ended {local(task['ended_at'])}" + (f": {reason}" if reason else ""))
    elif task["state"] == "running":
        parts.append(f"attempt {task['attempts'] + 1} is handed out")
    else:
        parts.append("it waits")
    if task["attempts"]:
        times = "once" if task["attempts"] == 1 else f"{task['attempts']} times"
        parts.append(f"tried {times}" + _last(task["last"]))
    return "; ".join(parts)


def _last(last: dict[str, Any] | None) -> str:
    if last is None:
        return ""
    told = " ".join(str(last[key]) for key in ("outcome", "status", "error") if last.get(key) is not None)
    return f", at last {told}"
