"""The program `taskqueue-http` as an operator meets it: options, exit statuses, signals, users, books that fail."""

from __future__ import annotations

import contextlib
import http.client
import os
import pwd
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import processes
from daemons import Stage
from front_daemons import FrontDaemon, ask, ask_on, health
from postgresql import PrivatePostgresql
from waiting import wait_for

TASK = {"url": "https://example.com/", "delay": "1h"}


@pytest.fixture
def front(stage: Stage) -> FrontDaemon:
    """A front with an SQLite book; not started."""
    return FrontDaemon(stage)


def refused(stage: Stage, *arguments: str | Path, status: int = 1, role: str = "http") -> str:
    """The one line of a front that does not start."""
    ran = stage.run(role, *(arguments or ("-f", "-c", stage.config_file)), deadline_s=30)
    assert ran.returncode == status, ran
    assert "Traceback" not in ran.stderr and ran.stdout == ""
    lines = ran.stderr.splitlines()
    assert len(lines) == 1, ran.stderr
    return lines[0]


def queues(port: int) -> dict[str, Any]:
    """The queues of a front, by name."""
    return {queue["name"]: queue for queue in ask(port, "GET", "/v1/queues")[1]["queues"]}


# -- options and exit statuses


def test_version_check_and_wrong_usage(stage: Stage, front: FrontDaemon) -> None:
    ran = stage.run("http", "--version")
    assert (ran.returncode, ran.stderr) == (0, "") and re.fullmatch(r"taskqueue-http \d+\.\d+\S*\n", ran.stdout)
    ran = stage.run("http", "--check", "-c", stage.config_file)
    assert (ran.returncode, ran.stderr) == (0, "") and ran.stdout.startswith("taskqueue-http: config is valid")
    assert not front.file.exists(), "nothing was started"
    for arguments in (["--nonsense"], ["-c"], ["word"]):
        ran = stage.run("http", *arguments)
        assert ran.returncode == 2 and ran.stderr.splitlines()[-1].startswith("taskqueue-http: error: ")
    assert "missing.ini" in refused(stage, "-f", "-c", stage.directory / "missing.ini", status=2)
    front.configure("processes: 2")
    line = refused(stage, "-f", "-c", stage.config_file, status=2)
    assert f"{stage.config_file}:4: [http] processes" in line and "SQLite" in line


def test_a_port_that_is_taken(stage: Stage, front: FrontDaemon) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", front.port))
        other.listen()
        assert refused(stage) == f"taskqueue-http: cannot listen on 127.0.0.1:{front.port}: Address already in use"


# -- in the background


def test_in_the_background_with_a_pid_file(stage: Stage, front: FrontDaemon) -> None:
    pid_file = stage.run_dir / "front.pid"
    ran = stage.run("http", "-c", stage.config_file, "-p", pid_file, deadline_s=20)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    pid = wait_for(lambda: int(pid_file.read_text() or 0) if pid_file.exists() else 0, 5, "the pid file names it")
    try:
        assert wait_for(lambda: health(front.port) == 200, 10, "it serves")
        assert processes.title(pid) == "taskqueue: http"
        assert str(Path(f"/proc/{pid}/cwd").readlink()) == "/"
        again = stage.run("http", "-c", stage.config_file, "-p", stage.run_dir / "other.pid")
        assert again.returncode == 1 and "Address already in use" in again.stderr
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: processes.reap(pid) == 0 or not processes.alive(pid), 10, "it has ended")
    finally:
        processes.kill(pid)
    assert not pid_file.exists() or not pid_file.read_text().strip()
    assert not front.socket.exists(), "the unix socket is removed"


# -- books


def test_a_book_in_a_directory_that_does_not_exist(stage: Stage, front: FrontDaemon) -> None:
    front.book = f"sqlite:{stage.directory}/nowhere/http.db"
    front.configure()
    line = refused(stage)
    assert "No such file or directory" in line and "`book:`" in line and front.book in line


