"""`taskqueue results` and `taskqueue purge`: what waits is shown and left, or taken at a word."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest

from broker import PrivateBroker, free_ports
from daemons import Stage
from proxy import Proxy
from terminal import CTRL_C, Terminal
from waiting import wait_for

ECHO = """
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            if body == "bad":
                raise ValueError("\\x1b]0;forged\\x07 [bold]no[/bold]")
            return {"said": body}
"""


def results(stage: Stage, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return stage.run("taskqueue", "results", *arguments, **environ)


def shown(stage: Stage, *arguments: str) -> list[str]:
    """The ids that are shown."""
    ran = results(stage, "--json", *arguments)
    assert (ran.returncode, ran.stderr) == (0, "")
    return [json.loads(line)["id"] for line in ran.stdout.splitlines()]


def put(stage: Stage, *ids: str, queue: str = "results", worker_type: str = "t", status: str = "success") -> None:
    """Results as a listener publishes them."""
    for message_id in ids:
        stage.amqp.submit(
            message_id, queue, message_id=message_id, content_type="text/plain", correlation_id=message_id,
            headers={"worker_type": worker_type, "task_id": message_id, "status": status, "attempt": 1,
                     "runtime_ms": 1234, "host": "there"},
        )  # fmt: skip


@pytest.fixture
def full(stage: Stage) -> Stage:
    """A queue with some results."""
    stage.amqp.declare("results")
    put(stage, "a", "b")
    put(stage, "c", status="error")
    put(stage, "d", worker_type="u")
    return stage


def test_real_results_are_shown_and_left(stage: Stage) -> None:
    stage.site.install("echo", ECHO)
    stage.start("echo")
    stage.amqp.submit("echo tea", message_id="good")
    wait_for(lambda: stage.amqp.depth("results") == 1, 20, "its result")
    stage.amqp.submit("echo bad", message_id="bad")
    wait_for(lambda: stage.amqp.depth("results") == 2, 20, "its result")
    for _ in range(2):
        ran = results(stage)
        assert (ran.returncode, ran.stderr) == (0, "")
        head, good, bad = (line.split("\t") for line in ran.stdout.splitlines())
        assert head == ["ID", "TYPE", "STATUS", "ATTEMPT", "RUNTIME", "HOST", "ERROR", "RESULT"]
        assert good[:4] == ["good", "echo", "success", "1"] and good[6:] == ["-", '{"said": "tea"}']
        assert bad[:4] == ["bad", "echo", "error", "1"]
        assert bad[6:] == ["ValueError", r"ValueError: \x1b]0;forged\x07 [bold]no[/bold]"] or bad[7].startswith(r"\x1b")
    (document,) = (json.loads(line) for line in results(stage, "--json", "--status", "error").stdout.splitlines())
    assert document["result"]["trace"].startswith("Traceback") and document["error_type"] == "ValueError"
    with Terminal(stage.command("taskqueue", "results"), stage.env()) as terminal:
        assert terminal.wait() == 0
        assert "\x1b[1;31merror" in terminal.raw and "\x07" not in terminal.raw and "[bold]no[/bold]" in terminal.text
    assert stage.amqp.depth("results") == 2
    assert shown(stage, "--take") == ["good", "bad"]
    assert stage.amqp.depth("results") == 0


def test_filters_and_take(full: Stage) -> None:
    for arguments, expected in {
        (): ["a", "b", "c", "d"],
        ("--type", "t"): ["a", "b", "c"],
        ("--status", "error"): ["c"],
        ("--status", "success", "--type", "u"): ["d"],
        ("--limit", "2"): ["a", "b"],
        ("--queue", "elsewhere"): [],
    }.items():
        assert shown(full, *arguments) == expected, arguments
    assert shown(full, "--take", "--type", "t", "--limit", "2") == ["a", "b"]
    assert [each.body for each in full.amqp.take_many("results", 2)] == [b"c", b"d"], "and nothing else, in order"
    assert full.amqp.depth("results") == 0 and not full.amqp.exists("elsewhere")


def test_the_queue_is_what_the_config_says(stage: Stage) -> None:
    stage.configure("[echo]\nresults_routing_key: elsewhere\n")
    stage.site.install("echo", ECHO)
    stage.amqp.declare("elsewhere")
    put(stage, "x", queue="elsewhere", worker_type="echo")
    config = ("-c", str(stage.config_file))
    assert shown(stage, *config) == shown(stage, *config, "--type", "echo") == ["x"]
    stage.site.install("other", ECHO)
    ran = results(stage, *config)
    assert ran.returncode == 2 and ran.stderr.splitlines() == [
        "taskqueue results: the config sends results to elsewhere, results; expected one of them as --queue"
    ]


def test_follow(full: Stage) -> None:
    command = [str(part) for part in full.command("taskqueue", "results", "--follow", "--type", "t")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=full.env(), text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().split("\t")[0] for _ in range(4)]
        put(full, "other", worker_type="u")
        put(full, "late")
        lines.append(process.stdout.readline().split("\t")[0])
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert lines == ["ID", "a", "b", "c", "late"]
    assert sorted(each.body for each in full.amqp.take_many("results", 6)) == [
        b"a",
        b"b",
        b"c",
        b"d",
        b"late",
        b"other",
    ]


def test_follow_waits_for_a_queue_and_outlives_a_connection(stage: Stage, proxy: Proxy, vhost: str) -> None:
    command = [str(part) for part in stage.command("taskqueue", "results", "--follow", "--json")]
    env = stage.env(TASKQUEUE_AMQP_URL=proxy.url(vhost))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        assert "there is no queue results yet; waiting for it" in process.stderr.readline()
        stage.amqp.declare("results")
        put(stage, "a", "b")
        seen = [json.loads(process.stdout.readline())["id"] for _ in range(2)]
        proxy.cut()
        put(stage, "c")
        seen.append(json.loads(process.stdout.readline())["id"])
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert "Traceback" not in process.stderr.read()
    assert seen == ["a", "b", "c"], "what was shown is not shown again"
    wait_for(lambda: stage.amqp.depth("results") == 3, 10, "all is there")


def test_follow_says_whom_it_keeps_them_from(full: Stage) -> None:
    full.amqp.declare("shared")
    full.amqp.channel.basic_consume("shared", lambda *_: None)
    with Terminal(full.command("taskqueue", "results", "--follow", "--queue", "shared"), full.env()) as terminal:
        terminal.shows("taskqueue: 1 others consume shared; what is shown here is kept from them")
        terminal.press(CTRL_C)
        assert terminal.wait() == 130


# -- purge


def test_purge_asks(stage: Stage) -> None:
    stage.amqp.declare("worker_t")
    for _ in range(3):
        stage.amqp.submit("x", "worker_t")
    for keys, status, left in (("n\r", 1, 3), (CTRL_C, 130, 3), ("y\r", 0, 0)):
        with Terminal(stage.command("taskqueue", "purge", "t"), stage.env()) as terminal:
            terminal.shows(r"Remove 3 workitems that wait in worker_t, for good\? \[y/N\]")
            terminal.press(keys)
            assert terminal.wait() == status, terminal.text
        assert stage.amqp.depth("worker_t") == left
    assert "3 workitems were removed from worker_t" in terminal.text


def test_purge_in_a_pipe(stage: Stage) -> None:
    stage.amqp.declare("worker_t")
    stage.amqp.submit("x", "worker_t")
    ran = stage.run("taskqueue", "purge", "t")
    assert (ran.returncode, ran.stdout, stage.amqp.depth("worker_t")) == (1, "", 1), "nobody said yes"
    ran = stage.run("taskqueue", "purge", "t", "--yes", "--json")
    assert (ran.returncode, json.loads(ran.stdout)) == (0, {"queue": "worker_t", "removed": 1})
    ran = stage.run("taskqueue", "purge", "t", "--yes")
    assert (ran.returncode, ran.stdout) == (0, "0 workitems were removed from worker_t\n")
    ran = stage.run("taskqueue", "purge", "no-such", "--yes")
    assert (ran.returncode, ran.stderr) == (
        1, "taskqueue: there is no queue worker_no-such: nothing was ever sent to workers of type no-such\n",
    )  # fmt: skip


# -- what goes wrong


@pytest.mark.parametrize("arguments", [("results",), ("results", "--follow"), ("purge", "t", "--yes")])
def test_a_broker_that_cannot_be_used_exits_3(
    shared_stage: Stage, broker: PrivateBroker, arguments: tuple[str, ...]
) -> None:
    (closed,) = free_ports(1)
    for url, said in {
        f"amqp://127.0.0.1:{closed}": "connection refused",
        f"amqp://guest:s3cret@127.0.0.1:{broker.port}": "the broker refuses the user or password",
        f"amqp://127.0.0.1:{broker.port}/no-such": "the broker refuses access to the virtual host",
    }.items():
        ran = shared_stage.run("taskqueue", *arguments, TASKQUEUE_AMQP_URL=url)
        assert (ran.returncode, ran.stdout) == (3, "")
        (line,) = ran.stderr.splitlines()
        assert said in line and "s3cret" not in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("results", "--status", "bad"), "'bad' is not one of 'success', 'error'"),
        (("results", "--type", "a b"), "'a b' is not a worker type"),
        (("results", "--limit", "0"), "0 is not in the range"),
        (("purge",), "Missing argument 'TYPE'"),
        (("purge", "a b"), "'a b' is not a worker type"),
        (("status", "--interval", "x"), "expected a duration"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exits_2(
    shared_stage: Stage, arguments: tuple[str, ...], said: str
) -> None:
    ran: subprocess.CompletedProcess[Any] = shared_stage.run("taskqueue", *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"taskqueue {arguments[0]}: ") and said in line
