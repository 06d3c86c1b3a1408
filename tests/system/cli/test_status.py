"""`taskqueue status`: what it shows of a broker, of queues and of this host, with all of it there and with parts."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

import dead_letters
from broker import PrivateBroker, free_ports
from daemons import Stage
from processes import kill
from proxy import Proxy
from terminal import CTRL_C, Terminal
from waiting import wait_for

NAP = """
    import time
    from pathlib import Path
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            while not Path(body).exists():
                time.sleep(0.02)
"""
BROKEN = "raise RuntimeError('\\x1b[2Jthis module is broken')"


def status(stage: Stage, *arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return stage.run("taskqueue", "status", "--socket", stage.pool.socket_path, *arguments, **environ)


def document(stage: Stage, **environ: str) -> dict[str, Any]:
    ran = status(stage, "--json", **environ)
    assert (ran.returncode, ran.stderr) == (0, "")
    found = json.loads(ran.stdout)
    assert isinstance(found, dict)
    return found


def sections(text: str) -> list[list[list[str]]]:
    """The tables in a pipe, as lines of cells."""
    return [[line.split("\t") for line in part.splitlines()] for part in text.strip().split("\n\n")]


@pytest.fixture(scope="module")
def busy(shared_stage: Stage) -> Stage:
    """A worker type that runs one workitem of two and has a third waiting, and one that is broken."""
    stage = shared_stage
    stage.site.install("nap", NAP)
    stage.site.install("broken", BROKEN)
    stage.configure("[nap]\nworkers: 2\nprefetch: 2\n")
    stage.start("nap")
    stage.amqp.submit(f"nap {stage.scratch}/never", message_id="long-one")
    stage.pool.running_task("nap", "long-one")
    stage.amqp.submit("nap x", message_id="later", headers={"x-delay": 3_600_000})
    dead_letters.bury(stage.amqp, "d")
    wait_for(lambda: stage.pool.group("broken").get("last_error"), 20, "broken says why")
    wait_for(lambda: document(stage)["queues"][-1]["ready"] == 1, 20, "it is delayed")
    return stage


def test_the_whole_picture_in_a_pipe(busy: Stage, broker: PrivateBroker) -> None:
    ran = status(busy)
    assert (ran.returncode, ran.stderr) == (0, "")
    head, queues, groups, tasks = sections(ran.stdout)
    said = dict(head)
    assert re.fullmatch(rf"RabbitMQ [\d.]+\S* at 127\.0\.0\.1:{broker.port}, vhost \S+", said["broker"])
    assert said["dispatchers"] == "1" and said["alarms"] == "not known (the management plugin is not enabled)"
    assert re.fullmatch(rf"\S+ on \S+, pid {busy.pool.pid}, running for [\d.]+\w.*", said["workerpool"])

    assert queues[0] == ["QUEUE", "READY", "UNACKED", "CONSUMERS", "IN/S", "OUT/S"]
    by_name = {row[0]: row[1:] for row in queues[1:]}
    by_name.pop("worker_broken", None)  # its listener may have come as far as to declare it
    assert by_name == {
        "taskqueue": ["0", "-", "1", "-", "-"],
        "worker_nap": ["0", "-", "1", "-", "-"],
        "taskqueue_dead": ["1", "-", "0", "-", "-"],
        "results": ["0", "-", "0", "-", "-"],
        "taskqueue_delay_*": ["1", "-", "-", "-", "-"],
    }

    rows = {row[0]: dict(zip(groups[0], row, strict=True)) for row in groups[1:]}
    nap, broken = rows["nap"], rows["broken"]
    assert (nap["STATE"], nap["WORKERS"], nap["BUSY"], nap["LAST ERROR"]) == ("running", "2/2", "1", "-")
    assert broken["STATE"] in {"starting", "backoff"} and broken["WORKERS"] == "0/1"
    assert broken["LAST ERROR"] == r"RuntimeError: \x1b[2Jthis module is broken"

    assert tasks[0] == ["RUNNING", "GROUP", "PID", "ATTEMPT", "FOR"]
    pid = str(busy.pool.running_task("nap", "long-one"))
    assert [row[:4] for row in tasks[1:]] == [["long-one", "nap", pid, "1"]]


def test_in_json(busy: Stage) -> None:
    said = document(busy)
    assert (said["broker"]["product"], said["trouble"], said["pool_trouble"]) == ("RabbitMQ", None, None)
    assert (said["dispatchers"], said["dispatcher_names"], said["nodes"], said["alarms"]) == (1, None, None, None)
    assert said["queues"][0]["name"] == "taskqueue" and said["queues"][0]["unacked"] is None
    assert [group["name"] for group in said["pool"]["groups"]] == ["broken", "nap"], "the pool's own document"


def test_nothing_can_be_forged_on_a_terminal(busy: Stage) -> None:
    command = busy.command("taskqueue", "status", "--socket", busy.pool.socket_path)
    with Terminal(command, busy.env(), columns=120) as terminal:
        assert terminal.wait() == 0
        assert "long-one" in terminal.text and "\x1b[1m" in terminal.raw and "\x1b[2J" not in terminal.raw


def test_watch_on_a_terminal_is_refreshed_in_its_place(busy: Stage) -> None:
    command = busy.command(
        "taskqueue", "status", "--socket", busy.pool.socket_path, "--watch", "--interval", "0.2"
    )  # fmt: skip
    go = busy.scratch / "go"
    with Terminal(command, busy.env(), columns=120) as terminal:
        terminal.shows("long-one")
        busy.amqp.submit(f"nap {go}", message_id="second-one")
        terminal.shows("second-one")
        go.touch()

        def gone() -> bool:
            newest = terminal.raw.rpartition("\x1b[H")[0].rpartition("\x1b[H")[2]
            return "long-one" in newest and "second-one" not in newest

        wait_for(gone, 20, "what has ended is not shown", otherwise=lambda: terminal.text[-3000:])
        terminal.press(CTRL_C)
        assert terminal.wait() == 130
        assert "\x1b[?1049h" in terminal.raw and "\x1b[?1049l" in terminal.raw, "the screen is as before"
        assert "Traceback" not in terminal.text


def test_watch_in_a_pipe_and_in_json_goes_on(busy: Stage) -> None:
    command = busy.command("taskqueue", "status", "--json", "--watch", "--interval", "0.2")
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, env=busy.env()) as process:
        assert process.stdout is not None
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        process.send_signal(2)
        assert process.wait(20) == 130
    assert second["at"] > first["at"]


def test_watch_outlives_the_broker(busy: Stage, proxy: Proxy, shared_vhost: str) -> None:
    command = busy.command("taskqueue", "status", "--json", "--watch", "--interval", "0.2")
    env = busy.env(TASKQUEUE_AMQP_URL=proxy.url(shared_vhost))
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        lines = process.stdout

        def next_one() -> Any:
            return json.loads(lines.readline())

        wait_for(lambda: next_one()["trouble"] is None, 20, "it is seen")
        proxy.refuse()
        proxy.cut()
        wait_for(lambda: next_one()["trouble"] is not None, 20, "it is missed")
        proxy.accept()
        wait_for(lambda: next_one()["trouble"] is None, 20, "it is back")
        kill(process.pid)


def test_without_a_broker_the_rest_is_shown_and_it_exits_3(busy: Stage) -> None:
    (closed,) = free_ports(1)
    ran = status(busy, TASKQUEUE_AMQP_URL=f"amqp://127.0.0.1:{closed}")
    assert ran.returncode == 3
    assert ran.stderr == f"taskqueue: 127.0.0.1:{closed}: connection refused\n"
    head, groups, tasks = sections(ran.stdout)
    assert dict(head)["broker trouble"] == f"127.0.0.1:{closed}: connection refused"
    assert len(groups) == 3 and tasks[1][0] == "long-one"
    ran = status(busy, "--json", TASKQUEUE_AMQP_URL=f"amqp://127.0.0.1:{closed}")
    said = json.loads(ran.stdout)
    assert (ran.returncode, said["broker"], said["queues"]) == (3, None, [])
    assert said["pool"]["pid"] == busy.pool.pid


def test_a_wrong_password(busy: Stage, broker: PrivateBroker) -> None:
    ran = status(busy, TASKQUEUE_AMQP_URL=f"amqp://guest:s3cret@127.0.0.1:{broker.port}")
    assert ran.returncode == 3 and "refuses the user or password" in ran.stderr
    assert "s3cret" not in ran.stdout + ran.stderr


def test_without_a_pool_and_a_dispatcher(stage: Stage) -> None:
    ran = status(stage)
    assert (ran.returncode, ran.stderr) == (0, "")
    said = dict(sections(ran.stdout)[0])
    assert said["workerpool"] == f"{stage.pool.socket_path}: no taskqueue-workerpool runs on this host"
    assert said["dispatchers"] == "none; nothing is dispatched"
    assert not stage.amqp.exists("taskqueue"), "looking makes no queue"


@pytest.mark.root_only
def test_no_permission_on_the_socket(busy: Stage) -> None:
    command = busy.command("taskqueue", "status", "--json", "--socket", busy.pool.socket_path)
    ran = subprocess.run(
        [str(part) for part in command], env=busy.env(), capture_output=True, text=True, check=False,
        user="nobody", group="nogroup", extra_groups=[], cwd="/",
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    said = json.loads(ran.stdout)
    assert said["pool"] is None and said["broker"] is not None
    assert said["pool_trouble"].endswith("permission denied; expected root, or a member of the group taskqueue")


def test_with_the_management_plugin(stage: Stage, run_dir: Path) -> None:
    (port,) = free_ports(1)
    lines = f"management.tcp.port = {port}\nmanagement.tcp.ip = 127.0.0.1\ncollect_statistics_interval = 500\n"
    with PrivateBroker(run_dir / f"managed-{os.getpid()}", config=lines, plugins=["rabbitmq_management"]) as managed:
        stage.amqp_url = stage.amqp.url = managed.url()
        for daemon in stage.daemons:
            daemon.env = stage.env()
        stage.site.install("nap", NAP)
        stage.start("nap")
        stage.amqp.submit(f"nap {stage.scratch}/never", message_id="held")
        stage.pool.running_task("nap", "held")
        url = {"TASKQUEUE_MANAGEMENT_URL": f"http://127.0.0.1:{port}"}

        def told() -> bool:
            said = document(stage, **url)
            queues = {queue["name"]: queue for queue in said["queues"]}
            return bool(
                said["alarms"] == []
                and [node["name"] for node in said["nodes"]] == [managed.node]
                and queues.get("worker_nap", {}).get("unacked") == 1
                and queues["worker_nap"]["in_rate"] is not None
                and said["dispatcher_names"]
                and said["dispatcher_names"][0].endswith(f"pid {stage.dispatcher.pid}")
            )

        wait_for(told, 30, "the plugin's figures", otherwise=lambda: document(stage, **url))
        managed.ctl("set_vm_memory_high_watermark", "0.0000001")
        wait_for(lambda: document(stage, **url)["alarms"] == [f"memory alarm on {managed.node}"], 30, "the alarm")
        managed.ctl("set_vm_memory_high_watermark", "0.6")
        for daemon in stage.daemons:
            daemon.end()