def test_a_book_that_cannot_be_written(stage: Stage, front: FrontDaemon) -> None:
    if os.geteuid() == 0:
        os.chown(front.file.parent, 0, 0)
        front.configure(listen=f"127.0.0.1:{front.port}")
    else:
        front.file.parent.chmod(0o500)
    line = refused(stage)
    assert "Permission denied" in line and "`book:`" in line and front.book in line
    front.file.parent.chmod(0o700)


def test_postgresql_that_is_away_or_refuses_the_password(
    stage: Stage, front: FrontDaemon, postgresql: PrivatePostgresql
) -> None:
    front.book = "postgresql://tester:s3cret-Passw0rd@127.0.0.1:1/nobody"
    front.configure()
    line = refused(stage)
    assert "book postgresql://tester:…@127.0.0.1:1/nobody: " in line and "refused" in line and "s3cret" not in line
    front.book = f"postgresql://tester:s3cret-Passw0rd@127.0.0.1:{postgresql.port}/postgres"
    front.configure()
    line = refused(stage)
    assert "password authentication failed" in line and "s3cret" not in line
    assert "`book:`" not in line, "that hint is for SQLite"


@pytest.mark.parametrize("version", [0, 99])
def test_a_book_of_another_version(
    stage: Stage, front: FrontDaemon, postgresql: PrivatePostgresql, version: int
) -> None:
    front.start()
    assert front.daemon.stop() == 0
    subprocess.run(
        ["python3", "-c", f"import sqlite3; c = sqlite3.connect({str(front.file)!r}); "
         f"c.execute(\"UPDATE meta SET value = '{version}' WHERE key = 'version'\"); c.commit()"], check=True,
    )  # fmt: skip
    line = refused(stage)
    assert f"has version {version}" in line
    assert ("newer taskqueue" if version == 99 else "never was") in line
    assert "`book:`" not in line


@pytest.mark.root_only
def test_root_gives_itself_up_and_makes_the_default_directory(stage: Stage) -> None:
    """In a mount namespace of its own, for /var/lib/taskqueue may be this host's."""
    (stage.directory / "var-lib").mkdir()
    private = "if mountpoint -q /; then mount --make-rprivate /; fi"  # in a clean root, / is none
    hide = f'{private} && mount --bind {stage.directory}/var-lib /var/lib && exec "$@"'
    command = ["unshare", "--mount", "--propagation=unchanged", "sh", "-c", hide, "sh"]
    front = FrontDaemon(stage)
    stage.configure(f"[http]\nlisten: 127.0.0.1:{front.port}\n")
    front.daemon.command[:0] = command
    front.start()
    made = stage.directory / "var-lib" / "taskqueue"
    user = pwd.getpwnam("taskqueue")
    found = processes.status(front.daemon.pid)
    assert set(found["Uid"].split()) == {str(user.pw_uid)} and set(found["Gid"].split()) == {str(user.pw_gid)}
    assert (made.stat().st_mode & 0o7777, made.stat().st_uid) == (0o750, user.pw_uid)
    for path in made.iterdir():
        assert (path.stat().st_mode & 0o7777, path.stat().st_uid) == (0o600, user.pw_uid), path
    assert processes.title(front.daemon.pid) == "taskqueue: http"
    assert Path(f"/proc/{front.daemon.pid}/mem").stat().st_uid == 0, "its memory is hidden from its own user"
    limits = Path(f"/proc/{front.daemon.pid}/limits").read_text()
    [soft, hard] = re.findall(r"Max open files +(\d+) +(\d+)", limits)[0]
    assert soft == hard
    assert front.daemon.stop() == 0
    front.start()
    assert front.daemon.stop() == 0, "a directory that is there is taken as it is"


def test_the_password_of_the_book_is_nowhere_to_be_seen(
    stage: Stage, front: FrontDaemon, postgresql: PrivatePostgresql
) -> None:
    front.book = postgresql.make_database("hidden")
    front.configure()
    front.daemon.command.append("--verbose")
    front.start()
    password = "for%2Ftests%2Bonly"
    assert password in front.book
    wait_for(lambda: health(front.port) == 200, 10, "it is ready")
    shown = front.told("config")
    assert password not in shown and "for/tests+only" not in shown and "postgresql://tester:…@" in shown
    assert password not in processes.title(front.daemon.pid)
    assert front.daemon.stop() == 0
    assert password not in front.daemon.log and "for/tests+only" not in front.daemon.log
    postgresql.drop_database("hidden")


