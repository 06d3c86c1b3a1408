"""A worker that cannot be forked leaves nothing behind. (Forked ones: tests/system/pool.)"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from descriptors import descriptors
from taskqueue.config.settings import GroupSettings
from taskqueue.foundation.loop import Loop
from taskqueue.host import kernel
from taskqueue.link.packets import Link
from taskqueue.worker.processes import Processes

GROUP = GroupSettings(
    worker_type="w", instance=None, workers=1, user=None, results_routing_key="results", report_results=True,
    max_retries=0, retry_delay_s=1.0, retry_max_delay_s=60.0, max_crashes=3, soft_time_limit_s=None, time_limit_s=None,
    max_tasks=None, max_memory_bytes=1 << 20, prefetch=None, concurrency=1, preload=True, own={},
)  # fmt: skip


def refuse(*arguments: Any) -> NoReturn:
    raise OSError(errno.EAGAIN, "Resource temporarily unavailable")


def never(link: Link) -> int:
    raise AssertionError("a worker was forked")


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop; the limit of descriptors is as before."""
    made, soft = Loop(), kernel.raise_descriptor_limit()
    yield made
    made.close()
    kernel.limit_descriptors(soft)


def second_call(of: Callable[..., Any]) -> Callable[..., Any]:
    calls: list[object] = []

    def call(*arguments: Any) -> Any:
        calls.append(arguments)
        return refuse() if len(calls) == 2 else of(*arguments)

    return call


@pytest.mark.parametrize(
    ("refused", "reason", "removed"),
    [("fork", errno.EAGAIN, ["worker-1"]), ("pipe2", errno.EAGAIN, []), ("cgroup", errno.ENOENT, [])],
)
def test_a_worker_that_cannot_be_forked_leaves_nothing(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str, reason: int, removed: list[str]
) -> None:
    group = tmp_path if refused != "cgroup" else tmp_path / "missing"
    gone: list[str] = []
    monkeypatch.setattr(
        "taskqueue.host.cgroup.remove", lambda path: gone.append(path.name)
    )  # a directory of files is no cgroup
    monkeypatch.setattr(os, "fork", refuse)
    if refused == "pipe2":
        monkeypatch.setattr(os, "pipe2", second_call(os.pipe2))
    processes = Processes(loop, GROUP, never, group, ())
    before = descriptors()
    with pytest.raises(OSError) as caught:
        processes.fork()
    assert (caught.value.errno, gone) == (reason, removed)
    assert descriptors() == before
    assert not processes._living
