"""Status documents of a workerpool for tests that need no workerpool."""

from __future__ import annotations

from typing import Any

from taskqueue.status.document import Pool, parse


def worker(pid: int, *tasks: tuple[str, float], state: str = "running") -> dict[str, Any]:
    """A worker that runs `tasks`: (id, since)."""
    running = [{"id": message_id, "attempt": 1, "since": since} for message_id, since in tasks]
    return {"pid": pid, "state": state, "since": 0.0, "tasks": running}


def group(name: str, *workers: dict[str, Any], state: str = "running", **more: Any) -> dict[str, Any]:
    """A group with one generation."""
    generation = {
        "state": "serving", "since": 0.0, "pids": {}, "max_memory_by": None, "workers": list(workers),
        "waiting": more.pop("waiting", 0), "broker": more.pop("broker", {"connected": True, "blocked": False}),
    }  # fmt: skip
    worker_type, _, instance = name.partition("/")
    return {
        "name": name, "worker_type": worker_type, "instance": instance or None, "state": state, "since": 0.0,
        "workers_wanted": len(workers), "user": None, "plugin": {}, "restarts": 0, "last_error": None,
        "next_try_at": None, "generations": [generation], **more,
    }  # fmt: skip


def pool(*groups: dict[str, Any], version: str = "0.1.0", now: float = 5000.0) -> Pool:
    """A pool with these groups, at the time `now` of its own clock."""
    return parse(
        {
            "version": version, "host": "here", "pid": 7, "state": "running", "since": 0.0, "now": now,
            "groups": list(groups),
        }
    )  # fmt: skip
