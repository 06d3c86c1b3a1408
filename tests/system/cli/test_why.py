"""`taskqueue why`: one workitem, wherever it is in its life."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

import dead_letters
from broker import PrivateBroker, free_ports
from daemons import Stage
from terminal import Terminal
from waiting import wait_for

NAP = """
    import time
    from pathlib import Path
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            if body == "bad":
                raise ValueError("\\x1b[2J it is bad")
            while not Path(body).exists():
                time.sleep(0.02)
"""


def ask(stage: Stage, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return stage.run("taskqueue", "why", "--socket", str(stage.pool.socket_path), *arguments, **environ)


def seen(stage: Stage, message_id: str, *arguments: str) -> list[dict[str, Any]]:
    """Where it is."""
    ran = ask(stage, message_id, "--json", *arguments)
    found = json.loads(ran.stdout)["found"]
    assert isinstance(found, list) and ran.returncode == (0 if found else 1)
    return found


@pytest.fixture(scope="module")
def lived_in(shared_stage: Stage) -> Stage:
    """One runs, one waits behind it, one has failed and one will be tried again, one is delayed, one has ended."""
    stage = shared_stage
    stage.site.install("nap", NAP)
    stage.site.install("again", NAP)
    stage.site.install("idle", NAP)
    stage.configure("[idle]\nworkers: 0\n[again]\nmax_retries: 3\nretry_delay: 1h\n")
    stage.start("nap", "again")
    stage.amqp.submit("nap /", message_id="done")
    stage.amqp.submit("nap bad", message_id="failed")
    stage.amqp.submit("again bad", message_id="tried")
    wait_for(lambda: stage.amqp.depth("results") == 2, 20, "two have ended")
    stage.amqp.submit(f"nap {stage.scratch}/never", message_id="runs")
    stage.amqp.submit("nap x", message_id="delayed", headers={"x-delay": 3_600_000})
    for number in range(3):
        stage.amqp.submit("idle x", message_id=f"waits{number}")
    stage.pool.running_task("nap", "runs")
    wait_for(lambda: stage.amqp.depth("worker_idle") == 3, 20, "three wait")
    return stage


def test_running(lived_in: Stage) -> None:
    (found,) = seen(lived_in, "runs")
    assert (found["state"], found["group"], found["attempt"]) == ("running", "nap", 1)
    assert found["pid"] == lived_in.pool.running_task("nap", "runs") and found["since"] <= time.time()
    ran = ask(lived_in, "runs")
    assert ran.returncode == 0
    head, line = (row.split("\t") for row in ran.stdout.splitlines())
    assert head == ["STATE", "WHERE", "WHAT"] and line[0] == "running" and line[2].startswith("attempt 1, for ")


def test_waiting(lived_in: Stage) -> None:
    (found,) = seen(lived_in, "waits1")
    assert (found["state"], found["where"], found["place"], found["attempts"]) == ("waiting", "worker_idle", 2, 0)
    assert lived_in.amqp.depth("worker_idle") == 3


def test_delayed(lived_in: Stage) -> None:
    (found,) = seen(lived_in, "delayed")
    assert (found["state"], found["target"]) == ("delayed", "worker_nap")
    assert found["where"].startswith("taskqueue_delay_") and 3000 < found["until"] - time.time() <= 3600
    assert "until " in ask(lived_in, "delayed").stdout


def test_to_be_tried_again(lived_in: Stage) -> None:
    (found,) = seen(lived_in, "tried")
    assert (found["state"], found["target"], found["attempts"]) == ("delayed", "worker_again", 1)
    assert "1 attempts so far" in ask(lived_in, "tried").stdout


def test_finished(lived_in: Stage) -> None:
    (found,) = seen(lived_in, "done")
    assert (found["state"], found["where"], found["status"], found["attempt"]) == ("finished", "results", "success", 1)


def test_dead_and_why(lived_in: Stage) -> None:
    dead, result = seen(lived_in, "failed")
    assert (dead["state"], dead["reason"], dead["queue"]) == ("dead", "failed", "worker_nap")
    assert "ValueError" in dead["detail"]
    assert (result["state"], result["status"], result["error_type"]) == ("finished", "error", "ValueError")
    with Terminal(
        lived_in.command("taskqueue", "why", "failed", "--socket", lived_in.pool.socket_path), lived_in.env()
    ) as terminal:
        assert terminal.wait() == 0
        assert "\x1b[1;31mdead" in terminal.raw and "\x1b[2J" not in terminal.raw
        assert "it is bad" in " ".join(terminal.text.split())


def test_not_found(lived_in: Stage) -> None:
    ran = ask(lived_in, "no-such")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.splitlines()[-1] == (
        "taskqueue: workitem no-such was not found: a worker or dispatcher has it at hand, its result was taken, or "
        "there was none of that id"
    )
    assert seen(lived_in, "no-such") == []


def test_in_the_ingress_and_of_a_type_that_is_not_installed_here(stage: Stage) -> None:
    stage.amqp.declare("taskqueue")
    stage.amqp.submit("t x", message_id="new")
    dead_letters.declare(stage.amqp)
    stage.amqp.submit("x", "worker_t", message_id="theirs")
    (found,) = seen(stage, "new")
    assert (found["state"], found["where"], found["place"]) == ("waiting", "taskqueue", 1)
    assert seen(stage, "theirs") == []
    assert "no taskqueue-workerpool runs on this host" in ask(stage, "theirs").stderr
    (found,) = seen(stage, "theirs", "--type", "t")
    assert (found["state"], found["where"]) == ("waiting", "worker_t")


def test_asking_again_and_again_does_not_lengthen_a_delay(stage: Stage) -> None:
    """On RabbitMQ 4 what went back more than 20 times is dropped; so it is moved, and waits no longer for it."""
    stage.configure("")
    stage.dispatcher.start()
    rung = {
        **dead_letters.LIKE_RABBITMQ_4, "x-message-ttl": 2**21, "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "taskqueue_delay_step", "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }  # fmt: skip
    stage.amqp.declare("taskqueue_delay_21", rung)
    wait_for(lambda: stage.amqp.consumers("taskqueue") == 1, 20, "a dispatcher runs")
    stage.amqp.submit("t x", message_id="later", headers={"x-delay": 2**21 + 500})
    wait_for(lambda: stage.amqp.depth("taskqueue_delay_21") == 1, 20, "it is delayed")
    (first,) = seen(stage, "later")
    assert first["where"] == "taskqueue_delay_21"

    def elsewhere() -> dict[str, Any]:
        """Its place once it was moved: half a second later it belongs on a lower rung."""
        found = next(iter(seen(stage, "later")), {})
        return found if found.get("where") not in (None, "taskqueue_delay_21", "taskqueue_delay_step") else {}

    found = wait_for(elsewhere, 60, "it was moved to another rung")
    assert found["where"] == "taskqueue_delay_20" and abs(found["until"] - first["until"]) < 0.001
    assert (found["state"], found["target"]) == ("delayed", "worker_t")
    rungs = [f"taskqueue_delay_{number:02d}" for number in range(4, 32)]
    wait_for(lambda: sum(stage.amqp.depth(name) for name in rungs) == 1, 10, "it is there once")


def test_a_broker_that_cannot_be_used_exits_3(shared_stage: Stage, broker: PrivateBroker) -> None:
    (closed,) = free_ports(1)
    for url in (
        f"amqp://127.0.0.1:{closed}",
        f"amqp://guest:s3cret@127.0.0.1:{broker.port}",
        f"amqp://127.0.0.1:{broker.port}/no-such",
    ):
        ran = ask(shared_stage, "x", TASKQUEUE_AMQP_URL=url)
        assert (ran.returncode, ran.stdout) == (3, "")
        assert "127.0.0.1:" in ran.stderr.splitlines()[-1] and "s3cret" not in ran.stderr
    ran = ask(shared_stage)
    assert (ran.returncode, ran.stderr) == (2, "taskqueue why: Missing argument 'ID'; see taskqueue why --help\n") or (
        ran.returncode == 2 and "Missing argument 'ID'" in ran.stderr
    )
