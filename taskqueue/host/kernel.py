"""What Linux offers and Python does not wrap: prctl(2), and the children of a process from /proc.

It must never know what the processes are for.
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

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent(signum: int) -> None:
    """Get `signum` when the parent dies; 0 undoes it. A change of user undoes it too (prctl(2)): call it after."""
    _prctl(_PR_SET_PDEATHSIG, signum)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, in init's place."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def hide_memory() -> None:
    """Let no other process of the same user read this one's memory, environment or descriptors (no ptrace)."""
    _prctl(_PR_SET_DUMPABLE, 0)


def raise_descriptor_limit() -> int:
    """Allow this process as many descriptors as it may have; gives how many it was allowed before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit_descriptors(hard)
    return soft


def limit_descriptors(soft: int) -> None:
    """Allow this process `soft` descriptors."""
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
    """Mark this process and all that it will start, across fork, exec, setsid and an emptied environment.

    The mark is the soft RLIMIT_RSS, which is inherited by all of them and which Linux has not enforced since 2.4.30
    (getrlimit(2)). It stays a limit beyond any memory, for programs that plan by it (GNU sort).
    """
    hard = resource.getrlimit(resource.RLIMIT_RSS)[1]
    base = _MARK_BASE if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_RSS, (base - number, hard))


def marked(pid: int) -> int | None:
    """The number that a process of the same user was marked with; None for one that was not, or that is gone."""
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
    """An exit code as an operator reads it: `signal SIGSEGV` or `status 3`."""
    if code >= 0:
        return f"status {code}"
    with suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
