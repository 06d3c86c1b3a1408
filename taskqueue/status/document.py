"""The status document that the pool of this host writes, typed: the side of those who read it, from the status socket.

Reading it changes nothing in the pool. Every time in it is Unix time in seconds.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskqueue.errors import PoolUnavailable

RUNTIME_DIR = Path("/run/taskqueue")
"""Where the daemons of a host have their pid files and sockets."""
SOCKET = RUNTIME_DIR / "workerpool.sock"
_TIMEOUT_S = 5.0
"""Seconds that a reader waits for the document; a pool that takes longer counts as hung."""


@dataclass(frozen=True, slots=True)
class Task:
    """A workitem that a worker runs."""

    id: str
    attempt: int
    since: float


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process."""

    pid: int
    state: str
    """`idle`, `running`, `starting`, `leaving`."""
    since: float
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class Generation:
    """A listener with its template and workers; a group has several while one replaces another.

    A value that its listener has not sent yet is None or empty.
    """

    state: str
    since: float
    pids: Mapping[str, int]
    """The processes, by `listener` and `template`."""
    max_memory_by: str | None
    connected: bool | None
    blocked: bool | None
    trouble: str | None
    """Why its listener is not connected to the broker."""
    consuming: bool | None
    prefetch: int | None
    waiting: int | None
    """Workitems delivered to this host that no worker runs yet."""
    counts: Mapping[str, int]
    """`succeeded`, `failed`, `retried`, `crashed`, `restarts`."""
    workers: tuple[Worker, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A group of workers. `state` is a value of `pool.states.GroupState`."""

    name: str
    worker_type: str
    instance: str | None
    state: str
    since: float
    workers_wanted: int
    user: str | None
    plugin: Mapping[str, str]
    """`distribution`, `version`, `entry`."""
    restarts: int
    last_error: str | None
    next_try_at: float | None
    generations: tuple[Generation, ...]

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers of all its generations."""
        return tuple(worker for generation in self.generations for worker in generation.workers)


@dataclass(frozen=True, slots=True)
class Pool:
    """The workerpool. Compare the times in the document with `now`, its own clock when it answered."""

    version: str
    host: str
    pid: int
    state: str
    since: float
    now: float
    groups: tuple[Group, ...]
    document: Mapping[str, Any]
    """The document as it came."""


def read(path: Path = SOCKET) -> Pool:
    """Read the document of the workerpool at `path`; raises `PoolUnavailable`, whose text says what to do about it."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(path))  # without a timeout: with one it is EAGAIN where many are waiting
            sock.settimeout(_TIMEOUT_S)
            with sock.makefile("rb") as answer:
                return parse(json.loads(answer.read()))
    except (FileNotFoundError, ConnectionRefusedError):
        raise PoolUnavailable(f"{path}: no taskqueue-workerpool runs on this host") from None
    except PermissionError:
        raise PoolUnavailable(f"{path}: permission denied; expected root, or a member of the group taskqueue") from None
    except TimeoutError:
        raise PoolUnavailable(f"{path}: the workerpool did not answer within {_TIMEOUT_S:g} s") from None
    except OSError as error:
        raise PoolUnavailable(f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PoolUnavailable(f"{path}: the answer is not that of a taskqueue-workerpool of this version") from None


def parse(document: Mapping[str, Any]) -> Pool:
    """The typed form of `document`; raises `KeyError`, `TypeError` or `AttributeError` where it has another shape."""
    return Pool(
        **{name: document[name] for name in ("version", "host", "pid", "state", "since", "now")},
        groups=tuple(_group(each) for each in document["groups"]),
        document=document,
    )


def _group(group: Mapping[str, Any]) -> Group:
    own = {name: group[name] for name in Group.__slots__ if name != "generations"}
    return Group(**own, generations=tuple(_generation(each) for each in group["generations"]))


def _generation(generation: Mapping[str, Any]) -> Generation:
    broker = generation.get("broker", {})
    return Generation(
        state=generation["state"],
        since=generation["since"],
        pids=generation["pids"],
        max_memory_by=generation["max_memory_by"],
        connected=broker.get("connected"),
        blocked=broker.get("blocked"),
        trouble=broker.get("trouble"),
        consuming=generation.get("consuming"),
        prefetch=generation.get("prefetch"),
        waiting=generation.get("waiting"),
        counts=generation.get("counts", {}),
        workers=tuple(_worker(each) for each in generation.get("workers", ())),
    )


def _worker(worker: Mapping[str, Any]) -> Worker:
    tasks = tuple(Task(task["id"], task["attempt"], task["since"]) for task in worker["tasks"])
    return Worker(worker["pid"], worker["state"], worker["since"], tasks)
