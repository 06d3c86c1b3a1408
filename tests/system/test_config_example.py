"""The config file of the design, unchanged, on a host with its plugins and users; and who workers are."""

from __future__ import annotations

import os
import pwd
from typing import Any

import pytest

import processes
from daemons import Stage
from waiting import wait_for

EXAMPLE = """\
[DEFAULT]
workers: 1

; Workers
[worker1]
workers: 3

[worker2]
workers: bifh1, bifh2

[worker2_bifh1]
workers: 1
user: bifh1

[worker2_bifh2]
workers: 1
user: bifh2
"""

SELF = """
    import os, time
    from pathlib import Path
    from taskqueue.worker import BaseWorker

    IMPORTED_AS = os.getresuid(), os.getpid()

    class Worker(BaseWorker):
        def handle_task(self, body):
            umask = os.umask(0)
            os.umask(umask)
            time.sleep(0.05)
            return {
                "pid": os.getpid(),
                "uids": os.getresuid(),
                "gids": os.getresgid(),
                "groups": sorted(os.getgroups()),
                "env": {name: os.environ.get(name) for name in ("HOME", "USER", "LOGNAME")},
                "all_env": dict(os.environ),
                "umask": umask,
                "cwd": os.getcwd(),
                "status": Path("/proc/self/status").read_text(),
                "imported_as": IMPORTED_AS,
                "stdin": os.readlink("/proc/self/fd/0"),
                "can_become_root": can_become_root(),
            }

    def can_become_root():
        try:
            os.setuid(0)
        except PermissionError:
            return False
        return True
"""


def selves(stage: Stage, worker_type: str, count: int) -> list[dict[str, Any]]:
    """What `count` different workers of a type say of themselves."""
    queue = stage.amqp.private()
    said: dict[int, dict[str, Any]] = {}

    def enough() -> bool:
        for _ in range(2 * count):
            stage.amqp.submit(f"{worker_type} x", reply_to=queue)
        for message in stage.amqp.take_many(queue, 2 * count):
            assert message.headers["status"] == "success", message
            said[message.json()["pid"]] = message.json()
        return len(said) >= count

    wait_for(enough, 20, f"{count} workers of {worker_type} have answered")
    assert len(said) == count
    return list(said.values())


def check_is(user: str, said: dict[str, Any]) -> None:
    """Compare what a worker sees from inside, and the kernel from outside, with what `user` is."""
    entry = pwd.getpwnam(user)
    groups = sorted(os.getgrouplist(user, entry.pw_gid))
    assert said["uids"] == [entry.pw_uid] * 3
    assert said["gids"] == [entry.pw_gid] * 3
    assert said["groups"] == groups
    assert said["env"] == {"HOME": entry.pw_dir, "USER": user, "LOGNAME": user}
    assert said["umask"] == 0o022
    assert said["cwd"] == "/"
    assert said["stdin"] == "/dev/null"
    assert said["imported_as"][0] == [entry.pw_uid] * 3, "the plugin was imported as the group's user"
    assert said["can_become_root"] is False
    status = processes.status(said["pid"])
    assert status["Uid"].split() == [str(entry.pw_uid)] * 4
    assert status["Gid"].split() == [str(entry.pw_gid)] * 4
    assert sorted(map(int, status["Groups"].split())) == groups
    for name in (*processes.CAPABILITIES, "SigBlk"):
        assert int(status[name], 16) == 0, name


@pytest.mark.root_only
def test_example_as_it_stands(stage: Stage) -> None:
    for worker_type in ("worker1", "worker2", "plain"):
        stage.site.install(worker_type, SELF)
    stage.configure(EXAMPLE)
    stage.start("worker1", "worker2/bifh1", "worker2/bifh2", "plain")

    groups = {group["name"]: group for group in stage.pool.status()["groups"]}
    assert groups.keys() == {"worker1", "worker2/bifh1", "worker2/bifh2", "plain"}
    counts = {name: len(stage.pool.workers(name)) for name in groups}
    assert counts == {"worker1": 3, "worker2/bifh1": 1, "worker2/bifh2": 1, "plain": 1}

    for said in selves(stage, "worker1", 3):
        check_is("taskqueue", said)
        assert said["pid"] in stage.pool.pids("worker1")
    of_bifh1, of_bifh2 = sorted(selves(stage, "worker2", 2), key=lambda said: said["env"]["USER"])
    check_is("bifh1", of_bifh1)
    check_is("bifh2", of_bifh2)
    assert stage.pool.pids("worker2/bifh1") == {of_bifh1["pid"]}
    assert stage.pool.pids("worker2/bifh2") == {of_bifh2["pid"]}
    (plain,) = selves(stage, "plain", 1)
    check_is("taskqueue", plain)

    for name, user in (("worker1", "taskqueue"), ("worker2/bifh1", "bifh1"), ("worker2/bifh2", "bifh2")):
        for role, expected in (("template", user), ("listener", "taskqueue")):
            status = processes.status(stage.pool.helper(name, role))
            entry = pwd.getpwnam(expected)
            assert status["Uid"].split() == [str(entry.pw_uid)] * 4
            assert status["Gid"].split() == [str(entry.pw_gid)] * 4
            assert sorted(map(int, status["Groups"].split())) == sorted(os.getgrouplist(expected, entry.pw_gid))
            for capability in processes.CAPABILITIES:
                assert int(status[capability], 16) == 0, (role, capability)


@pytest.mark.root_only
def test_root_only_where_config_says_so(stage: Stage) -> None:
    stage.site.install("admin", SELF)
    stage.configure("[admin]\nuser: root\n")
    stage.start("admin")
    (said,) = selves(stage, "admin", 1)
    assert said["uids"] == [0, 0, 0]
    assert said["env"] == {"HOME": "/root", "USER": "root", "LOGNAME": "root"}
    assert processes.status(stage.pool.helper("admin", "listener"))["Uid"].split()[0] != "0"


def test_without_root_another_user_is_refused(stage: Stage) -> None:
    for worker_type in ("other", "own"):
        stage.site.install(worker_type, SELF)
    stage.configure("[other]\nuser: root\n")
    if os.geteuid() == 0:
        entry = pwd.getpwnam("taskqueue")
        os.chown(stage.run_dir, entry.pw_uid, entry.pw_gid)
        stage.pool.command[:0] = [
            "setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups", "--",
        ]  # fmt: skip
    stage.start("own")
    user = pwd.getpwuid(int(processes.status(stage.pool.pid)["Uid"].split()[0])).pw_name

    refused = stage.pool.wait_state("other", "refused")
    assert refused["last_error"] == f"only root can run workers as user 'root'; this is {user!r}"
    assert refused["generations"] == []
    assert len(stage.pool.logged(r"group not started: group=other .*only root")) == 1
    (said,) = selves(stage, "own", 1)
    assert said["env"]["USER"] == user
    assert said["uids"] == [pwd.getpwnam(user).pw_uid] * 3
    assert not any("other" in processes.title(pid) for pid in processes.descendants(stage.pool.pid))

    stage.reload()  # asked for again, refused again, and nobody else is disturbed
    stage.pool.logged(r"group not started: group=other", count=2)
    assert stage.pool.pids("own") == {said["pid"]}

    stage.configure("")
    stage.reload()
    stage.pool.wait_running("other")
