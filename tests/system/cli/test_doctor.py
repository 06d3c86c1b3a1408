"""`taskqueue doctor` as it is installed: all well, and each thing that can be wrong, at real brokers and real pools."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker import PrivateBroker, free_ports
from daemons import Stage
from proxy import Proxy
from terminal import Terminal
from waiting import wait_for

ECHO = """
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            return body
"""

HANG = """
    import time
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            time.sleep(3600)
"""

Found = dict[str, list[dict[str, Any]]]


def doctor(stage: Stage, *arguments: str, status: int | None = None, **environ: str) -> Found:
    """What it found, by check."""
    options = ("-c", stage.config_file, "--socket", stage.pool.socket_path)
    ran = stage.run("taskqueue", "--json", "doctor", *options, *arguments, deadline_s=90, **environ)
    found: Found = {}
    for each in json.loads(ran.stdout):
        assert (each["advice"] is None) == (each["status"] == "ok"), "what is not ok has an advice"
        found.setdefault(each["check"], []).append(each)
    problems = [each for every in found.values() for each in every if each["status"] == "problem"]
    assert ran.returncode == int(bool(problems)), ran.stderr
    assert status is None or ran.returncode == status, problems
    return found


def told(found: Found, check: str, status: str) -> str:
    """All that was found of one check with that status, a line each."""
    return "\n".join(each["found"] for each in found.get(check, []) if each["status"] == status)


@pytest.fixture
def broken(stage: Stage) -> Stage:
    """Nothing runs; the config and the plugins are not what they should be."""
    stage.site.install("echo", ECHO)
    stage.site.install("broken", "import no_such_module\n")
    stage.configure("")
    return stage


# -- all is well


@pytest.mark.root_only
def test_all_is_well(stage: Stage, vhost: str) -> None:
    stage.site.install("echo", ECHO)
    stage.configure("[echo]\nworkers: 2\ntime_limit: 2h\n")
    stage.start("echo")
    found = doctor(stage, status=0)
    assert {check for check, every in found.items() if {"ok"} != {each["status"] for each in every}} <= {"clock"}
    assert told(found, "config", "ok") == str(stage.config_file)
    assert told(found, "users", "ok") == "workers run as taskqueue"
    assert told(found, "plugins", "ok") == "import: echo"
    assert "1 of 1 groups run, 2 workers" in told(found, "workerpool", "ok")
    assert f"virtual host {vhost}, user guest" in told(found, "connection", "ok")
    assert told(found, "version", "ok").startswith("RabbitMQ ")
    assert told(found, "queues", "ok").endswith("exist, as we would declare them")
    assert told(found, "consumers", "ok") == "1 of the queue taskqueue, and workers of each type"
    assert "echo may run 7200 s; what runs longer than 20 s is leased" in told(found, "consumer_timeout", "ok")
    for check in ("rights", "alarms", "dead letters"):
        assert told(found, check, "ok"), check
    assert not stage.amqp.exists("worker_broken")


def test_on_a_terminal_and_in_a_pipe(broken: Stage) -> None:
    options = ("-c", broken.config_file, "--socket", broken.pool.socket_path)
    ran = broken.run("taskqueue", "doctor", *options, deadline_s=60)
    assert ran.returncode == 1
    head, *lines = [line.split("\t") for line in ran.stdout.splitlines()]
    assert head == ["STATUS", "CHECK", "FOUND", "WHAT TO DO"]
    assert all(len(line) == 4 and line[0] in {"ok", "warning", "problem"} for line in lines)
    with Terminal(broken.command("taskqueue", "doctor", *options), broken.env(), columns=200) as terminal:
        assert terminal.wait(60) == 1
        terminal.shows(r"^problem +plugins +broken does not import: ModuleNotFoundError.* taskqueue plugins broken")
        assert "\x1b[1;31m" in terminal.raw


# -- on this host


def test_a_plugin_that_does_not_import_and_a_pool_that_does_not_run(broken: Stage) -> None:
    found = doctor(broken, status=1)
    assert "broken does not import: ModuleNotFoundError" in told(found, "plugins", "problem")
    assert told(found, "plugins", "ok") == "import: echo"
    assert "no taskqueue-workerpool runs on this host" in told(found, "workerpool", "problem")


@pytest.mark.root_only
def test_a_pool_that_is_not_well(broken: Stage, proxy: Proxy, vhost: str) -> None:
    broken.pool.env["TASKQUEUE_AMQP_URL"] = proxy.url(vhost)
    broken.pool.start()
    broken.pool.wait_running("echo")
    broken.pool.wait_state("broken", "backoff")
    proxy.refuse()
    proxy.cut()
    wait_for(lambda: broken.pool.group("echo")["generations"][-1]["broker"]["connected"] is False, 20, "it is cut off")
    broken.configure("[echo]\nworkers: 0\n")
    found = doctor(broken, status=1)
    assert re.search(r"broken does not run \(\w+\): ModuleNotFoundError", told(found, "workerpool", "problem"))
    assert "echo is not connected to the broker" in told(found, "workerpool", "problem")
    assert told(found, "workerpool", "warning") == "echo runs, and is no longer wanted"


def test_config_faults_users_and_rights_of_files(broken: Stage) -> None:
    broken.configure("[amqp]\npasswd: geheim\nhots: a\n[echo]\nuser: nobody-of-that-name\n")
    found = doctor(broken, status=1)
    assert ":3: [amqp] hots: unknown key" in told(found, "config", "problem")
    assert ":5: [echo] user: no such unix user: 'nobody-of-that-name'" in told(found, "config", "problem")
    assert set(found) == {"config"}, "nothing else can be known"
    broken.configure("[amqp]\npasswd: geheim\n[echo]\nuser: nobody-of-that-name\n[nochs]\nworkers: 3\n")
    broken.config_file.chmod(0o666)
    found = doctor(broken, status=1)
    assert told(found, "users", "problem") == "echo: user 'nobody-of-that-name' does not exist"
    assert "who may write it decides what runs" in told(found, "permissions", "problem")
    assert told(found, "config", "problem").count("\n") == 0
    broken.configure("[amqp]\npasswd: geheim\n[nochs]\nworkers: 3\n")
    found = doctor(broken)
    assert "[nochs]: no plugin 'nochs' is installed" in told(found, "config", "warning")
    assert "everybody may read the broker's password" in told(found, "permissions", "warning")
    assert "geheim" not in json.dumps(found)


@pytest.mark.root_only
def test_a_config_that_the_dispatcher_may_not_read(broken: Stage) -> None:
    broken.configure("[amqp]\npasswd: geheim\n")
    broken.config_file.chmod(0o600)
    assert "user taskqueue may not read it" in told(doctor(broken), "permissions", "warning")


# -- at the broker


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("amqp://127.0.0.1:{closed}", "127.0.0.1:{closed}: connection refused"),
        ("amqp://guest:s3cret@127.0.0.1:{port}", "the broker refuses the user or password"),
        ("amqp://guest:guest@127.0.0.1:{port}/no-such", "the broker refuses access to the virtual host"),
    ],
)
def test_a_broker_that_cannot_be_used(broken: Stage, broker: PrivateBroker, url: str, said: str) -> None:
    ports = {"closed": free_ports(1)[0], "port": broker.port}
    found = doctor(broken, status=1, TASKQUEUE_AMQP_URL=url.format(**ports))
    assert said.format(**ports) in told(found, "connection", "problem")
    assert "s3cret" not in json.dumps(found["connection"])


def test_one_host_of_several_does_not_answer(broken: Stage, broker: PrivateBroker) -> None:
    (closed,) = free_ports(1)
    broken.configure(f"[amqp]\nhost: 127.0.0.1:{closed}, 127.0.0.1:{broker.port}\n")
    found = doctor(broken, TASKQUEUE_AMQP_URL="")
    assert told(found, "connection", "warning") == f"127.0.0.1:{closed}: connection refused"
    assert told(found, "connection", "ok").startswith(f"127.0.0.1:{broker.port}, virtual host /")


def test_queues_that_differ_and_what_waits_in_vain(broken: Stage) -> None:
    broken.amqp.declare("worker_echo")
    broken.amqp.submit(b"waits", "worker_echo")
    broken.amqp.declare("taskqueue_dead", {"x-queue-type": "quorum"})
    broken.amqp.submit(b"dead", "taskqueue_dead")
    found = doctor(broken, status=1)
    (differs,) = (each for each in found["queues"] if each["status"] == "warning")
    assert differs["found"].startswith("inequivalent arg 'x-") and "queue 'worker_echo'" in differs["found"]
    assert "rabbitmqctl delete_queue worker_echo" in differs["advice"]
    assert "no dispatcher runs; 0 workitems wait" in told(found, "consumers", "problem")
    assert "nobody takes from worker_echo at present; 1 workitem waits" in told(found, "consumers", "problem")
    assert told(found, "consumers", "warning") == "nobody takes from worker_broken at present; 0 workitems wait"
    assert told(found, "dead letters", "warning") == "1 in taskqueue_dead"
    assert [message.body for message in broken.amqp.take_many("worker_echo", 1)] == [b"waits"]
    assert not broken.amqp.exists("worker_broken"), "looking makes no queue"


def test_workers_that_all_hang_while_others_wait(stage: Stage) -> None:
    stage.site.install("hang", HANG)
    stage.configure("[hang]\nworkers: 2\n")
    stage.start("hang")
    for number in range(5):
        stage.amqp.submit("hang x", message_id=f"h{number}")
    stage.pool.running_task("hang", "h0")
    found = wait_for(lambda: doctor(stage, status=0).get("workers"), 60, "it is seen")
    assert re.fullmatch(
        r"hang: 3 workitems wait, and all its workers here have run the same for \d+s", found[0]["found"]
    )
    assert "handed back" not in stage.pool.log, "leases take room: what cannot run here is not taken"
    stage.configure("[hang]\nworkers: 2\ntime_limit: 1h\n")
    assert "workers" not in doctor(stage, status=0), "there is an end to it"


def test_no_rights(broken: Stage, broker: PrivateBroker, vhost: str) -> None:
    user = f"doctor{os.getpid()}"
    broker.ctl("add_user", user, "geheim")
    for rights, said in (
        (("^$", ".*", ".*"), "access to queue 'taskqueue_"),
        ((".*", "^$", ".*"), "access to exchange"),
        ((".*", ".*", "^$"), "access to queue 'taskqueue_"),
    ):
        broker.ctl("set_permissions", "-p", vhost, user, *rights)
        found = doctor(broken, status=1, TASKQUEUE_AMQP_URL=broker.url(vhost, user, "geheim"))
        assert said in told(found, "rights", "problem"), [found.get("rights"), found.get("alarms")]


@contextmanager
def memory_alarm(broker: PrivateBroker) -> Iterator[None]:
    """The broker takes no messages meanwhile."""
    watermark = broker.eval("vm_memory_monitor:get_vm_memory_high_watermark().")
    until = "(fun Wait() -> case rabbit_alarm:get_alarms() of {} -> ok; _ -> timer:sleep(50), Wait() end end)()."
    broker.eval("vm_memory_monitor:set_vm_memory_high_watermark(0.000001).")
    try:
        broker.eval(until.format("[_ | _]"))
        yield
    finally:
        broker.eval(f"vm_memory_monitor:set_vm_memory_high_watermark({watermark}).")
        broker.eval(until.format("[]"))


def test_an_alarm(broken: Stage, broker: PrivateBroker) -> None:
    with memory_alarm(broker):
        found = doctor(broken, status=1)
    assert told(found, "alarms", "problem") == "the broker takes no messages: memory or disk alarm"
    assert "rabbitmq-diagnostics alarms" in found["alarms"][0]["advice"]


def test_consumer_timeout(broken: Stage, broker: PrivateBroker) -> None:
    tools = {**broker._environment(), "PATH": "/usr/lib/rabbitmq/bin:/usr/bin:/bin"}
    set_it = "application:set_env(rabbit, consumer_timeout, {})."
    before = broker.eval("application:get_env(rabbit, consumer_timeout).").removeprefix("{ok,").rstrip("}").strip()
    for value, status, said in (
        (1_800_000, "ok", "1800 s; "), (10_000, "warning", "10 s at the broker; "), ("undefined", "ok", "none; ")
    ):  # fmt: skip
        broker.eval(set_it.format(value))
        try:
            found = doctor(broken, **tools)
        finally:
            broker.eval(set_it.format(before))
        assert told(found, "consumer_timeout", status).startswith(said), found["consumer_timeout"]
    found = doctor(broken)
    assert told(found, "consumer_timeout", "ok").startswith("not known here"), (
        "another broker's rabbitmqctl is not asked"
    )


def test_tls_and_the_management_plugin(broken: Stage, run_dir: Path, tmp_path: Path) -> None:
    """A broker that speaks TLS, with a certificate that ends soon, seen by a host whose clock is wrong."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "10",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
    ]  # fmt: skip
    subprocess.run([str(part) for part in made], check=True, capture_output=True)
    tls, http = free_ports(2)
    lines = (
        f"listeners.ssl.1 = 127.0.0.1:{tls}\nssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\n"
        f"management.tcp.port = {http}\nmanagement.tcp.ip = 127.0.0.1\n"
    )
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    with PrivateBroker(run_dir / "doctor", config=lines, plugins=["rabbitmq_management"]) as node:
        environ = {
            "TASKQUEUE_AMQP_URL": f"amqps://guest:guest@127.0.0.1:{tls}",
            "TASKQUEUE_MANAGEMENT_URL": f"http://127.0.0.1:{http}",
        }
        found = doctor(broken, status=1, **environ)
        assert "self-signed certificate" in told(found, "tls", "problem") and told(found, "connection", "problem")
        broken.configure(f"[amqp]\nca_file: {certificate}\n")
        found = doctor(broken, **environ)
        assert told(found, "tls", "warning") == f"127.0.0.1:{tls}: certificate is good for 10 days more"
        assert told(found, "connection", "ok").startswith(f"127.0.0.1:{tls}")
        assert "the broker's is the same, to a second" in told(found, "clock", "ok")
        wrong = {"LD_PRELOAD": str(library), "FAKETIME": "+90s", "DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1"}
        found = doctor(broken, **environ, **wrong)
        assert "s behind this host's" in told(found, "clock", "problem")
        with memory_alarm(node):
            wait_for(
                lambda: "memory alarm" in told(doctor(broken, **environ), "alarms", "problem"),
                60,
                "the plugin tells it",
            )