# -- who may ask


def test_exposed_without_tokens_it_does_not_start_and_with_one_it_asks_for_it(stage: Stage, front: FrontDaemon) -> None:
    front.configure(listen=f"0.0.0.0:{front.port}")
    line = refused(stage)
    assert f"listens on 0.0.0.0:{front.port}" in line and "taskqueue http token add" in line
    token = front.told("http", "token", "add", "ci", "--scope", "enqueue")
    if os.geteuid() == 0:  # as root the command has made the book
        user = pwd.getpwnam("taskqueue")
        for path in front.file.parent.iterdir():
            os.chown(path, user.pw_uid, user.pw_gid)
    front.start()
    path = "/v1/queues/default/tasks"
    assert ask(front.port, "POST", path, TASK)[0] == 401
    assert ask(front.port, "POST", path, TASK, {"Authorization": "Bearer wrong"})[0] == 401
    assert ask(front.port, "POST", path, TASK, {"Authorization": f"Bearer {token}"})[0] == 201
    assert ask(front.port, "GET", "/v1/tasks", None, {"Authorization": f"Bearer {token}"})[0] == 403
    assert token not in front.daemon.log
    assert front.daemon.stop() == 0


# -- signals


def test_reload_takes_up_queues_and_limits_without_dropping_a_connection(stage: Stage, front: FrontDaemon) -> None:
    front.start()
    client = http.client.HTTPConnection("127.0.0.1", front.port, timeout=10)
    with contextlib.closing(client):
        big = {**TASK, "body": "x" * 2_000}
        assert ask_on(client, "POST", "/v1/queues/default/tasks", big)[0] == 201
        sock = client.sock
        front.configure("max_body: 1k\nqueues: one", "[http_two]\nrate_limit: 5/s")
        front.daemon.send(signal.SIGHUP)
        front.daemon.logged("reloaded: queues=2")
        assert set(queues(front.port)) == {"default", "one", "two"}
        assert queues(front.port)["two"]["rate_limit"] == "5/s"
        assert ask_on(client, "GET", "/v1/queues/two")[0] == 200
        assert client.sock is sock, "the connection was kept"
        front.configure("max_body: nonsense\nqueues: three")
        front.daemon.send(signal.SIGHUP)
        front.daemon.logged("not reloaded: the config has 1 faults; nothing was changed")
        assert ask_on(client, "GET", "/v1/queues/three")[0] == 404
        assert client.sock is sock
        assert ask(front.port, "POST", "/v1/queues/default/tasks", big)[0] == 413, "the limit of before"
        stage.configure(f"[http]\nlisten: 127.0.0.1:1\nbook: {front.book}\n")
        front.daemon.send(signal.SIGHUP)
        front.daemon.logged("reloaded, but for what needs a restart: keys=listen")
        assert ask_on(client, "GET", "/v1/queues/two")[0] == 200, "it belongs to the API now"
        assert client.sock is sock
    assert front.daemon.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_answers_what_it_has(front: FrontDaemon, number: int) -> None:
    front.start()
    task = ask(front.port, "POST", "/v1/queues/default/tasks", TASK)[1]
    answers: list[tuple[int, Any]] = []
    path = f"/v1/tasks/{task['id']}"
    waiting = threading.Thread(
        target=lambda: answers.append(ask(front.port, "GET", path, headers={"Prefer": "wait=60"}))
    )
    idle = http.client.HTTPConnection("127.0.0.1", front.port)
    ask_on(idle, "GET", "/health/live")
    waiting.start()
    time.sleep(0.5)  # nothing tells that it waits
    began = time.monotonic()
    front.daemon.send(number)
    waiting.join(10)
    assert [status for status, _task in answers] == [202], "who waits for a task is told how it is"
    assert front.daemon.wait(5) == 0 and time.monotonic() - began < 5
    idle.close()
    assert "Traceback" not in front.daemon.log
    front.start()
    assert ask(front.port, "GET", path)[1]["state"] == "scheduled"
    assert front.daemon.stop() == 0


