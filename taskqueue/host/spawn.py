"""Starts a Python program of this package as a given unix user, by fork and exec.

After the exec nothing of the starting process's memory is left in the new one. The user is changed before the exec, so
that the program never runs with more rights than that user has. This module must never start anything as a user that
the config does not name.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from taskqueue.errors import ConfigError
from taskqueue.host.kernel import limit_descriptors

SERVICE_USER = "taskqueue"
"""The unix user, and group, of every process that needs the broker's password."""
_NOT_FOR_CHILDREN = ("TASKQUEUE_", "NOTIFY_SOCKET", "WATCHDOG_", "CREDENTIALS_DIRECTORY", "LISTEN_", "SUDO_", "MAIL")
"""Beginnings of the names of variables that a helper does not inherit: credentials, and the channels to the service
manager, which would take the helper's messages for the daemon's."""
_PATH = "/usr/local/bin:/usr/bin:/bin"
"""The search path where the daemon itself has none."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A unix user as a process becomes it."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary groups."""
    home: str


def identity(user: str | None) -> Identity:
    """The user `user`. For None: `taskqueue`, or else `nobody`, where this process is root; otherwise its own user.

    Raises `ConfigError` where that user does not exist, or where this process may not become it.
    """
    own = os.geteuid()
    if user is not None:
        entry = _lookup(user)
        if entry is None:
            raise ConfigError(f"user {user!r} does not exist")
    elif own == 0:
        entry = _lookup(SERVICE_USER) or _lookup("nobody")
        if entry is None:
            raise ConfigError(f"neither user {SERVICE_USER!r} nor 'nobody' exists")
    else:
        entry = pwd.getpwuid(own)
    if own not in {0, entry.pw_uid}:
        raise ConfigError(f"only root can run workers as user {entry.pw_name!r}; this is {pwd.getpwuid(own).pw_name!r}")
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)


def _lookup(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None


def environment(who: Identity, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of `who`: without credentials, and without channels to the service manager."""
    kept = {name: value for name, value in inherited.items() if not name.startswith(_NOT_FOR_CHILDREN)}
    return {
        "PATH": _PATH,
        **kept,
        "HOME": who.home,
        "USER": who.name,
        "LOGNAME": who.name,
        "SHELL": "/bin/sh",
        "PYTHONUNBUFFERED": "1",
    }


def spawn(
    module: str,
    fds: Sequence[int],
    who: Identity,
    log_fd: int | None,
    *,
    output: int = subprocess.PIPE,
    foreground: bool = False,
    descriptor_limit: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start `python -m module FD…` as `who`, with `fds` and `log_fd` open. The caller reaps it.

    The process has a session of its own and no input; in the `foreground` it keeps the caller's session and terminal.
    Its standard output and error are one: a pipe, to be read by the caller, or the descriptor `output`.
    `descriptor_limit` is its soft RLIMIT_NOFILE; None where it inherits the caller's. Raises `OSError`.
    """
    switching = who.uid != os.geteuid()
    passed = [*fds, log_fd] if log_fd is not None else list(fds)
    flags = ["-P", "-s"] if switching else ["-P"]
    become: dict[str, Any] = {"user": who.uid, "group": who.gid, "extra_groups": who.groups} if switching else {}
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [sys.executable, *flags, "-m", module, *map(str, fds)],
        stdin=None if foreground else subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=passed,
        cwd="/",
        env=environment(who, os.environ),
        umask=0o022,
        start_new_session=not foreground,
        # It runs after the change of user, last before exec; it is safe where the caller has one thread, as the pool.
        preexec_fn=None if descriptor_limit is None else partial(limit_descriptors, descriptor_limit),
        **become,
    )
    return process
