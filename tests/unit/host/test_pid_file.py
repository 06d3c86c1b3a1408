"""The pid file: who may hold it, what is in it, what becomes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from taskqueue.errors import DaemonError
from taskqueue.host.pid_file import PidFile

HOLD = """
import sys
from pathlib import Path
from taskqueue.host.pid_file import PidFile
with PidFile(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that holds the pid file `path` until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_it_names_its_process_and_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "made" / "x.pid"
    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"
        assert path.stat().st_mode & 0o777 == 0o644
    assert not path.exists()


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "x.pid"
    with holder(path) as other:
        with pytest.raises(DaemonError, match=rf"already running: pid {other.pid} \({path}\)"):
            PidFile(path)
        assert path.read_text() == f"{other.pid}\n", "the loser has left it alone"
        assert other.stdin is not None
        other.stdin.close()
        other.wait(10)
    with PidFile(path):
        pass


@pytest.mark.parametrize("content", ["", "garbage\n", f"{os.getppid()}\n", "999999999\n", "\xff"])
def test_what_is_left_in_it_means_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.pid"
    path.write_text(content, encoding="latin-1")
    held = PidFile(path)
    assert path.read_text() == "", "nobody reads a dead daemon's number while the new one starts"
    with held:
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "x.pid"
    with holder(path) as other:
        other.kill()
        other.wait(10)
    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_file_that_was_removed_meanwhile_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our open and our lock its daemon ended: the lock of a file without a name keeps nobody out."""
    path = tmp_path / "x.pid"
    opened = os.open
    first: list[int] = []

    def open_and_lose(*arguments: object, **keywords: object) -> int:
        fd = opened(*arguments, **keywords)  # type: ignore[arg-type]
        if not first:
            first.append(fd)
            path.unlink()
        return fd

    monkeypatch.setattr(os, "open", open_and_lose)
    with PidFile(path) as held:
        assert os.path.samestat(os.fstat(held.fileno()), path.stat())


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DaemonError, match="file: cannot be made: "):
        PidFile(tmp_path / "file" / "x.pid")


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DaemonError, match="cannot be written: Is a directory"):
        PidFile(tmp_path)


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("content")
    (tmp_path / "x.pid").symlink_to(precious)
    with pytest.raises(DaemonError, match=r"x\.pid: cannot be written: Too many levels of symbolic links"):
        PidFile(tmp_path / "x.pid")
    assert precious.read_text() == "content"
    (tmp_path / "y.pid").symlink_to(tmp_path / "made")
    with pytest.raises(DaemonError, match="cannot be written"):
        PidFile(tmp_path / "y.pid")
    assert not (tmp_path / "made").exists()
