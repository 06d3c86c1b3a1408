"""The status document as its readers see it, and what they hear where there is none."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from taskqueue.errors import PoolUnavailable
from taskqueue.status import document

WORKER = {"pid": 7, "state": "running", "since": 3.0, "tasks": [{"id": "m", "attempt": 2, "since": 4.0}]}
SILENT = {"state": "starting", "since": 1.0, "pids": {"template": 5}, "max_memory_by": None}
HEARD = {
    **SILENT, "state": "ready", "broker": {"connected": True, "blocked": False, "trouble": None}, "consuming": True,
    "prefetch": 3, "waiting": 1, "counts": {"succeeded": 9}, "workers": [WORKER], "of_a_later_version": 1,
}  # fmt: skip
GROUP = {
    "name": "w/a", "worker_type": "w", "instance": "a", "state": "running", "since": 1.0, "workers_wanted": 1,
    "user": None, "plugin": {"distribution": "d"}, "restarts": 0, "last_error": None, "next_try_at": None,
    "generations": [HEARD, SILENT],
}  # fmt: skip
POOL: dict[str, Any] = {
    "version": "1", "host": "h", "pid": 1, "state": "running", "since": 1.0, "now": 9.0, "groups": [GROUP],
}  # fmt: skip


def served(path: Path, answer: bytes) -> document.Pool:
    """What `read` makes of `answer`."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return document.read(path)
        finally:
            thread.join()


def test_read(tmp_path: Path) -> None:
    pool = served(tmp_path / "s", json.dumps(POOL).encode())
    assert pool == document.parse(POOL) and pool.document == POOL
    (group,) = pool.groups
    heard, silent = group.generations
    assert (heard.connected, heard.prefetch, heard.waiting, heard.counts) == (True, 3, 1, {"succeeded": 9})
    assert (silent.connected, silent.prefetch, silent.counts, silent.workers) == (None, None, {}, ())
    assert group.workers == (document.Worker(7, "running", 3.0, (document.Task("m", 2, 4.0),)),)


@pytest.mark.parametrize(
    "answer", [b"", b"hello", b"[]", b"7", b"{}", json.dumps({**POOL, "groups": [{}]}).encode(), b'{"version":']
)
def test_an_answer_of_something_else(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(PoolUnavailable, match="not that of a taskqueue-workerpool of this version"):
        served(tmp_path / "s", answer)


def test_no_pool(tmp_path: Path) -> None:
    with pytest.raises(PoolUnavailable, match="no taskqueue-workerpool runs on this host"):
        document.read(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    with pytest.raises(PoolUnavailable, match="no taskqueue-workerpool runs on this host"):
        document.read(tmp_path / "s")