def slow_client(port: int) -> socket.socket:
    """A client that sends half of a request."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(b"POST /v1/queues/default/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    return sock


def test_the_end_waits_no_longer_than_stop_timeout_and_a_second_signal_ends_it_at_once(
    stage: Stage, front: FrontDaemon
) -> None:
    front.configure("", "[workerpool]\nstop_timeout: 2s")
    front.start()
    with slow_client(front.port):
        time.sleep(0.3)  # the request must be under way
        began = time.monotonic()
        assert front.daemon.stop(8) == 0
        assert 1.5 < time.monotonic() - began < 6
    front.configure("", "[workerpool]\nstop_timeout: 30s")
    front.start()
    with slow_client(front.port):
        time.sleep(0.3)
        began = time.monotonic()
        front.daemon.send(signal.SIGTERM)
        time.sleep(0.3)
        assert front.daemon.running, "it lets the client finish"
        assert front.daemon.stop(5) == 0
        assert time.monotonic() - began < 4
    assert "Traceback" not in front.daemon.log


# -- several processes


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A service manager's socket, and what came."""
    path = Path("/var/tmp") / f"taskqueue-notify-{os.getpid()}.sock"
    came: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        path.chmod(0o777)

        def listen() -> None:
            with contextlib.suppress(OSError):
                while data := sock.recv(4096):
                    came.append(data.decode())

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield path, came
        sock.shutdown(socket.SHUT_RDWR)
    path.unlink()


def test_several_processes_share_the_sockets_and_the_dead_are_replaced(
    stage: Stage, front: FrontDaemon, postgresql: PrivatePostgresql, notified: tuple[Path, list[str]]
) -> None:
    front.book = postgresql.make_database("several")
    front.configure("processes: 3")
    front.daemon.env["NOTIFY_SOCKET"] = str(notified[0])
    front.daemon.start()
    front.daemon.logged("all processes serve: processes=3", 30)
    assert notified[1].count("READY=1") == 1, notified[1]
    theirs = processes.descendants(front.daemon.pid)
    assert sorted(map(processes.title, theirs)) == [f"taskqueue: http {number}" for number in (1, 2, 3)]
    assert len(postgresql.sql("SELECT id FROM fronts", "several")) == 3, "each has an identity of its own"

    victim = min(theirs)
    processes.kill(victim)
    front.daemon.logged("process died, another is started in .* signal SIGKILL")
    wait_for(lambda: len(alive(front)) == 3 and victim not in alive(front), 15, "it is replaced")
    front.daemon.logged("front started", 15, count=4)
    for _ in range(30):
        assert ask(front.port, "POST", "/v1/queues/default/tasks", TASK)[0] == 201

    front.configure("processes: 3\nqueues: fresh")
    front.daemon.send(signal.SIGHUP)
    front.daemon.logged("reloaded: queues=1", 10, count=3)
    assert "fresh" in queues(front.port)
    assert front.daemon.stop() == 0
    assert front.daemon.log.count("front stopped") == 3 and "Traceback" not in front.daemon.log
    assert any(message.startswith("STOPPING=1") for message in notified[1])

    front.daemon.start()
    front.daemon.logged("all processes serve", 30, count=2)
    theirs = alive(front)
    processes.kill(front.daemon.pid)
    front.daemon.wait()
    processes.wait_gone(theirs, 10)
    postgresql.drop_database("several")


def alive(front: FrontDaemon) -> set[int]:
    """The living processes of a front."""
    return {pid for pid in processes.descendants(front.daemon.pid) if processes.alive(pid)}


def test_several_processes_say_once_what_is_wrong(stage: Stage, front: FrontDaemon) -> None:
    front.book = "postgresql://tester:s3cret-Passw0rd@127.0.0.1:1/nobody"
    front.configure("processes: 4")
    assert "refused" in refused(stage)
