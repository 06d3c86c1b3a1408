"""What /proc says about processes. Standard library only, and apart from the product's own reading of it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from waiting import wait_for

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>

CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapAmb")


def adopt_orphans() -> None:
    """Become the parent of what daemons leave behind, so that a test sees it whatever PID 1 does, and can reap it."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def parents() -> dict[int, int]:
    """The parent of every process on the host, by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(entry.name)] = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
    return found


def descendants(pid: int) -> set[int]:
    """Children of `pid`, their children, and so on."""
    by_parent: dict[int, list[int]] = {}
    for child, parent in parents().items():
        by_parent.setdefault(parent, []).append(child)
    found: set[int] = set()
    wanted = [pid]
    while wanted:
        children = by_parent.get(wanted.pop(), [])
        found.update(children)
        wanted.extend(children)
    return found


def status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status; empty where there is no such process."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {}


def title(pid: int) -> str:
    """The command line as `ps` shows it; empty for a zombie, or where there is no such process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def environ(pid: int) -> bytes:
    """The environment that the process was started with, as root sees it."""
    return Path(f"/proc/{pid}/environ").read_bytes()


def alive(pid: int) -> bool:
    """Whether `pid` exists and is no zombie."""
    return status(pid).get("State", "Z")[0] not in "ZX"


def zombies(pids: Iterable[int]) -> set[int]:
    """Those of `pids` that have died and that nobody has reaped."""
    return {pid for pid in pids if status(pid).get("State", "")[:1] == "Z"}


def reap(pid: int) -> int | None:
    """The exit status of `pid` if it is ours and has died; negative for a signal."""
    with contextlib.suppress(ChildProcessError):
        found, ended = os.waitpid(pid, os.WNOHANG)
        if found == pid:
            return os.waitstatus_to_exitcode(ended)
    return None


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def left_of(pids: Iterable[int]) -> set[int]:
    """Those of `pids` that still exist, zombies too; what became ours by their parent's death is reaped."""
    left = set()
    for pid in pids:
        if Path(f"/proc/{pid}").exists():
            reap(pid)
            if Path(f"/proc/{pid}").exists():
                left.add(pid)
    return left


def wait_gone(pids: Iterable[int], deadline_s: float = 5.0) -> None:
    """Return once none of `pids` exists any more."""
    every = set(pids)
    wait_for(
        lambda: not left_of(every),
        deadline_s,
        "processes are gone",
        otherwise=lambda: "\n".join(f"{pid} {status(pid).get('State')} {title(pid)}" for pid in left_of(every)),
    )
