"""The packages on a host without systemd, as an operator meets them: install, init.d, plugin, upgrade, purge."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from hosts import Host
from package_http import LOGS, Target, check_delivery, enqueue, webhook_processes
from packages import Packages

ROLES = ("dispatcher", "workerpool", "http")
FILES = "find / -xdev -path /root -prune -o -print"
NUMBERS = range(2, 302)


def start_all(host: Host) -> None:
    """The broker and all services, by hand."""
    host.run("/etc/init.d/rabbitmq-server start && rabbitmqctl await_startup")
    for role in ROLES:
        host.run(f"/etc/init.d/python-taskqueue-{role} start")
    host.run("amqp-declare-queue --durable --queue=taskqueue; amqp-declare-queue --durable --queue=results")


def submit(host: Host, number: int) -> str:
    """Send one workitem to the plugin; gives its result, once it is there."""
    host.run(f"amqp-publish --routing-key=taskqueue --body='primes {number}'")
    return host.wait_for("amqp-get --queue=results", otherwise="cat /var/log/syslog; rabbitmqctl list_queues")


def exit_status(host: Host, role: str, action: str) -> int:
    """Of the init script."""
    return host.status(f"/etc/init.d/python-taskqueue-{role} {action}")[0]


def pid(host: Host, role: str) -> int:
    """Of a daemon, as its pid file has it."""
    return int(host.run(f"cat /run/taskqueue/{role}.pid"))


def test_init_scripts_say_how_it_went(packages: Packages, template: Path, make_host: Callable[..., Host]) -> None:
    host = make_host(template, f"init-{packages.release}")
    host.start()
    for role in ROLES:
        assert exit_status(host, role, "status") == 127
    host.run(f"apt-get install --yes --no-install-recommends {packages.installed}")
    for role in ROLES:  # the package has started it, with no broker: that comes later
        assert exit_status(host, role, "status") == 0
        was = pid(host, role)
        assert exit_status(host, role, "start") == 0, "it runs already"
        assert exit_status(host, role, "reload") == exit_status(host, role, "force-reload") == 0
        assert pid(host, role) == was
        assert exit_status(host, role, "restart") == 0
        assert pid(host, role) != was
        assert exit_status(host, role, "stop") == 0
        assert exit_status(host, role, "stop") == 0, "it is stopped already"
        assert exit_status(host, role, "status") == 3
        assert exit_status(host, role, "reload") == 7
        assert exit_status(host, role, "try-restart") == 0
        assert exit_status(host, role, "status") == 3
        assert exit_status(host, role, "nonsense") == 2
        # killed: the pid file is left, and its number may be anybody's by now
        assert exit_status(host, role, "start") == 0
        host.run(f"kill -KILL {pid(host, role)}")
        assert exit_status(host, role, "status") == 1
        host.run(f"echo 1 >/run/taskqueue/{role}.pid")
        assert exit_status(host, role, "stop") == 0
        assert exit_status(host, role, "start") == 0
        assert exit_status(host, role, "stop") == 0
        # config
        host.run("echo 'worker: 1' >/tmp/bad && cat /etc/taskqueue/config.ini >/tmp/good")
        host.run("cat /tmp/bad >/etc/taskqueue/config.ini")
        status, said = host.status(f"/etc/init.d/python-taskqueue-{role} start")
        assert status == 6 and "/etc/taskqueue/config.ini:1: " in said
        host.run("mv /etc/taskqueue/config.ini /tmp/away")
        status, said = host.status(f"/etc/init.d/python-taskqueue-{role} start")
        assert status == 6 and "/etc/taskqueue/config.ini is missing" in said
        host.run("mv /tmp/away /etc/taskqueue/config.ini && cat /tmp/good >/etc/taskqueue/config.ini")
    host.run("apt-get remove --yes python-taskqueue-dispatcher")
    assert exit_status(host, "dispatcher", "status") in {4, 126}  # not installed, or the script not executable


def test_an_operators_way(packages: Packages, template: Path, make_host: Callable[..., Host]) -> None:
    host = make_host(template, f"way-{packages.release}")
    host.start()
    host.run("apt-get install --yes rabbitmq-server amqp-tools curl")
    before = host.run(FILES)
    host.run(f"apt-get install --yes {packages.installed}")
    start_all(host)
    assert host.run("stat -c '%U %G %a' /etc/taskqueue/config.ini /etc/taskqueue/conf.d").splitlines() == [
        "root taskqueue 640",
        "root taskqueue 750",
    ]
    assert host.run("stat -c %U /proc/$(cat /run/taskqueue/dispatcher.pid)").strip() == "taskqueue"
    pages = "dispatcher.8 workerpool.8 http.8 config.ini.5 submit.1"
    assert all(f"taskqueue-{page}" in host.run("ls /usr/share/man/man*") for page in pages.split())
    completed = (
        "COMPREPLY=(); COMP_WORDS=(taskqueue do); COMP_CWORD=1; _taskqueue_completion taskqueue; echo $COMPREPLY"
    )
    bash = f"bash -c '. /usr/share/bash-completion/completions/taskqueue; {completed}'"
    assert host.run(bash).strip() == "doctor"
    assert host.run("head -n 1 /usr/share/zsh/vendor-completions/_taskqueue").strip() == "#compdef taskqueue"

    # a plugin is picked up by itself, and the pool goes on
    pool = pid(host, "workerpool")
    host.run(f"apt-get install --yes /root/{packages.plugin.name}")
    assert '"factors": [2, 2, 2, 3, 3, 5]' in submit(host, 360)
    assert pid(host, "workerpool") == pool

    target = Target(host)
    tasks_over_http(host, target)
    due_later = enqueue(host, more="-d task.countdown=15")
    upgrade_under_load(host, packages)
    target.received(due_later)
    webhook_plugin_comes_and_goes(host, packages, target)
    a_book_that_cannot_be_migrated(host, packages, target)
    target.close()

    # removed: its group goes; the work that comes waits
    host.run("apt-get remove --yes python3-taskqueue-primes")
    host.wait_for("! grep -lsz [p]rimes /proc/[0-9]*/cmdline")
    host.run("amqp-publish --routing-key=taskqueue --body='primes 6'")
    host.wait_for("rabbitmqctl -q list_queues name messages | grep -P 'worker_primes\\t1'")
    host.run(f"apt-get install --yes /root/{packages.plugin.name}")
    assert '"factors": [2, 3]' in host.wait_for("amqp-get --queue=results")

    host.run("apt-get purge --yes python3-taskqueue-primes 'python-taskqueue-*'")
    host.wait_for("! grep -lsz [t]askqueue /proc/[0-9]*/cmdline")
    host.run("apt-get autoremove --purge --yes")
    left = set(host.run(FILES).splitlines()) - set(before.splitlines())
    assert not {path for path in left if "taskqueue" in path}, left
    assert not {path for path in left if not path.startswith(("/var/lib/rabbitmq/", "/var/log/", "/var/lib/dpkg/",
        "/var/lib/apt/", "/var/cache/", "/tmp/", "/run/", "/usr/lib/python3/", "/etc/rc", "/etc/passwd", "/etc/group",
        "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid"))}, left  # fmt: skip


def tasks_over_http(host: Host, target: Target) -> None:
    """The book is for the front alone, and outlives it."""
    check_delivery(host, target)
    assert host.run("stat -c '%U %G %a' /var/lib/taskqueue /var/lib/taskqueue/http.db /run/taskqueue").splitlines() == [
        "taskqueue taskqueue 750",
        "taskqueue taskqueue 600",
        "root taskqueue 1775",
    ]
    assert host.run("getent passwd taskqueue-webhook").strip().endswith(":/nonexistent:/usr/sbin/nologin")
    limits = host.run(f"grep 'Max open files' /proc/{pid(host, 'http')}/limits").split()
    assert limits[3] == limits[4], "a descriptor for each client, as many as the host allows"
    due_later = enqueue(host, more="-d task.countdown=3")
    assert exit_status(host, "http", "restart") == 0
    target.received(due_later)
    # a fault that shows after it has gone into the background is in the log (no syslog runs here)
    assert exit_status(host, "http", "stop") == 0
    host.run("mv /var/lib/taskqueue/http.db /tmp/book && mkdir /var/lib/taskqueue/http.db")
    host.run("printf '[logging]\\ntarget: stderr\\n' >/etc/taskqueue/conf.d/log.ini")
    host.run("/etc/init.d/python-taskqueue-http start >/tmp/said 2>&1 || true")
    host.wait_for("grep 'CRITICAL.*book sqlite:/var/lib/taskqueue/http.db: ' /tmp/said", otherwise="cat /tmp/said")
    host.wait_for("! /etc/init.d/python-taskqueue-http status")
    host.run(
        "rm /etc/taskqueue/conf.d/log.ini; rmdir /var/lib/taskqueue/http.db && mv /tmp/book /var/lib/taskqueue/http.db"
    )
    assert exit_status(host, "http", "start") == 0
    check_delivery(host, target)


def webhook_plugin_comes_and_goes(host: Host, packages: Packages, target: Target) -> None:
    """With the package, and no earlier or later: pycurl is still installed when it has gone."""
    pool = pid(host, "workerpool")
    host.run(webhook_processes())
    host.run("apt-get remove --yes python-taskqueue-http && dpkg -s python3-pycurl")
    host.wait_for(f"! {webhook_processes()}", otherwise=LOGS)
    assert "webhook" not in host.run("taskqueue plugins")
    newer = " ".join(f"/root/{file.name}" for file in packages.next)
    host.run(f"apt-get install --yes {newer}")
    check_delivery(host, target)
    assert pid(host, "workerpool") == pool


def a_book_that_cannot_be_migrated(host: Host, packages: Packages, target: Target) -> None:
    """The package says so, and is installed all the same."""

    def set_version(version: int) -> int:
        """Gives the one before."""
        (host.root / "srv" / "version.py").write_text(
            "import sqlite3\n"
            "with sqlite3.connect('/var/lib/taskqueue/http.db') as book:\n"
            "    print(book.execute(\"SELECT value FROM meta WHERE key = 'version'\").fetchone()[0])\n"
            f"    book.execute(\"UPDATE meta SET value = '{version}' WHERE key = 'version'\")\n"
        )
        return int(host.run("runuser -u taskqueue -- python3 /srv/version.py && rm /srv/version.py"))

    assert exit_status(host, "http", "stop") == 0
    version = set_version(99)
    newer = next(file.name for file in packages.next if "-http_" in file.name)
    said = host.run(f"apt-get install --yes --reinstall /root/{newer}")
    assert "version 99" in said and "python-taskqueue-http: the book is as it was; run taskqueue http migrate" in said
    host.wait_for("! /etc/init.d/python-taskqueue-http status")
    assert set_version(version) == 99
    assert exit_status(host, "http", "start") == 0
    check_delivery(host, target)


def upgrade_under_load(host: Host, packages: Packages) -> None:
    """A later version comes while workitems do; none is lost, and what the operator has changed stays."""
    host.run("echo '# changed here' >>/etc/taskqueue/config.ini")
    client = host.begin(
        f"for number in $(seq {NUMBERS[0]} {NUMBERS[-1]}); do"
        ' amqp-publish --routing-key=taskqueue --body="primes $number" || exit; done'
    )
    host.wait_for("amqp-get --queue=results")  # it is on its way: one result is taken already
    before = {role: pid(host, role) for role in ROLES}
    newer = " ".join(f"/root/{file.name}" for file in packages.next)
    said = host.run(f"apt-get install --yes -o Dpkg::Options::=--force-confold {newer}")
    assert "Configuration file '/etc/taskqueue/config.ini'" in said, "it was changed on both sides"
    assert "the book is as it was" not in said, said
    assert client.wait(120) == 0, client.stdout
    assert host.run("tail -n 1 /etc/taskqueue/config.ini").strip() == "# changed here"
    assert host.run("stat -c '%U %G %a' /etc/taskqueue/config.ini").strip() == "root taskqueue 640"
    assert all(pid(host, role) != before[role] for role in ROLES), "the new version runs"
    results = host.run(f"timeout 120 amqp-consume --queue=results --count={len(NUMBERS) - 1} cat", deadline_s=150)
    numbers = {int(found) for found in re.findall(r'"number": (\d+)', results)}
    assert len(set(NUMBERS) - numbers) == 1, "all but the one that was taken before"
    assert host.run("rabbitmqctl -q list_queues name messages | grep taskqueue_dead").split()[1] == "0"
