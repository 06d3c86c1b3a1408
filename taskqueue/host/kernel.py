"""Calls to Linux about processes: prctl(2), resource limits, and the children of a process.

Python has no prctl, and no list of children, which /proc has. Its kill and waitpid raise for a process that is gone;
those here do not. This module must never know what a process is for.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

_MARK_BASE = 1 << 62
"""Bytes: the limit that marks are counted down from where RLIMIT_RSS has no hard limit; far beyond any memory."""

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent(signum: int) -> None:
    """Have the kernel send `signum` to this process when its parent dies; 0 for no signal. A change of user undoes it
    (prctl(2)): call this after that."""
    _prctl(_PR_SET_PDEATHSIG, signum)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, in init's place."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def hide_memory() -> None:
    """Forbid other processes of the same user to read this one's memory, environment or descriptors: no ptrace."""
    _prctl(_PR_SET_DUMPABLE, 0)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of this process's descriptors to the hard one; gives the soft limit as it was before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit_descriptors(hard)
    return soft


def limit_descriptors(soft: int) -> None:
    """Set the soft limit of this process's descriptors (RLIMIT_NOFILE)."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def children(pid: int) -> set[int]:
    """The processes whose parent is `pid`, zombies among them."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # "pid (comm) state ppid …"; comm may hold anything, so from its last bracket on (proc(5))
                if int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1]) == pid:
                    found.add(int(entry.name))
    return found


def mark(number: int) -> None:
    """Mark this process with `number`, and every process that it will start.

    The mark is the soft RLIMIT_RSS. It is inherited across fork, exec, setsid and an emptied environment, and Linux has
    not enforced it since 2.4.30 (getrlimit(2)). As a limit it stays beyond any memory, for programs that plan by it, as
    GNU sort does.
    """
    hard = resource.getrlimit(resource.RLIMIT_RSS)[1]
    base = _MARK_BASE if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_RSS, (base - number, hard))


def marked(pid: int) -> int | None:
    """The number that a process of the same user is marked with; None where it has no mark, or is gone."""
    with suppress(OSError):
        soft, hard = resource.prlimit(pid, resource.RLIMIT_RSS)
        base = _MARK_BASE if hard == resource.RLIM_INFINITY else hard
        return base - soft if soft != resource.RLIM_INFINITY else None
    return None


def kill_group(pgid: int, signum: int = signal.SIGKILL) -> None:
    """Send `signum` to a process group that may be gone already."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, signum)


def kill(pid: int, signum: int = signal.SIGKILL) -> None:
    """Send `signum` to a process that may be gone already."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def reap() -> list[tuple[int, int]]:
    """(pid, exit code) of every child that has died; negative for a signal, as in `subprocess`."""
    dead = []
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            dead.append((found[0], os.waitstatus_to_exitcode(found[1])))
    return dead


def exit_text(code: int) -> str:
    """An exit code in words: `signal SIGSEGV` for -11, `status 3` for 3."""
    if code >= 0:
        return f"status {code}"
    with suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
