"""The status socket: one JSON document that says all an operator needs, to whoever may connect."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

import processes
from daemons import NAP, Stage
from taskqueue.errors import PoolUnavailable
from taskqueue.status import document
from waiting import wait_for

BROKEN = """
    raise RuntimeError("this module is broken")
"""


def start_two_groups(stage: Stage) -> None:
    """`nap`, with two workers that serve, and `broken`, which has said why it cannot start."""
    stage.site.install("nap", NAP, version="1.2")
    stage.site.install("broken", BROKEN)
    stage.configure("[nap]\nworkers: 2\n")
    stage.start("nap")
    wait_for(lambda: stage.pool.group("broken").get("last_error"), 10, "broken says why")
    stage.pool.logged("broker connected")  # a group runs, and waits for its broker


def test_document(stage: Stage) -> None:
    before = time.time()
    start_two_groups(stage)

    mode = stage.pool.socket_path.stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o660

    document = stage.pool.status()
    assert document["pid"] == stage.pool.pid
    assert document["host"] == socket.gethostname()
    assert document["state"] == "running"
    assert before - 1 <= document["since"] <= document["now"] <= time.time() + 1
    assert [group["name"] for group in document["groups"]] == ["broken", "nap"]
    broken, nap = document["groups"]

    assert broken["state"] in {"starting", "backoff"}
    assert "RuntimeError: this module is broken" in broken["last_error"]
    assert "Traceback" in broken["last_error"]

    assert (nap["worker_type"], nap["instance"], nap["state"]) == ("nap", None, "running")
    assert (nap["workers_wanted"], nap["restarts"], nap["last_error"]) == (2, 0, None)
    assert nap["plugin"]["version"] == "1.2"
    assert before - 1 <= nap["since"] <= time.time() + 1
    (generation,) = nap["generations"]
    assert generation["pids"].keys() == {"listener", "template"}
    assert generation["broker"]["connected"] is True
    assert len(generation["workers"]) == 2
    for worker in generation["workers"]:
        assert worker["state"] == "idle" and worker["tasks"] == []
        assert before - 1 <= worker["since"] <= time.time() + 1
    pids = {*generation["pids"].values(), *(worker["pid"] for worker in generation["workers"])}
    assert pids <= processes.descendants(stage.pool.pid)


def test_a_pool_that_starts_many_groups_answers_and_can_be_stopped(stage: Stage) -> None:
    names = {f"nap{number}" for number in range(40)}
    for name in names:
        stage.site.install(name, NAP)
    stage.configure("")
    stage.pool.start()

    groups = wait_for(stage.pool.status_if_up, 20, "the pool answers", poll_s=0.001)["groups"]

    assert {group["name"] for group in groups} == names
    begun = [group["name"] for group in groups if group["generations"]]
    assert 0 < len(begun) < len(names)  # it did not start them all first
    assert stage.pool.stop(deadline_s=10.0) == 0


def test_what_each_worker_runs_and_since_when(stage: Stage) -> None:
    stage.site.install("nap", NAP)
    stage.configure("[nap]\nworkers: 2\n")
    stage.start("nap")
    before = time.time()
    stage.amqp.submit("nap 3", message_id="long-one")
    pid = stage.pool.running_task("nap", "long-one")
    by_pid = {worker["pid"]: worker for worker in stage.pool.workers("nap")}
    assert by_pid[pid]["state"] == "running"
    (task,) = by_pid[pid]["tasks"]
    assert (task["id"], task["attempt"]) == ("long-one", 1)
    assert before - 0.5 <= task["since"] <= time.time() + 0.5
    assert [worker["state"] for other, worker in by_pid.items() if other != pid] == ["idle"]
    wait_for(lambda: "long-one" in processes.title(pid), 5, "the worker has begun, too, and shows it")

    processes.kill(pid)
    counted = wait_for(lambda: int(stage.pool.group("nap")["restarts"]), 5, "the restart is counted")
    assert counted == 1
    stage.amqp.take_for("long-one", deadline_s=10)
    wait_for(lambda: [w["tasks"] for w in stage.pool.workers("nap")] == [[], []], 5, "nobody runs it any more")
    counts = stage.pool.generation("nap")["counts"]
    assert (counts["succeeded"], counts["crashed"], counts["restarts"]) == (1, 1, 1)


def test_it_takes_no_orders_and_stands_bad_manners(stage: Stage) -> None:
    stage.site.install("nap", NAP)
    stage.start("nap")
    pids = stage.pool.pids("nap")
    silent = [socket.socket(socket.AF_UNIX) for _ in range(5)]
    for sock in silent:  # neither reads nor leaves
        sock.connect(str(stage.pool.socket_path))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(stage.pool.socket_path))
        sock.sendall(b'["stop"]\n' * 100)
        sock.settimeout(5)
        with contextlib.suppress(ConnectionResetError):  # it hangs up on who talks without reading it
            while sock.recv(65536):
                pass
    for _ in range(20):  # leaves before the answer
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(stage.pool.socket_path))
    for sock in silent:
        sock.close()
    descriptors = Path(f"/proc/{stage.pool.pid}/fd")
    least = len(list(descriptors.iterdir()))
    for _ in range(10):
        stage.pool.status()
    wait_for(lambda: len(list(descriptors.iterdir())) <= least, 5, "no descriptor is left open")
    assert stage.pool.pids("nap") == pids
    socket_path = stage.pool.socket_path
    assert stage.pool.stop() == 0
    assert not socket_path.exists()


def test_two_pools_on_one_socket(stage: Stage) -> None:
    stage.site.install("nap", NAP)
    stage.start("nap")
    second = stage.another("workerpool", "second", run_dir=stage.run_dir)
    second.start()
    assert second.wait() == 1
    assert "another taskqueue-workerpool is running" in second.log
    assert "Traceback" not in second.log
    assert stage.pool.group("nap")["state"] == "running"


def test_what_the_operators_command_reads(stage: Stage) -> None:
    start_two_groups(stage)
    stage.amqp.submit("nap 3", message_id="long-one")
    pid = stage.pool.running_task("nap", "long-one")
    read = document.read(stage.pool.socket_path)
    assert (read.pid, read.host, read.state) == (stage.pool.pid, socket.gethostname(), "running")
    broken, nap = read.groups
    assert "RuntimeError" in str(broken.last_error)
    assert (nap.name, nap.workers_wanted, nap.plugin["version"]) == ("nap", 2, "1.2")
    assert nap.generations[0].connected is True and nap.generations[0].consuming is True
    running = {worker.pid: [task.id for task in worker.tasks] for worker in nap.workers}
    assert running[pid] == ["long-one"] and len(running) == 2


def test_why_it_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "workerpool.sock"
    with pytest.raises(PoolUnavailable, match="no taskqueue-workerpool runs on this host"):
        document.read(path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        with pytest.raises(PoolUnavailable, match="no taskqueue-workerpool runs on this host"):
            document.read(path)
        sock.listen()

        def answer(text: bytes) -> None:
            peer, _ = sock.accept()
            peer.sendall(text)
            peer.close()

        for text in (b"", b"[]", b'{"version": "9"}', b"\xff"):
            thread = threading.Thread(target=answer, args=(text,))
            thread.start()
            with pytest.raises(PoolUnavailable, match="the answer is not that of a taskqueue-workerpool"):
                document.read(path)
            thread.join()


@pytest.mark.root_only
def test_who_may_not_read_it_is_told_who_may(unix_users: None) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        path = Path(f"/var/tmp/taskqueue-test-{os.getpid()}.sock")
        try:
            sock.bind(str(path))
            path.chmod(0o600)
            sock.listen()
            with pytest.raises(PoolUnavailable, match="permission denied; expected root, or a member of the group"):
                os.seteuid(pwd.getpwnam("bifh1").pw_uid)
                document.read(path)
        finally:
            os.seteuid(0)
            path.unlink()
