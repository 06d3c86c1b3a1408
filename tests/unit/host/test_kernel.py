"""What Linux is asked for: children, reaping, death with the parent. With real processes."""

from __future__ import annotations

import os
import select
import signal

import pytest

from processes import adopt_orphans
from taskqueue.host import kernel
from waiting import wait_for

DEADLINE_S = 5.0


def forked(code: int = 0, signum: int | None = None) -> int:
    """A child that ends at once with `code`, or of `signum`."""
    pid = os.fork()
    if pid == 0:
        if signum is not None:
            signal.signal(signum, signal.SIG_DFL) if signum != signal.SIGKILL else None
            os.kill(os.getpid(), signum)
            signal.pause()
        os._exit(code)
    return pid


def sleeper() -> int:
    """A child that waits for its end."""
    pid = os.fork()
    if pid == 0:
        kernel.die_with_parent(signal.SIGKILL)
        while True:
            signal.pause()
    return pid


def collect(pids: set[int]) -> dict[int, int]:
    """Exit codes of `pids`, by `kernel.reap`."""
    found: dict[int, int] = {}

    def all_there() -> bool:
        found.update(kernel.reap())
        return pids <= found.keys()

    wait_for(all_there, DEADLINE_S, "children are reaped", poll_s=0.002)
    return found


def test_reap_gives_every_exit_code() -> None:
    wanted = {forked(0): 0, forked(7): 7, forked(signum=signal.SIGKILL): -9, forked(signum=signal.SIGSEGV): -11}
    found = collect(set(wanted))
    assert {pid: found[pid] for pid in wanted} == wanted


def test_reap_without_children_and_with_living_ones_gives_nothing() -> None:
    assert kernel.reap() == []
    pid = sleeper()
    try:
        assert kernel.reap() == []
    finally:
        kernel.kill(pid)
        assert collect({pid})[pid] == -signal.SIGKILL


def test_children_among_them_zombies_and_odd_names() -> None:
    pid = os.fork()
    if pid == 0:
        with open("/proc/self/comm", "w") as comm:  # noqa: PTH123
            comm.write(") R 1 (")
        signal.pause()
    zombie = forked()
    try:
        wait_for(lambda: {pid, zombie} <= kernel.children(os.getpid()), DEADLINE_S, poll_s=0.002)
        assert os.getpid() not in kernel.children(os.getpid())
        assert kernel.children(pid) == set()
    finally:
        kernel.kill(pid)
        collect({pid, zombie})
    assert not {pid, zombie} & kernel.children(os.getpid())


def test_kill_is_harmless_for_who_is_gone() -> None:
    pid = forked()
    collect({pid})
    kernel.kill(pid)
    kernel.kill_group(pid)


def test_a_mark_goes_with_all_that_a_process_starts() -> None:
    """Across fork, an exec with an empty environment, and a session of its own; and with nobody else."""
    adopt_orphans()
    own = kernel.marked(os.getpid())
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        kernel.mark(7)
        os.dup2(write, 1)
        script = "echo $$; setsid sh -c 'echo $$; exec sleep 600 >&-' & exec sleep 600 >&-"
        os.execve("/bin/sh", ["sh", "-c", script], {})
    os.close(write)
    with os.fdopen(read) as lines:
        pids = {int(line) for line in lines}
    try:
        assert len(pids) == 2 and pid in pids
        assert {kernel.marked(each) for each in pids} == {7}
        assert kernel.marked(os.getpid()) == own != 7
    finally:
        for each in pids:
            kernel.kill(each)
        collect(pids)
    assert kernel.marked(pid) is None


def test_kill_group_ends_all_of_it() -> None:
    ready_r, ready_w = os.pipe()
    leader = os.fork()
    if leader == 0:
        os.setsid()
        sleeper()
        os.write(ready_w, b"x")
        signal.pause()
    os.close(ready_w)
    assert os.read(ready_r, 1) == b"x"
    kernel.kill_group(leader)
    assert collect({leader})[leader] == -signal.SIGKILL
    # the grandchild held the other end of the pipe as well: its end is the end of the group
    assert select.select([ready_r], [], [], DEADLINE_S)[0] and os.read(ready_r, 1) == b""
    os.close(ready_r)


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "status 0"), (3, "status 3"), (-11, "signal SIGSEGV"), (-9, "signal SIGKILL"), (-63, "signal 63")],
)
def test_exit_text(code: int, text: str) -> None:
    assert kernel.exit_text(code) == text


def test_die_with_parent() -> None:
    """A grandchild dies with its parent: seen by the end of a pipe that only it still holds."""
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        if os.fork() == 0:
            kernel.die_with_parent(signal.SIGKILL)
            os.write(write, b"x")
            while True:
                signal.pause()
        signal.pause()
    os.close(write)
    assert os.read(read, 1) == b"x"
    os.kill(parent, signal.SIGKILL)
    assert select.select([read], [], [], DEADLINE_S)[0], "the grandchild outlived its parent"
    assert os.read(read, 1) == b""
    os.close(read)
    collect({parent})


def test_die_with_parent_can_be_undone() -> None:
    adopt_orphans()  # so that the grandchild is ours when its parent is gone
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        grandchild = os.fork()
        if grandchild == 0:
            kernel.die_with_parent(signal.SIGKILL)
            kernel.die_with_parent(0)
            os.write(write, os.getpid().to_bytes(4, "big"))
            while True:
                signal.pause()
        signal.pause()
    os.close(write)
    grandchild = int.from_bytes(os.read(read, 4), "big")
    os.kill(parent, signal.SIGKILL)
    collect({parent})
    try:
        wait_for(lambda: grandchild in kernel.children(os.getpid()), DEADLINE_S, poll_s=0.002)
        assert not select.select([read], [], [], 0)[0], "it has died"
    finally:
        kernel.kill(grandchild)
        collect({grandchild})
        os.close(read)


def test_a_failing_prctl_raises() -> None:
    with pytest.raises(OSError):
        kernel.die_with_parent(9999)


def test_hidden_memory_is_not_readable_by_the_same_user() -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        kernel.hide_memory()
        os.write(write, b"x")
        signal.pause()
    assert os.read(read, 1) == b"x"
    try:
        # what is not dumpable belongs to root in /proc (proc(5)); as root itself, ownership says no more
        assert os.stat(f"/proc/{pid}/environ").st_uid == 0  # noqa: PTH116
    finally:
        os.kill(pid, signal.SIGKILL)
        collect({pid})
        os.close(read)
        os.close(write)
