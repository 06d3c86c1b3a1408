"""The two commands as an operator meets them: options, exit statuses, pid files, signals, users, brokers that fail."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

import processes
from broker import PrivateBroker
from daemons import NAP, URL_VARIABLE, Stage
from proxy import Proxy
from waiting import wait_for

ROLES = ("dispatcher", "workerpool")

PEEK = """
    import os
    from taskqueue.worker import BaseWorker

    def refused(path):
        try:
            with open(path, "rb") as file:
                file.read(1)
        except PermissionError:
            return True
        except OSError as error:
            return repr(error)
        return False

    class Worker(BaseWorker):
        def handle_task(self, body):
            names = ("environ", "mem", "maps")
            return {
                "refused": {f"{pid} {name}": refused(f"/proc/{pid}/{name}") for pid in body for name in names},
                "environ": dict(os.environ),
            }
"""

FAULTS = """\
[amqp]
hots: a
heartbeat: soon

[nap]
workers: -1
user: nosuchuser
"""


def faults(ran: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of a command that found faults, which must be all that it says."""
    assert ran.returncode == 2, ran
    assert "Traceback" not in ran.stderr and ran.stdout == ""
    return ran.stderr.splitlines()


# -- options and exit statuses


@pytest.mark.parametrize("role", ROLES)
class TestOptions:
    def test_version(self, stage: Stage, role: str) -> None:
        ran = stage.run(role, "--version")
        assert (ran.returncode, ran.stderr) == (0, "")
        assert re.fullmatch(rf"taskqueue-{role} \d+\.\d+\S*\n", ran.stdout)

    def test_check_of_a_good_config(self, stage: Stage, role: str) -> None:
        stage.site.install("nap", NAP)
        stage.configure("[nap]\nworkers: 3\n")
        ran = stage.run(role, "--check", "-c", stage.config_file)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.count("\n") == 1
        assert list(stage.run_dir.iterdir()) == [], "nothing was started"

    def test_check_of_a_bad_config(self, stage: Stage, role: str) -> None:
        stage.site.install("nap", NAP)
        stage.configure(FAULTS)
        lines = faults(stage.run(role, "--check", "-c", stage.config_file))
        assert len(lines) == 4
        expected = [(2, ["hots", "'host'"]), (3, ["heartbeat"]), (6, ["workers"]), (7, ["user", "nosuchuser"])]
        for line, (number, words) in zip(lines, expected, strict=True):
            assert line.startswith(f"taskqueue-{role}: {stage.config_file}:{number}: ")
            assert all(word in line for word in words), line

    def test_start_with_a_bad_config(self, stage: Stage, role: str) -> None:
        stage.configure(FAULTS)
        assert faults(stage.run(role, "-f", "-c", stage.config_file, "-p", stage.run_dir / "x.pid"))
        assert faults(stage.run(role, "-c", stage.config_file, "-p", stage.run_dir / "x.pid"))
        assert list(stage.run_dir.iterdir()) == []

    def test_config_file_that_is_not_there(self, stage: Stage, role: str) -> None:
        missing = stage.directory / "missing.ini"
        (line,) = faults(stage.run(role, "-f", "-c", missing))
        assert str(missing) in line

    @pytest.mark.parametrize("arguments", [["--nonsense"], ["-c"], ["word"]])
    def test_bad_usage(self, stage: Stage, role: str, arguments: list[str]) -> None:
        lines = faults(stage.run(role, *arguments))
        assert lines[0].startswith("usage: ") and lines[-1].startswith(f"taskqueue-{role}: error: ")

    def test_bad_url_in_the_environment(self, stage: Stage, role: str) -> None:
        stage.amqp_url = "amqp://guest:s3cret@host:port:more/"
        (line,) = faults(stage.run(role, "--check"))
        assert URL_VARIABLE in line and "s3cret" not in line

    def test_pid_file_that_cannot_be_written(self, stage: Stage, role: str) -> None:
        stage.configure("")
        (stage.directory / "file").touch()
        ran = stage.run(role, "-c", stage.config_file, "-p", stage.directory / "file" / "x.pid")
        assert ran.returncode == 1
        assert len(ran.stderr.splitlines()) == 1 and "Traceback" not in ran.stderr


