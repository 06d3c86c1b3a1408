"""`taskqueue queues`: the queues of tasks of a front."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from daemons import Stage
from front_daemons import FrontDaemon
from terminal import Terminal


@pytest.fixture(scope="module")
def front(shared_stage: Stage) -> FrontDaemon:
    """A front with two queues in its config; nobody works for it."""
    made = FrontDaemon(shared_stage, http="queues: emails", more="[http_slow]\nrate_limit: 10/m\n")
    made.start()
    return made


def ask(front: FrontDaemon, *arguments: str, status: int = 0, **keywords: Any) -> subprocess.CompletedProcess[str]:
    ran = front.run("queues", *arguments, **keywords)
    assert ran.returncode == status, ran.stderr
    return ran


def add(front: FrontDaemon, queue: str, *arguments: str) -> str:
    return front.told("tasks", "add", queue, "http://127.0.0.1:9/", *arguments)


def test_list_and_show(front: FrontDaemon) -> None:
    add(front, "emails")
    add(front, "emails", "--delay", "1h")
    head, *rows = [line.split("\t") for line in ask(front, "list").stdout.splitlines()]
    assert head == [
        "QUEUE", "STATE", "SOURCE", "READY", "SCHEDULED", "RUNNING", "RETRYING", "DEAD", "RATE", "OLDEST",
    ]  # fmt: skip
    found = {row[0]: row for row in rows}
    assert found["emails"][1:8] == ["running", "config", "1", "1", "0", "0", "0"] and found["emails"][9].endswith("s")
    assert found["slow"][8:] == ["10/m", "-"] and found["default"][2] == "api"
    assert {each["name"] for each in json.loads(ask(front, "list", "--json").stdout)} == found.keys()
    lines = dict(line.split("\t") for line in ask(front, "show", "slow").stdout.splitlines())
    assert (lines["rate limit"], lines["paused"], lines["source"]) == ("10/m", "no", "config")
    assert json.loads(ask(front, "show", "slow", "--json").stdout)["rate_limit"] == "10/m"


def test_on_a_terminal_of_80_columns(front: FrontDaemon) -> None:
    command = front.stage.command("taskqueue", "queues", "list", "-c", front.stage.config_file)
    with Terminal(command, front.stage.env(), columns=80) as terminal:
        assert terminal.wait() == 0
        lines = [line.rstrip() for line in terminal.text.strip().splitlines()]
    assert lines[0].split() == ["QUEUE", "STATE", "READY", "SCHEDULED", "RUNNING", "RETRYING", "DEAD", "RATE", "OLDEST"]
    assert len(lines) == 1 + len(json.loads(ask(front, "list", "--json").stdout)), "a line each"


def test_pause_and_resume(front: FrontDaemon) -> None:
    assert ask(front, "pause", "slow").stdout == "slow is paused\n"
    assert json.loads(ask(front, "pause", "slow", "--json").stdout)["paused"] is True
    task = add(front, "slow")
    assert json.loads(front.told("tasks", "show", task, "--json"))["waits_for"] == "queue slow is paused"
    assert ask(front, "resume", "slow").stdout == "slow goes on\n"
    assert json.loads(ask(front, "show", "slow", "--json").stdout)["paused"] is False


def test_purge_asks_before(front: FrontDaemon) -> None:
    add(front, "default")
    add(front, "default", "--delay", "1h")
    refused = ask(front, "purge", "default", stdin="n\n", status=1)
    assert "Remove 2 tasks waiting in default, for good? [y/N]" in refused.stderr
    assert ask(front, "purge", "default", stdin="y\n").stdout == "2 tasks removed from default\n"
    assert ask(front, "purge", "default").stdout == "0 tasks removed from default\n", "nothing to ask for"
    add(front, "default")
    assert json.loads(ask(front, "purge", "default", "--yes", "--json").stdout) == {"queue": "default", "purged": 1}


@pytest.mark.parametrize("command", ["show", "pause", "resume", "purge"])
def test_one_that_does_not_exist(front: FrontDaemon, command: str) -> None:
    ran = ask(front, command, "no such/queue", status=1)
    assert ran.stderr == "taskqueue: There is no queue 'no such/queue'; taskqueue queues list shows all\n"
