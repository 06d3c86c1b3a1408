"""The packages on a host that has booted systemd: notify, watchdog, reload, stop, journal, credential, sandbox."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from hosts import Host
from package_http import LOGS, Target, check_delivery, enqueue
from packages import Packages

ROLES = ("dispatcher", "workerpool", "http")
SECURITY = {"dispatcher": 15, "workerpool": 35, "http": 15}
"""Exposure, in tenths, that `systemd-analyze security` may find at most."""
PROBE = """
from pathlib import Path
from taskqueue.worker import BaseWorker
import os, time

class Worker(BaseWorker):
    def handle_task(self, body):
        if body == "fail":
            os._exit(7)
        if body.startswith("sleep "):
            time.sleep(float(body.split()[1]))
            return "slept"
        try:
            Path(body).write_text("x")
        except OSError as error:
            return f"{body}: {error.strerror}"
        return f"{body}: written"
"""
SETUP = (
    "from setuptools import setup\n"
    "setup(name='poke', version='1', py_modules=['poke'],"
    " entry_points={'worker.plugins': ['poke = poke:Worker.factory']})\n"
)


def unit(role: str) -> str:
    """The unit's name."""
    return f"python-taskqueue-{role}.service"


def shown(host: Host, role: str, key: str) -> str:
    """A property of a unit."""
    return host.run(f"systemctl show --value -p {key} {unit(role)}").strip()


def journal(host: Host, *matches: str) -> list[dict[str, str]]:
    """The entries that have these fields."""
    lines = host.run(f"journalctl -q --all -o json {' '.join(matches)}").splitlines()
    return [json.loads(line) for line in lines]


def ask(host: Host, body: str, *, deadline_s: float = 60) -> str:
    """Send one workitem to the worker type `poke`; gives its result, once it is there."""
    host.run(f"amqp-publish --routing-key=taskqueue --body='poke {body}'")
    return host.wait_for("amqp-get --queue=results", deadline_s, otherwise="journalctl -q -n 50")


def test_units(packages: Packages, systemd_template: Path, make_host: Callable[..., Host]) -> None:
    host = make_host(systemd_template, f"systemd-{packages.release}")
    host.boot()
    host.run(f"apt-get install --yes {packages.installed} rabbitmq-server amqp-tools curl")
    for role in ROLES:
        assert shown(host, role, "ActiveState") == "active", host.run("journalctl -q -n 50")
        assert shown(host, role, "Type") == "notify"
        assert host.run(f"systemd-analyze --man=no verify {unit(role)}") == ""
        host.run(f"systemd-analyze security --threshold={SECURITY[role]} {unit(role)}")
        assert host.run(f"systemctl is-active taskqueue-{role}").strip() == "active", "the short name too"

    host.run("amqp-declare-queue --durable --queue=taskqueue; amqp-declare-queue --durable --queue=results")
    plugin_from_pip(host)
    for role in ("dispatcher", "http"):
        watchdog(host, role)
    tasks_over_http(host)
    sandbox(host)
    journal_fields(host)
    credential(host)
    init_script_and_trigger(host, packages)
    stop_within_its_time(host)


def plugin_from_pip(host: Host) -> None:
    """Installed into /usr/local, with no dpkg to tell of it: a reload is enough."""
    (host.root / "root" / "poke").mkdir()
    for name, text in (("poke.py", PROBE), ("setup.py", SETUP)):
        (host.root / "root" / "poke" / name).write_text(text)
    local = host.run(
        "python3 -c 'import sys; print(\"/usr/local/lib/python%d.%d/dist-packages\" % sys.version_info[:2])'"
    )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", host.root / local.strip("/\n"), host.root / "root" / "poke"], check=True)
    was = shown(host, "workerpool", "MainPID")
    host.run("systemctl reload python-taskqueue-workerpool")
    assert ask(host, "/tmp/poke") == "/tmp/poke: written"
    assert shown(host, "workerpool", "MainPID") == was


def watchdog(host: Host, role: str) -> None:
    """A daemon that hangs is restarted: nothing else would notice."""
    drop_ins = f"/run/systemd/system/{unit(role)}.d"
    host.run(f"mkdir -p {drop_ins}; printf '[Service]\\nWatchdogSec=3s\\n' >{drop_ins}/w.conf")
    host.run(f"systemctl daemon-reload && systemctl restart {unit(role)}")
    was = shown(host, role, "MainPID")
    host.run(f"kill -STOP {was}")
    host.wait_for(f"systemctl show -p NRestarts {unit(role)} | grep -x NRestarts=1")
    host.wait_for(f"systemctl is-active {unit(role)}")
    assert shown(host, role, "MainPID") != was
    assert ask(host, "/tmp/poke") == "/tmp/poke: written"
    host.run(f"rm -r {drop_ins} && systemctl daemon-reload && systemctl restart {unit(role)}")


def tasks_over_http(host: Host) -> None:
    """From the front to a web server and back; what waits outlives a restart; the socket outlives the pool's stop."""
    target = Target(host)
    check_delivery(host, target)
    (host.root / "etc" / "taskqueue" / "conf.d" / "http.ini").write_text(
        "[http]\nlisten: 127.0.0.1:8088, unix:/run/taskqueue/http.sock\n"
    )
    due_later = enqueue(host, more="-d task.countdown=3")
    host.run(f"systemctl restart {unit('http')}")
    target.received(due_later)
    host.run(f"systemctl stop {unit('workerpool')}")
    over_socket = enqueue(host, more="--unix-socket /run/taskqueue/http.sock")
    host.run(f"systemctl start {unit('workerpool')}")
    target.received(over_socket)
    assert host.run("stat -c '%U %G %a' /run/taskqueue /run/taskqueue/http.sock /var/lib/taskqueue").splitlines() == [
        "root taskqueue 1775",
        "taskqueue taskqueue 660",
        "taskqueue taskqueue 750",
    ]
    was = shown(host, "http", "MainPID")
    host.run(f"systemctl reload {unit('http')}")
    check_delivery(host, target)
    assert shown(host, "http", "MainPID") == was
    assert shown(host, "http", "LimitNOFILE") == "65536"
    host.run("rm /etc/taskqueue/conf.d/http.ini")
    target.close()


