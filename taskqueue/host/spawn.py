"""Starts our helper processes as the right unix user: exec, so that nothing of the pool's memory goes with them.

The user is changed before the new interpreter starts: no line of Python runs with more rights than the group has.
It must never start anything as a user that the config does not name.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskqueue.errors import ConfigError

SERVICE_USER = "taskqueue"
_NOT_FOR_CHILDREN = ("TASKQUEUE_", "NOTIFY_SOCKET", "WATCHDOG_", "CREDENTIALS_DIRECTORY", "LISTEN_", "SUDO_", "MAIL")
_PATH = "/usr/local/bin:/usr/bin:/bin"


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
    """The user to run as: `user`, or by default `taskqueue` (or `nobody`) for root, and whoever we are for others.

    Raises `ConfigError` where that user does not exist, or we may not become it.
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
    """What a process of `who` finds in its environment: no credentials, nothing that speaks to our service manager."""
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
) -> subprocess.Popen[bytes]:
    """Start `python -m module FD…` as `who`, with `fds` and `log_fd` open. The caller reaps it.

    It has a session of its own and no input, unless it is to have our terminal, in the `foreground`. Its standard
    output and error are one: a pipe, to be read by the caller, or the descriptor `output`.
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
        **become,
    )
    return process
