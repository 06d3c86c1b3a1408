"""The files of a cgroup, in an ordinary directory: what is written where, and what is removed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from taskqueue.host import cgroup


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process's cgroup, with the memory controller, delegated."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    monkeypatch.setattr(cgroup, "_own", lambda: tmp_path)
    monkeypatch.setattr(cgroup, "_is_delegated", lambda path: True)
    return tmp_path


def test_the_pool_moves_out_of_the_way(own: Path) -> None:
    assert cgroup.claim() == own
    assert (own / "pool" / "cgroup.procs").read_text() == "0"
    assert (own / "cgroup.subtree_control").read_text() == "+memory"


def test_only_generations_of_dead_pools_are_removed(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(cgroup, "remove", lambda path: removed.append(path.name))
    for name in (f"group-w-{os.getpid()}-1", "group-w-999999999-1", "group-a-b-999999999-2", "session.scope"):
        (own / name).mkdir()
    cgroup.claim()
    assert sorted(removed) == ["group-a-b-999999999-2", "group-w-999999999-1"]
    assert (own / "group-w-999999999-1" / "cgroup.kill").read_text() == "1"


@pytest.mark.parametrize(
    ("controllers", "delegated", "number"), [("cpu pids", True, errno.ENOTSUP), ("memory", False, errno.EPERM)]
)
def test_where_the_host_gives_none(
    own: Path, monkeypatch: pytest.MonkeyPatch, controllers: str, delegated: bool, number: int
) -> None:
    (own / "cgroup.controllers").write_text(controllers)
    monkeypatch.setattr(cgroup, "_is_delegated", lambda path: delegated)
    monkeypatch.setattr(cgroup.Path, "exists", lambda path: True)  # /run/systemd/system
    with pytest.raises(OSError) as raised:
        cgroup.claim()
    assert raised.value.errno == number and not (own / "pool").is_dir()


def test_a_kernel_that_refuses_finds_the_pool_where_it_was(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[Path] = []

    def enter(path: Path, pid: int = 0) -> None:
        entered.append(path)
        if len(entered) == 1:
            raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(cgroup, "enter", enter)
    with pytest.raises(OSError, match="busy"):
        cgroup.claim()
    assert entered == [own / "pool", own] and not (own / "pool").exists()


def test_a_generation_and_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners: dict[str, int] = {}
    monkeypatch.setattr(os, "chown", lambda path, uid, gid: owners.update({Path(path).name: uid}))
    group = cgroup.make_group(tmp_path, "worker2/bifh1", 1001)
    assert group.name.startswith(f"group-worker2:bifh1-{os.getpid()}-")
    assert cgroup.make_group(tmp_path, "worker2/bifh1", 1001) != group
    assert owners.keys() - {group.name} > {"cgroup.procs", "cgroup.subtree_control"} and set(owners.values()) == {1001}
    cgroup.enter_template(group, 4711)
    assert (group / "template" / "cgroup.procs").read_text() == "4711"
    worker = cgroup.make_worker(group, 3, 64 << 20)
    assert {path.name: path.read_text() for path in worker.iterdir()} == {
        "memory.max": str(64 << 20), "memory.oom.group": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("events", "killed"), [("low 0\noom 1\noom_kill 0\n", False), ("oom 1\noom_kill 2\n", True), (None, False)]
)
def test_out_of_memory(tmp_path: Path, events: str | None, killed: bool) -> None:
    if events is not None:
        (tmp_path / "memory.events").write_text(events)
    assert cgroup.ran_out_of_memory(tmp_path) is killed


def test_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "group" / "worker-1").mkdir(parents=True)
    busy = {tmp_path / "group"}
    rmdir = Path.rmdir

    def refuse(path: Path) -> None:
        if path in busy:
            raise OSError(errno.EBUSY, "Device or resource busy")
        rmdir(path)

    monkeypatch.setattr(Path, "rmdir", refuse)
    assert cgroup.remove(tmp_path / "group") is False, "a process in it has not quite died"
    busy.clear()
    assert cgroup.remove(tmp_path / "group") is True and not (tmp_path / "group").exists()
    assert cgroup.remove(tmp_path / "group") is True, "it is gone already"