def sandbox(host: Host) -> None:
    """In force for a plugin, for the dispatcher, and for the front."""
    assert ask(host, "/usr/poke") == "/usr/poke: Read-only file system"
    assert ask(host, "/etc/poke") == "/etc/poke: Read-only file system"
    assert not host.run("ls /tmp/poke 2>/dev/null || true"), "its /tmp is its own"
    for role in ("dispatcher", "http"):
        main = shown(host, role, "MainPID")
        lines = host.run(f"cat /proc/{main}/status").splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0
        assert (status["NoNewPrivs"], status["Seccomp"], status["Umask"]) == ("1", "2", "0077")
        denied = host.run(f"nsenter --mount --target {main} touch /var/poke 2>&1 || true")
        assert "Read-only file system" in denied


def journal_fields(host: Host) -> None:
    """Ids are fields, the priority is right, the process that said it is known."""
    host.run("amqp-publish --routing-key=taskqueue --body='poke fail' --message-id=m-1 2>/dev/null || "
             "amqp-publish --routing-key=taskqueue --body='poke fail'")  # fmt: skip
    host.wait_for("journalctl -q -o json TASKQUEUE_GROUP=poke PRIORITY=4 | grep -q 'worker died'")
    died = next(found for found in journal(host, "TASKQUEUE_GROUP=poke", "PRIORITY=4") if "died" in found["MESSAGE"])
    assert died["SYSLOG_IDENTIFIER"].startswith("taskqueue") and died["SYSLOG_FACILITY"] == "3"
    assert died["_SYSTEMD_UNIT"] == unit("workerpool")
    assert died["TASKQUEUE_PID"].isdigit() and died["TASKQUEUE_TASKS"]
    assert f"task={died['TASKQUEUE_TASKS']}" in died["MESSAGE"].replace("tasks=", "task=")
    host.wait_for("amqp-get --queue=results")


def credential(host: Host) -> None:
    """The password from a file for root alone; neither config.ini nor the environment has it."""
    host.run("rabbitmqctl change_password guest s3cret-in-file")
    host.run("install -D -m 600 /dev/stdin /etc/credstore/taskqueue.amqp_passwd <<<s3cret-in-file")
    host.run(f"systemctl restart {' '.join(map(unit, ROLES))}")
    url = "--url=amqp://guest:s3cret-in-file@localhost"
    host.run(f"amqp-publish {url} --routing-key=taskqueue --body='poke /tmp/again'")
    host.wait_for(f"amqp-get {url} --queue=results", otherwise="journalctl -q -n 50")
    host.wait_for('curl -s http://127.0.0.1:8088/health/ready | grep \'"broker": *"up"\'', otherwise=LOGS)
    host.run("taskqueue doctor | grep -P '^ok\\tconnection'")  # it finds the credential, too
    assert "s3cret" not in host.run(
        "journalctl -q; cat /proc/[0-9]*/environ | tr '\\0' '\\n'; cat /proc/[0-9]*/cmdline"
    )
    host.run("rabbitmqctl change_password guest guest && rm /etc/credstore/taskqueue.amqp_passwd")
    host.run(f"systemctl restart {' '.join(map(unit, ROLES))}")


def init_script_and_trigger(host: Host, packages: Packages) -> None:
    """The old way still works, through the units; a plugin's package reloads the pool."""
    assert host.status("/etc/init.d/python-taskqueue-workerpool status")[0] == 0
    was = shown(host, "workerpool", "MainPID")
    host.run(f"apt-get install --yes /root/{packages.plugin.name}")
    host.run("amqp-publish --routing-key=taskqueue --body='primes 6'")
    assert '"factors": [2, 3]' in host.wait_for("amqp-get --queue=results", otherwise="journalctl -q -n 50")
    assert shown(host, "workerpool", "MainPID") == was
    host.run("/etc/init.d/python-taskqueue-workerpool restart")
    assert shown(host, "workerpool", "MainPID") != was


def stop_within_its_time(host: Host) -> None:
    """A stop waits for what runs; longer than the unit says, where config.ini does."""
    host.run("printf '[workerpool]\\nstop_timeout: 40s\\n' >/etc/taskqueue/conf.d/patient.ini")
    host.run("mkdir -p /run/systemd/system/python-taskqueue-workerpool.service.d")
    host.run(
        "printf '[Service]\\nTimeoutStopSec=2s\\n' >/run/systemd/system/python-taskqueue-workerpool.service.d/t.conf"
    )
    host.run("systemctl daemon-reload && systemctl restart python-taskqueue-workerpool")
    host.run("amqp-publish --routing-key=taskqueue --body='poke sleep 8'")
    host.wait_for("rabbitmqctl -q list_queues name messages_unacknowledged | grep -P 'worker_poke\\t1'")
    host.run("systemctl stop python-taskqueue-workerpool")
    assert shown(host, "workerpool", "Result") == "success"
    assert host.wait_for("amqp-get --queue=results") == "slept"
    assert not host.run("grep -lsz [t]askqueue.worker /proc/[0-9]*/cmdline || true")
