"""What /proc says that processes cost: CPU time, memory, wake-ups."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import processes

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024


def tree(pid: int) -> set[int]:
    """A process and all its descendants."""
    return {pid, *processes.descendants(pid)}


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds used so far, in user mode and in the kernel, to a hundredth (utime and stime of /proc/PID/stat)."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total * _TICK_S


def runtime_s(pids: Iterable[int]) -> float:
    """The same of all their threads, to a nanosecond (/proc/PID/task/TID/schedstat)."""
    total = 0
    for thread in _threads(pids):
        with suppress(OSError):
            total += int((thread / "schedstat").read_bytes().split()[0])
    return total / 1e9


def wakeups(pid: int) -> int:
    """How often a process has gone to sleep so far, and so was woken: its threads' voluntary context switches."""
    total = 0
    for thread in _threads([pid]):
        with suppress(OSError):
            for line in (thread / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    total += int(line.split()[1])
    return total


def pss_bytes(pids: Iterable[int]) -> int:
    """Memory by proportional set size: a page that n processes share counts 1/n in each (/proc/PID/smaps_rollup)."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def _threads(pids: Iterable[int]) -> list[Path]:
    found: list[Path] = []
    for pid in pids:
        with suppress(OSError):
            found += Path(f"/proc/{pid}/task").iterdir()
    return found