def test_the_console_scripts_as_installed(stage: Stage) -> None:
    for role in ROLES:
        script = Path(sys.prefix, "bin", f"taskqueue-{role}")
        ran = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=20, check=True)
        assert ran.stdout.startswith(f"taskqueue-{role} ")
    stage.site.install("nap", NAP)
    stage.configure("")
    for daemon in (stage.dispatcher, stage.pool):
        daemon.command[:3] = [str(stage.site.script(f"taskqueue-{daemon.name}"))]
    stage.start("nap")
    stage.amqp.submit("nap 0", message_id="by-script")
    stage.amqp.take_for("by-script")
    assert stage.pool.stop() == stage.dispatcher.stop() == 0


def test_no_config_file_at_all(stage: Stage) -> None:
    stage.site.install("nap", NAP)
    stage.site.install("peek", PEEK)
    for daemon in (stage.dispatcher, stage.pool):
        at = daemon.command.index("-c")
        del daemon.command[at : at + 2]
        if Path("/etc/taskqueue").exists():  # this host's own config is not ours to use
            hide = 'mount -t tmpfs none /etc/taskqueue && exec "$@"'
            daemon.command[:0] = ["unshare", "--mount", "--propagation=private", "sh", "-c", hide, "sh"]
    stage.start("nap", "peek")
    assert [len(stage.pool.workers(name)) for name in ("nap", "peek")] == [1, 1]
    stage.amqp.submit("nap 0", message_id="no-config")
    stage.amqp.take_for("no-config")


def test_no_plugin_at_all(stage: Stage) -> None:
    stage.start()
    assert stage.pool.status()["groups"] == []
    stage.pool.logged("INFO .*no worker type to run yet: waiting for a plugin")
    assert stage.pool.stop() == 0


# -- in the background


def daemonise(stage: Stage, role: str) -> int:
    """Start a daemon as an init script does; its pid."""
    pid_file = stage.run_dir / f"{role}.pid"
    ran = stage.run(role, "-c", stage.config_file, "-p", pid_file, deadline_s=10)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    return wait_for(lambda: pid_in(pid_file), 5, f"{pid_file} names a process")


