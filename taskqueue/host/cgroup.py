"""Memory limits by cgroup v2, where the host lets the pool have one of its own (systemd: `Delegate=yes`).

    <the pool's>/              cgroup.subtree_control: memory
      pool/                    the pool and its listeners: a cgroup with controllers below it holds no process
      group-<name>-<pid>-<n>/  a generation of the pool with that pid, delegated to the group's user
        template/
        worker-<n>/            one worker and all that it starts: memory.max, memory.oom.group

The rules are those of the kernel's Documentation/admin-guide/cgroup-v2.rst ("Delegation", "No Internal Process
Constraint") and of systemd's CGROUP_DELEGATION. Functions raise `OSError` where the kernel, or the host, refuses. This
module must never decide which worker to limit, nor touch a cgroup that is not the pool's.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from itertools import count
from pathlib import Path

_POOL, _TEMPLATE, _GROUP, _WORKER = "pool", "template", "group-", "worker-"
_DELEGATED = ("trusted.delegate", "user.delegate")
"""Extended attributes that systemd sets on a cgroup that it has delegated; the second one since version 251."""
_numbers = count(1)
"""Numbers of generations: two of one group may live at the same time."""


def claim() -> Path:
    """Prepare this process's cgroup for generations below it, and give its path; the `OSError` says why it cannot be.

    Call it while this process is the only one in the cgroup. What killed pools have left behind is removed.
    """
    own = _own()
    if "memory" not in _words(own / "cgroup.controllers"):
        raise OSError(errno.ENOTSUP, "no memory controller in this process's cgroup", str(own))
    if Path("/run/systemd/system").exists() and not _is_delegated(own):
        raise OSError(errno.EPERM, "systemd has not delegated this process's cgroup (Delegate=yes)", str(own))
    for_pool = own / _POOL
    for_pool.mkdir(exist_ok=True)
    try:
        enter(for_pool)
        (own / "cgroup.subtree_control").write_text("+memory")
    except OSError:
        with suppress(OSError):
            enter(own)
            for_pool.rmdir()
        raise
    for left in own.glob(f"{_GROUP}*"):
        if not Path("/proc", left.name.split("-")[-2]).exists():  # its pool was killed
            kill(left)
            remove(left)
    return own


def make_group(parent: Path, name: str, uid: int) -> Path:
    """Make the cgroup of one generation, in which the user `uid` may limit and move its own processes."""
    group = parent / f"{_GROUP}{name.replace('/', ':'):.200}-{os.getpid()}-{next(_numbers)}"
    group.mkdir()
    (group / "cgroup.subtree_control").write_text("+memory")
    (group / _TEMPLATE).mkdir()
    for file in ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
        os.chown(group / file, uid, -1)
    return group


def enter_template(group: Path, pid: int) -> None:
    """Move the template `pid`, and what it will fork, into the generation's cgroup."""
    enter(group / _TEMPLATE, pid)


def make_worker(group: Path, number: int, max_bytes: int) -> Path:
    """Make the cgroup of one worker: `max_bytes` of memory and no swap. Beyond that the kernel kills all in it."""
    worker = group / f"{_WORKER}{number}"
    worker.mkdir()
    (worker / "memory.max").write_text(str(max_bytes))
    (worker / "memory.oom.group").write_text("1")
    if (swap := worker / "memory.swap.max").exists():
        swap.write_text("0")
    return worker


def enter(cgroup: Path, pid: int = 0) -> None:
    """Move a process, by default this one, into `cgroup`."""
    (cgroup / "cgroup.procs").write_text(str(pid))


def ran_out_of_memory(worker: Path) -> bool:
    """Whether the kernel has killed a process in this cgroup because of its memory limit."""
    with suppress(OSError):
        words = _words(worker / "memory.events")
        return int(words[words.index("oom_kill") + 1]) > 0
    return False


def kill(cgroup: Path) -> None:
    """SIGKILL to all processes in `cgroup` and below. Before Linux 5.14 it does nothing: others have to kill them."""
    with suppress(OSError):
        (cgroup / "cgroup.kill").write_text("1")


def remove(cgroup: Path) -> bool:
    """Remove `cgroup` with all below it; False where a process in it has not quite died yet."""
    for directory, _, _ in os.walk(cgroup, topdown=False):
        with suppress(FileNotFoundError):
            try:
                Path(directory).rmdir()
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                return False
    return True


def _own() -> Path:
    """This process's cgroup in the unified hierarchy."""
    path = next((line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::"), None)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # "id parent device root mount-point options [optional…] - type source options" (proc(5))
        fields, _, after = line.partition(" - ")
        if after.startswith("cgroup2 ") and path is not None:
            root, mount_point = fields.split()[3:5]
            with suppress(ValueError):  # outside of what is mounted here
                return Path(mount_point, Path(path).relative_to(root))
    raise OSError(errno.ENOTSUP, "no cgroup v2 on this host")


def _is_delegated(cgroup: Path) -> bool:
    for name in _DELEGATED:
        with suppress(OSError):
            if os.getxattr(cgroup, name) == b"1":
                return True
    return False


def _words(file: Path) -> list[str]:
    return file.read_text().split()
