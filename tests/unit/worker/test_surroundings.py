"""What one handler changes in its process, the next one does not find."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskqueue.worker.surroundings import Surroundings


@pytest.fixture(autouse=True)
def as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins in a directory of its own, and leaves the process as it was; pytest-timeout uses SIGALRM."""
    handler, timer = signal.getsignal(signal.SIGALRM), signal.setitimer(signal.ITIMER_REAL, 0)
    umask, depth, blocked = os.umask(0o022), sys.getrecursionlimit(), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    monkeypatch.chdir(tmp_path)
    yield
    os.umask(umask)
    sys.setrecursionlimit(depth)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, *timer)


def umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "working directory": (lambda: os.chdir("/"), Path.cwd),
    "umask": (lambda: os.umask(0o777), umask),
    "a signal blocked": (
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1}),
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
    ),
    "recursion limit": (lambda: sys.setrecursionlimit(4321), sys.getrecursionlimit),
    "an alarm": (lambda: signal.setitimer(signal.ITIMER_REAL, 3600), lambda: signal.getitimer(signal.ITIMER_REAL)),
}
"""What a handler does, and how the next one would find it."""


@pytest.mark.parametrize(("change", "look"), CHANGES.values(), ids=CHANGES)
def test_it_is_put_back(change: Callable[[], Any], look: Callable[[], Any]) -> None:
    surroundings = Surroundings()
    before = look()
    change()
    assert look() != before
    surroundings.restore()
    assert look() == before


def test_it_is_put_back_to_what_setup_has_left_and_each_time() -> None:
    os.umask(0o077)
    surroundings = Surroundings()
    for _ in range(2):
        os.umask(0o777)
        surroundings.restore()
        assert umask() == 0o077


def test_a_directory_that_the_plugin_has_removed(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    os.chdir(own)
    surroundings = Surroundings()
    os.chdir("/")
    own.rmdir()
    surroundings.restore()
    assert Path.cwd() == Path("/"), "the rest is put back all the same"
    os.chdir(tmp_path)
    own.mkdir()
    os.chdir(own)
    own.rmdir()
    Surroundings().restore()  # begun where there is no directory any more