def pid_in(pid_file: Path) -> int:
    """The process that a pid file names; 0 for none."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int(pid_file.read_text())
    return 0


def ended(pid: int, deadline_s: float = 10.0) -> int:
    """The exit status of a daemon, which is ours to reap: its own parent has gone long ago."""
    status: list[int] = []

    def reaped() -> bool:
        if (code := processes.reap(pid)) is not None:
            status.append(code)
        return bool(status)

    wait_for(reaped, deadline_s, f"{pid} ended")
    return status[0]


def test_daemons_in_the_background(stage: Stage) -> None:
    stage.site.install("nap", NAP)
    stage.configure("")
    pids = {role: daemonise(stage, role) for role in ROLES}
    try:
        for role, pid in pids.items():
            wait_for(lambda pid=pid, role=role: processes.title(pid) == f"taskqueue: {role}", 5, "it has its title")  # type: ignore[misc]
            session, terminal = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3:5]
            assert int(session) != os.getsid(0) and terminal == "0"
            if os.geteuid() == 0 or role == "workerpool":  # the dispatcher hides from all but root
                assert str(Path(f"/proc/{pid}/cwd").readlink()) == "/"
                assert {str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in range(3)} == {"/dev/null"}
            assert int(processes.status(pid)["Umask"], 8) == 0o022
            file = stage.run_dir / f"{role}.pid"
            assert file.stat().st_mode & 0o777 == 0o644

            again = stage.run(role, "-c", stage.config_file, "-p", file)
            assert again.returncode == 1
            assert again.stderr == f"taskqueue-{role}: already running: pid {pid} ({file})\n"
            again = stage.run(role, "-f", "-c", stage.config_file, "-p", file)
            assert again.returncode == 1 and "already running" in again.stderr
            assert processes.alive(pid) and pid_in(file) == pid

        stage.amqp.declare("taskqueue")
        stage.amqp.declare("results")
        stage.amqp.submit("nap 0", message_id="in-background")
        stage.amqp.take_for("in-background")

        for role, pid in pids.items():
            theirs = processes.descendants(pid)
            assert theirs or role == "dispatcher"
            os.kill(pid, signal.SIGTERM)
            assert ended(pid) == 0
            processes.wait_gone(theirs)
            assert pid_in(stage.run_dir / f"{role}.pid") == 0, "gone, or emptied where its directory is not ours"
    finally:
        for pid in pids.values():
            processes.kill(pid)
        processes.wait_gone(pids.values())


@pytest.mark.parametrize("role", ROLES)
def test_stale_pid_file_is_taken_over(stage: Stage, role: str) -> None:
    stage.configure("")
    file = stage.run_dir / f"{role}.pid"
    first = daemonise(stage, role)
    theirs = processes.descendants(first)
    processes.kill(first)
    assert ended(first) == -signal.SIGKILL
    processes.wait_gone(theirs)
    assert pid_in(file) == first, "nobody has tidied up"
    second = daemonise(stage, role)
    try:
        wait_for(lambda: pid_in(file) == second != first and processes.alive(second), 5, "the second one runs")
    finally:
        os.kill(second, signal.SIGTERM)
        assert ended(second) == 0


@pytest.mark.parametrize("content", ["", "garbage\n", "999999999\n", "own"])
def test_pid_file_that_names_no_taskqueue(stage: Stage, content: str) -> None:
    stage.configure("")
    file = stage.run_dir / "dispatcher.pid"
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            file.write_text(f"{other.pid}\n" if content == "own" else content)  # it is somebody else's by now
            stage.dispatcher.start()
            wait_for(lambda: pid_in(file) == stage.dispatcher.pid, 10, "taken over", otherwise=stage.dispatcher.tail)
            stage.dispatcher.logged("dispatcher started")
            assert other.poll() is None
        finally:
            other.kill()
    assert stage.dispatcher.stop() == 0
    assert pid_in(file) == 0


# -- stopping


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_as_soon_as_there_is_a_pid_file(stage: Stage, role: str, number: int) -> None:
    """An init script, or a dpkg trigger, may be as fast as that."""
    stage.configure("")
    daemon = stage.pool if role == "workerpool" else stage.dispatcher
    file = stage.run_dir / f"{role}.pid"
    daemon.start()
    wait_for(lambda: pid_in(file) == daemon.pid, 10, "there is a pid file", poll_s=0.0)
    daemon.send(number)
    if number == signal.SIGHUP:
        daemon.logged("reloaded: nothing changed|reloading: groups=0")
        daemon.send(signal.SIGTERM)
    assert daemon.wait(5) == 0
    assert pid_in(file) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_of_an_idle_pool_and_dispatcher(stage: Stage, number: int) -> None:
    stage.site.install("nap", NAP)
    stage.start("nap")
    assert stage.pool.stop(deadline_s=3, number=number) == 0
    assert stage.dispatcher.stop(deadline_s=3, number=number) == 0
    assert [pid_in(stage.run_dir / f"{role}.pid") for role in ROLES] == [0, 0]
    assert "Traceback" not in stage.pool.log + stage.dispatcher.log


def test_stop_lets_finish_what_runs(stage: Stage) -> None:
    stage.site.install("nap", NAP)
    stage.start("nap")
    stage.amqp.submit("nap 1.5", message_id="runs")
    stage.pool.running_task("nap", "runs")
    stage.amqp.submit("nap 0", message_id="waits")
    wait_for(lambda: stage.pool.generation("nap")["prefetch"] == 1, 5, "one is prefetched")
    assert stage.pool.stop(deadline_s=5) == 0
    assert stage.amqp.take_for("runs", deadline_s=1).headers["attempt"] == 1
    waiting = stage.amqp.take_for("waits", "worker_nap", deadline_s=2)
    assert (waiting.headers, waiting.returned) == ({}, 0), "handed back as it came"
    assert stage.amqp.take_now("results") is None


def test_second_signal_stops_at_once(stage: Stage) -> None:
    stage.site.install("nap", NAP)
    stage.start("nap")
    stage.amqp.submit("nap 120", message_id="long")
    pid = stage.pool.running_task("nap", "long")
    stage.pool.send(signal.SIGTERM)
    stage.pool.logged("stopping: groups=1")
    wait_for(lambda: stage.pool.group("nap").get("state") == "stopping", 5, "it stops")
    assert processes.alive(pid), "what runs may go on"
    assert stage.pool.stop(deadline_s=5) == 0
    back = stage.amqp.take_for("long", "worker_nap", deadline_s=2)
    assert back.text == "120"
    assert (back.headers, back.returned) == ({}, 0), "an operator's stop is no attempt, no crash, no failed delivery"


def test_stop_timeout(stage: Stage) -> None:
    stage.site.install("nap", NAP)
    stage.configure("[workerpool]\nstop_timeout: 500ms\n")
    stage.start("nap")
    stage.amqp.submit("nap 120", message_id="long")
    stage.pool.running_task("nap", "long")
    assert stage.pool.stop(deadline_s=6) == 0
    back = stage.amqp.take_for("long", "worker_nap", deadline_s=2)
    assert (back.headers, back.returned) == ({}, 0)


# -- who they are


@pytest.mark.root_only
@pytest.mark.parametrize("background", [False, True])
def test_dispatcher_gives_up_root(stage: Stage, background: bool) -> None:
    stage.configure("")
    if background:
        pid = daemonise(stage, "dispatcher")
    else:
        stage.dispatcher.start()
        stage.dispatcher.logged("dispatcher started")
        pid = stage.dispatcher.pid
    entry = pwd.getpwnam("taskqueue")
    try:
        wait_for(lambda: stage.amqp.consumers("taskqueue") == 1, 10, "it works as that user")
        status = processes.status(pid)
        assert status["Uid"].split() == [str(entry.pw_uid)] * 4
        assert status["Gid"].split() == [str(entry.pw_gid)] * 4
        assert sorted(map(int, status["Groups"].split())) == sorted(os.getgrouplist("taskqueue", entry.pw_gid))
        for name in processes.CAPABILITIES:
            assert int(status[name], 16) == 0, name
    finally:
        os.kill(pid, signal.SIGTERM)
        if background:
            assert ended(pid) == 0


# -- brokers that fail


def test_broker_that_comes_late(stage: Stage, broker: PrivateBroker, vhost: str) -> None:
    with Proxy(target_port=9) as proxy:  # nothing answers behind it
        stage.site.install("nap", NAP)
        stage.configure("")
        for daemon in (stage.dispatcher, stage.pool):
            daemon.env[URL_VARIABLE] = proxy.url(vhost)
            daemon.start()
        wait_for(lambda: proxy.accepted >= 6, 20, "both have tried again and again")
        for daemon in (stage.dispatcher, stage.pool):
            assert len(daemon.logged("WARNING .*broker not reachable")) == 1, "a line a change"
        assert stage.pool.generation("nap")["broker"]["connected"] is False
        assert stage.dispatcher.running and stage.pool.running

        proxy.target_port = broker.port
        for daemon in (stage.dispatcher, stage.pool):
            daemon.logged("broker connected", 10)
        stage.pool.wait_running("nap")
        wait_for(lambda: stage.amqp.consumers("taskqueue") == 1, 10, "dispatcher consumes")
        stage.amqp.submit("nap 0", message_id="at-last")
        stage.amqp.take_for("at-last")

        proxy.target_port = 9
        proxy.cut()
        for daemon in (stage.dispatcher, stage.pool):
            daemon.logged("WARNING .*broker connection lost")
        before = proxy.accepted
        wait_for(lambda: proxy.accepted >= before + 4, 20, "both have tried again and again")
        for daemon in (stage.dispatcher, stage.pool):
            assert len(daemon.logged("broker (connection lost|not reachable)")) <= 3
        proxy.target_port = broker.port
        for daemon in (stage.dispatcher, stage.pool):
            daemon.logged("broker connected", 10, count=2)
        stage.pool.stop()
        stage.dispatcher.stop()


def test_stop_while_a_plugin_is_being_imported(stage: Stage) -> None:
    """The listener has nothing to wait for, and says so to a template that has not forked its workers yet."""
    stage.site.install("slow", "import time\ntime.sleep(2)\n" + textwrap.dedent(NAP))
    stage.configure("")
    stage.pool.start()
    stage.pool.logged("broker connected")
    assert stage.pool.stop(deadline_s=15) == 0
    stage.pool.logged("workerpool stopped")


def test_stop_while_there_is_no_broker(stage: Stage) -> None:
    stage.site.install("nap", NAP)
    stage.configure("")
    for daemon in (stage.dispatcher, stage.pool):
        daemon.env[URL_VARIABLE] = "amqp://guest:guest@127.0.0.1:9/x"
        daemon.start()
        daemon.logged("WARNING .*broker not reachable: .*connection refused")
        assert daemon.stop() == 0


def add_user(broker: PrivateBroker, vhost: str, user: str, password: str) -> None:
    """Add a user who may do everything in the vhost."""
    binary = "<<{}>>".format(",".join(map(str, vhost.encode())))
    broker.eval(
        f'ok = rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"{password}">>, <<"test">>), '
        f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, {binary}, '
        '<<".*">>, <<".*">>, <<".*">>, <<"test">>).'
    )


def test_wrong_password(stage: Stage, broker: PrivateBroker, vhost: str) -> None:
    user, password = f"late{os.getpid()}", "wr0ng-s3cret"
    stage.site.install("nap", NAP)
    stage.configure("")
    for daemon in (stage.dispatcher, stage.pool):
        daemon.env[URL_VARIABLE] = broker.url(vhost, user, password)
        daemon.start()
        (line,) = daemon.logged("broker not reachable")
        assert " ERROR " in line and "refuses the user or password" in line
    add_user(broker, vhost, user, password)  # a person has acted: no restart is needed
    for daemon in (stage.dispatcher, stage.pool):
        daemon.logged("broker connected", 20)
        assert len(daemon.logged("broker not reachable")) == 1
        assert password not in daemon.log and "Traceback" not in daemon.log


@pytest.mark.parametrize("where", ["environment", "config"])
def test_password_is_nowhere_to_be_seen(stage: Stage, broker: PrivateBroker, vhost: str, where: str) -> None:
    user, password = f"{where}{os.getpid()}", "s3cret-Passw0rd"
    add_user(broker, vhost, user, password)
    stage.site.install("peek", PEEK)
    stage.configure(
        f"[amqp]\nhost: 127.0.0.1\nport: {broker.port}\nvhost: {vhost}\nuser: {user}\npasswd: {password}\n"
        if where == "config"
        else ""
    )
    for daemon in (stage.dispatcher, stage.pool):
        daemon.command.append("--verbose")
        daemon.env["SPT_NOENV"] = "1"  # setproctitle would write titles over /proc/PID/environ
        if where == "config":
            del daemon.env[URL_VARIABLE]
        else:
            daemon.env[URL_VARIABLE] = broker.url(vhost, user, password)
    stage.start("peek")

    secret = password.encode()
    theirs = processes.descendants(stage.pool.pid)
    assert len(theirs) == 3
    for pid in {stage.pool.pid, stage.dispatcher.pid, *theirs}:
        assert password not in processes.title(pid)
    for pid in theirs:
        try:
            environ = processes.environ(pid)
        except PermissionError:
            assert os.geteuid() != 0, "hidden from everyone but root"
            continue
        assert b"LOGNAME=" in environ and secret not in environ and URL_VARIABLE.encode() not in environ

    holders = [stage.pool.helper("peek", "listener"), stage.dispatcher.pid]
    stage.amqp.submit_json({"worker_type": "peek", "workitem": holders}, message_id="peek-1")
    said = stage.amqp.take_for("peek-1").json()
    assert set(said["refused"].values()) == {True}, "not even to a worker that runs as the same user"
    assert password not in str(said["environ"])
    stage.amqp.submit("peek not-a-list-of-pids", message_id="peek-2")  # an error is logged, too
    stage.amqp.take_for("peek-2")
    assert stage.pool.stop() == stage.dispatcher.stop() == 0
    assert password not in stage.pool.log + stage.dispatcher.log


def test_broker_restart_loses_nothing(stage: Stage, broker: PrivateBroker) -> None:
    stage.site.install("nap", NAP)
    stage.configure("[nap]\nworkers: 2\n")
    stage.start("nap")
    ids = [f"r{number}" for number in range(300)]
    stage.amqp.submit_many((b"nap 0.04", {"message_id": each}) for each in ids)
    # 2 s: a quorum queue of RabbitMQ 3.10 that is younger when its node is killed may never have a leader again
    wait_for(lambda: stage.amqp.depth("results") >= 110, 20, "a third is done")
    before = stage.pool.pids("nap")
    broker.kill()
    try:
        for daemon in (stage.dispatcher, stage.pool):
            daemon.logged("broker connection lost")
    finally:
        broker.start()
    for daemon in (stage.dispatcher, stage.pool):
        daemon.logged("broker connected", 20, count=2)
    messages = stage.amqp.consume(
        "results", 60, lambda taken: {message.properties.message_id for message in taken} >= set(ids)
    )
    runs = Counter(message.properties.message_id for message in messages)
    assert runs.keys() == set(ids)
    print(f"ledger of a broker's restart: workitems={len(ids)} results={len(messages)}")
    assert len(messages) <= len(ids) + 40, "only what was under way may come twice"
    assert stage.pool.pids("nap") == before, "no worker was disturbed"
    assert stage.amqp.take_now("taskqueue_dead") is None


def test_work_under_way_survives_a_cut(stage: Stage, broker: PrivateBroker, vhost: str) -> None:
    with Proxy(broker.port) as proxy:
        stage.site.install("nap", NAP)
        stage.pool.env[URL_VARIABLE] = proxy.url(vhost)
        stage.start("nap")
        stage.amqp.submit("nap 2", message_id="through")
        pid = stage.pool.running_task("nap", "through")
        proxy.cut()
        stage.pool.logged("broker connected", count=2)
        result = stage.amqp.take_for("through")
        assert result.headers["attempt"] == 1
        wait_for(lambda: not stage.pool.workers("nap", {"running"}), 5, "it is done")
        assert stage.pool.pids("nap") == {pid}
        assert stage.pool.generation("nap")["counts"]["succeeded"] == 1, "not run again"
        stage.pool.stop()


def test_reload_of_the_dispatcher(stage: Stage) -> None:
    stage.configure("[dispatcher]\nmax_body: 1K\n")
    stage.dispatcher.start()
    wait_for(lambda: stage.amqp.consumers("taskqueue") == 1, 10, "dispatcher consumes")
    big = b"raw " + b"x" * 2000
    stage.amqp.submit(big, message_id="too-large")
    stage.amqp.take_for("too-large", "taskqueue_dead")

    stage.configure("[dispatcher]\nmax_body: big\n")
    stage.dispatcher.send(signal.SIGHUP)
    stage.dispatcher.logged(r"ERROR .*config.ini:2: ")
    stage.dispatcher.logged("not reloaded")
    stage.amqp.submit(big, message_id="still-too-large")
    stage.amqp.take_for("still-too-large", "taskqueue_dead")

    stage.configure("[dispatcher]\nmax_body: 1M\n")
    stage.dispatcher.send(signal.SIGHUP)
    stage.dispatcher.logged("reloaded: connecting anew")
    stage.dispatcher.logged("broker connected", count=2)
    wait_for(lambda: stage.amqp.consumers("taskqueue") == 1, 10, "only the new one consumes")
    stage.amqp.submit(big, message_id="not-too-large")
    stage.amqp.take_for("not-too-large", "worker_raw")
    assert stage.dispatcher.stop() == 0


def test_two_dispatchers_share(stage: Stage) -> None:
    second = stage.another("dispatcher", "dispatcher2")
    stage.start()
    second.start()
    wait_for(lambda: stage.amqp.consumers("taskqueue") == 2, 10, "both consume")
    for number in range(200):
        stage.amqp.submit(f"raw {number}")
    bodies = {message.text for message in stage.amqp.take_many("worker_raw", 200)}
    assert bodies == {str(number) for number in range(200)}
    dispatched = []
    for daemon in (stage.dispatcher, second):
        assert daemon.stop() == 0
        (line,) = daemon.logged("dispatcher stopped")
        dispatched.append(int(line.rpartition("dispatched=")[2].split()[0]))
    assert sum(dispatched) == 200 and min(dispatched) > 0
