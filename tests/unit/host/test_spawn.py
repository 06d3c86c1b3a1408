"""Which user a program of ours runs as, and what it inherits."""

from __future__ import annotations

import os
import pwd
from typing import Any

import pytest

from taskqueue.errors import ConfigError
from taskqueue.host import spawn as module
from taskqueue.host.kernel import limit_descriptors
from taskqueue.host.spawn import Identity, environment, identity, spawn


def user(name: str, uid: int) -> pwd.struct_passwd:
    """An entry of the password file."""
    return pwd.struct_passwd((name, "x", uid, uid, "", f"/home/{name}", "/bin/sh"))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A host with the users in `users`; `uid` is who asks."""
    host: dict[str, Any] = {"users": {"root": 0, "nobody": 65534, "taskqueue": 900, "bifh1": 1001}, "uid": 0}

    def by_name(name: str) -> pwd.struct_passwd:
        return user(name, host["users"][name])

    def by_uid(uid: int) -> pwd.struct_passwd:
        return next(user(name, each) for name, each in host["users"].items() if each == uid)

    monkeypatch.setattr(pwd, "getpwnam", by_name)
    monkeypatch.setattr(pwd, "getpwuid", by_uid)
    monkeypatch.setattr(os, "geteuid", lambda: host["uid"])
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 5])
    return host


@pytest.mark.parametrize(
    ("uid", "asked", "missing", "found"),
    [
        (0, "bifh1", "", "bifh1"),
        (0, "root", "", "root"),
        (0, None, "", "taskqueue"),
        (0, None, "taskqueue", "nobody"),
        (1001, None, "", "bifh1"),
        (1001, "bifh1", "", "bifh1"),
    ],
)
def test_the_user(host: dict[str, Any], uid: int, asked: str | None, missing: str, found: str) -> None:
    host["uid"] = uid
    number = host["users"][found]
    host["users"].pop(missing, None)
    assert identity(asked) == Identity(found, number, number, (number, 5), f"/home/{found}")


@pytest.mark.parametrize(
    ("uid", "asked", "missing", "why"),
    [
        (0, "nosuch", "", "user 'nosuch' does not exist"),
        (1001, "nosuch", "", "user 'nosuch' does not exist"),
        (1001, "taskqueue", "", "only root can run workers as user 'taskqueue'; this is 'bifh1'"),
        (1001, "root", "", "only root can run workers as user 'root'; this is 'bifh1'"),
        (0, None, "taskqueue nobody", "neither user 'taskqueue' nor 'nobody' exists"),
    ],
)
def test_never_the_wrong_user(host: dict[str, Any], uid: int, asked: str | None, missing: str, why: str) -> None:
    host["uid"] = uid
    for name in missing.split():
        del host["users"][name]
    with pytest.raises(ConfigError, match=why):
        identity(asked)


def test_the_environment() -> None:
    who = Identity("bifh1", 1001, 1001, (), "/home/bifh1")
    secret = {
        "TASKQUEUE_AMQP_URL": "amqp://u:p@h", "CREDENTIALS_DIRECTORY": "/run/c", "NOTIFY_SOCKET": "/run/n",
        "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "LISTEN_FDS": "1", "SUDO_USER": "me", "MAIL": "/var/mail/root",
    }  # fmt: skip
    found = environment(who, {**secret, "HOME": "/root", "USER": "root", "LANG": "de_DE.UTF-8", "PATH": "/opt/bin"})
    assert found == {
        "PATH": "/opt/bin", "LANG": "de_DE.UTF-8", "HOME": "/home/bifh1", "USER": "bifh1", "LOGNAME": "bifh1",
        "SHELL": "/bin/sh", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    assert environment(who, {})["PATH"] == "/usr/local/bin:/usr/bin:/bin"


@pytest.mark.parametrize(("other", "limit"), [(True, None), (False, None), (True, 48)])
def test_the_program_and_the_rights_it_starts_with(
    monkeypatch: pytest.MonkeyPatch, other: bool, limit: int | None
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(module.subprocess, "Popen", lambda command, **keywords: given.update(keywords, args=command))
    who = Identity("u", os.geteuid() + other, 7, (7, 8), "/")
    spawn("taskqueue.listener", [5, 6], who, 9, descriptor_limit=limit)
    assert given["args"][1:] == [*(["-P", "-s"] if other else ["-P"]), "-m", "taskqueue.listener", "5", "6"]
    assert given["pass_fds"] == [5, 6, 9] and given["start_new_session"] and given["cwd"] == "/"
    before_exec = given["preexec_fn"]
    assert before_exec is None if limit is None else (before_exec.func, before_exec.args) == (limit_descriptors, (48,))
    rights = {name: given.get(name) for name in ("user", "group", "extra_groups")}
    wanted = {"user": who.uid, "group": 7, "extra_groups": (7, 8)} if other else dict.fromkeys(rights)
    assert rights == wanted
