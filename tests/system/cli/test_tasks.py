"""`taskqueue tasks`: what an operator does with the tasks of a front, and what goes wrong."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemons import Stage
from front_daemons import FrontDaemon
from targets import Target
from terminal import CTRL_C, Terminal
from waiting import wait_for

TARGET = "http://127.0.0.1:9/a/path/that/is/longer/than/a/narrow/terminal/has/room/for"


@pytest.fixture(scope="module")
def front(shared_stage: Stage) -> FrontDaemon:
    """A front that nobody works for: what is added waits."""
    made = FrontDaemon(
        shared_stage, http="queues: emails, other", more="[http_path]\ntarget: http://127.0.0.1:9/hooks/"
    )
    made.start()
    return made


def ask(front: FrontDaemon, *arguments: str, status: int = 0, **keywords: Any) -> subprocess.CompletedProcess[str]:
    ran = front.run("tasks", *arguments, **keywords)
    assert ran.returncode == status, ran.stderr
    assert "Traceback" not in ran.stderr
    return ran


def document(front: FrontDaemon, *arguments: str, **keywords: Any) -> Any:
    return json.loads(ask(front, *arguments, "--json", **keywords).stdout)


def test_add_and_show(front: FrontDaemon) -> None:
    ran = ask(front, "add", "emails", TARGET, "hello", "-H", "X-A: 1", "-X", "PUT", "--delay", "1h", "--tag", "t")
    task = document(front, "show", ran.stdout.strip())
    assert (task["state"], task["method"], task["headers"]["X-A"], task["tags"]) == ("scheduled", "PUT", "1", ["t"])
    assert task["waits_for"].startswith("not due until ") and task["attempts_detail"] == []
    lines = dict(line.split("\t") for line in ask(front, "show", task["id"]).stdout.splitlines())
    assert lines["target"] == f"PUT {TARGET}" and lines["waits for"] == task["waits_for"] and lines["tags"] == "t"
    assert "(in 5" in lines["first due"]


def test_bodies(front: FrontDaemon) -> None:
    def sent(task: str) -> tuple[str, bytes]:
        with closing(sqlite3.connect(front.file)) as book:
            spec, body = book.execute("SELECT spec, body FROM tasks WHERE id = ?", (task.strip(),)).fetchone()
        return dict(json.loads(spec)["headers"]).get("Content-Type", ""), body

    assert sent(ask(front, "add", "other", TARGET, '{"a": 1}', "--json-body").stdout) == (
        "application/json",
        b'{"a":1}',
    )
    assert sent(ask(front, "add", "other", TARGET, "-", stdin="from ä pipe\n").stdout)[1] == "from ä pipe\n".encode()
    assert sent(ask(front, "add", "other", TARGET).stdout)[1] == b""
    command = front.stage.command("taskqueue", "tasks", "add", "other", TARGET, "-", "-c", front.stage.config_file)
    binary = subprocess.run(
        [str(part) for part in command], input=b"\xff\x00", capture_output=True, env=front.stage.env(), check=True
    )
    assert sent(binary.stdout.decode())[1] == b"\xff\x00"
    assert "the body is not JSON" in ask(front, "add", "other", TARGET, "{", "--json-body", status=2).stderr
    ask(front, "add", "other", TARGET, "--json-body", status=2)
    ask(front, "add", "other", TARGET, "-H", "no colon", status=2)


def test_a_path_and_a_worker_type_are_targets_too(front: FrontDaemon) -> None:
    assert document(front, "add", "path", "/x")["url"] == "http://127.0.0.1:9/hooks/x"
    assert document(front, "add", "other", "report", "x")["worker_type"] == "report"


def test_list_and_its_filters(front: FrontDaemon) -> None:
    ids = [document(front, "add", "emails", TARGET, "--name", f"n{number}", "--delay", "1h")["id"] for number in "12"]
    head, *rows = [line.split("\t") for line in ask(front, "list", "--queue", "emails").stdout.splitlines()]
    assert head == ["ID", "QUEUE", "STATE", "TRIED", "AGE", "DUE", "TARGET", "LAST ATTEMPT"]
    assert [row[0] for row in rows[:2]] == ids[::-1], "the newest first"
    assert rows[0][2] == "scheduled" and rows[0][5].startswith("in ") and rows[0][6] == TARGET
    assert [each["id"] for each in document(front, "list", "--name", "n1")] == ids[:1]
    assert [each["id"] for each in document(front, "list", "--limit", "1", "--target", "http://127.0.0.1:9/a/")] == ids[
        1:
    ]
    limited = ask(front, "list", "--queue", "emails", "--limit", "1")
    assert limited.stderr == "taskqueue: these are the newest 1; --limit N shows more\n"
    nothing = ask(front, "list", "--state", "dead", "--state", "expired")
    assert (nothing.stdout.count("\n"), nothing.stderr) == (1, "taskqueue: no task fits\n")
    assert document(front, "list", "--state", "dead") == []


def test_on_a_terminal_of_80_columns(front: FrontDaemon) -> None:
    task = document(front, "add", "emails", TARGET)
    command = front.stage.command("taskqueue", "tasks", "list", "--limit", "1", "-c", front.stage.config_file)
    with Terminal(command, front.stage.env(), columns=80) as terminal:
        assert terminal.wait() == 0
        lines = [line.rstrip() for line in terminal.text.splitlines()]
    assert lines[0].split() == ["ID", "QUEUE", "STATE", "TARGET"]
    assert lines[1].startswith(task["id"]), "an id is never broken"
    assert all(len(line) <= 80 for line in lines)
    with Terminal(command, front.stage.env(), columns=200) as terminal:
        assert terminal.wait() == 0
        terminal.shows(r"ID +QUEUE +STATE +TRIED +AGE +DUE +TARGET +LAST ATTEMPT")


def test_cancel_run_and_retry(front: FrontDaemon) -> None:
    task = document(front, "add", "emails", TARGET, "--delay", "1h")["id"]
    assert ask(front, "run", task).stdout == f"{task} is due now\n"
    assert ask(front, "cancel", task).stdout == f"{task} is cancelled\n"
    again = ask(front, "cancel", task, status=1)
    assert f"taskqueue: {task}: The task {task} is cancelled." in again.stderr
    (retried,) = document(front, "retry", task)
    assert retried["state"] == "ready"
    none = "01981a2b-0000-7000-8000-000000000001"
    some = ask(front, "cancel", none, task, status=1)
    assert some.stdout.startswith(task) and f"{none}: There is no task '{none}'; taskqueue tasks list" in some.stderr
    assert some.stderr.endswith("taskqueue: 1 of 2 tasks were left as they are\n")


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (("show", "nosuch"), 1, "There is no task 'nosuch'; taskqueue tasks list shows those that there are"),
        (("show", "../queues"), 1, "There is no task '../queues'"),
        (("list", "--queue", "nosuch"), 1, "There is no queue 'nosuch'; taskqueue queues list shows all"),
        (("add", "nosuch", TARGET), 1, "There is no queue 'nosuch'"),
        (("add", "emails", "ftp://x/"), 1, "taskqueue: url has the scheme ftp; expected http or https"),
        (("add", "emails", TARGET, "--delay", "soon", "--name", "a b"), 1, "delay must be seconds, or a duration"),
        (("list", "--state", "nosuch"), 2, "'nosuch' is not one of 'scheduled'"),
        (("list", "--status", "9"), 1, "status_code"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    front: FrontDaemon, arguments: tuple[str, ...], status: int, line: str
) -> None:
    ran = ask(front, *arguments, status=status)
    assert line in ran.stderr and ran.stderr.count("\n") == 1 and ran.stdout == ""


def test_waiting_for_an_end_that_does_not_come(front: FrontDaemon) -> None:
    ran = ask(front, "add", "emails", TARGET, "--wait", "1", status=4)
    assert "has not ended within 1 s; it is ready" in ran.stderr and ran.stdout.startswith("id\t")
    task = ran.stdout.splitlines()[0].partition("\t")[2]
    ask(front, "show", task, "--wait", "1", status=4)
    ask(front, "cancel", task)
    assert ask(front, "show", task, "--wait", "1").stdout.count("state\tcancelled") == 1


def test_another_front_by_option_and_environment(front: FrontDaemon) -> None:
    task = document(front, "add", "emails", TARGET)["id"]
    for ran in (
        front.stage.run("taskqueue", "tasks", "show", task, "--url", front.url),
        front.stage.run("taskqueue", "tasks", "show", task, TASKQUEUE_HTTP_URL=f"unix:{front.socket}"),
    ):
        assert ran.returncode == 0 and task in ran.stdout, ran.stderr


def test_nobody_there(front: FrontDaemon) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        ran = ask(front, "list", "--url", url, status=3)
    assert ran.stderr == f"taskqueue: front {url}: nothing listens there; is taskqueue-http running?\n"
    broker = front.stage.amqp_url.partition("@")[2].partition("/")[0]
    other = ask(front, "list", "--url", f"http://{broker}", status=3).stderr
    assert other.startswith(f"taskqueue: front http://{broker}: ") and other.count("\n") == 1
    assert "hush" not in ask(front, "list", "--url", "http://me:hush@h/", status=3).stderr


def test_ctrl_c_while_it_waits(front: FrontDaemon) -> None:
    task = document(front, "add", "emails", TARGET)["id"]
    command = front.stage.command("taskqueue", "tasks", "show", task, "--wait", "60", "-c", front.stage.config_file)
    with Terminal(command, front.stage.env()) as terminal:
        wait_for(lambda: _connected(terminal), 10, "it waits for the front")
        terminal.press(CTRL_C)
        assert terminal.wait() == 130
        terminal.shows("taskqueue: interrupted")


def _connected(terminal: Terminal) -> bool:
    """Whether the command has opened its connection to the front."""
    fds = Path("/proc", str(terminal.process.pid), "fd")
    return any(str(fd.readlink()).startswith("socket:") for fd in fds.iterdir())


def test_a_reader_that_goes_away(front: FrontDaemon) -> None:
    for _ in range(3):
        ask(front, "add", "emails", TARGET)
    command = " ".join(
        str(part) for part in front.stage.command("taskqueue", "tasks", "list", "-c", front.stage.config_file)
    )
    ran = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, env=front.stage.env(), check=True,
    )  # fmt: skip
    assert ran.stderr == "" and int(ran.stdout) in {0, 128 + signal.SIGPIPE}


def test_one_that_died_and_one_that_succeeded(stage: Stage) -> None:
    front = FrontDaemon(stage, more="[http_e]\nmax_attempts: 2\nmin_backoff: 100ms\n[webhook]\ntargets: private\n")
    stage.site.install_webhook()
    stage.start("webhook")
    front.start()
    with Target() as target:
        good = ask(front, "add", "e", f"{target.url}/x", "hello", "--wait", "20")
        assert "state\tsucceeded\n" in good.stdout and 'result\t"ok"\n' in good.stdout
        target.answer = lambda request: (503, {}, b"busy\x1b[2J")
        bad = ask(front, "add", "e", f"{target.url}/x", "hello", "--wait", "20", status=1)
    task = bad.stdout.splitlines()[0].partition("\t")[2]
    assert bad.stderr == f"taskqueue: task {task} is dead\n"
    shown, attempts = ask(front, "show", task).stdout.split("\n\n")
    assert "state\tdead (failed)\n" in shown and "waits for" not in shown
    rows = [line.split("\t") for line in attempts.splitlines()]
    assert rows[0] == ["ATTEMPT", "AT", "OUTCOME", "STATUS", "SECONDS", "ADDRESS", "ERROR"]
    assert [row[0] for row in rows[1:]] == ["1", "2"] and {row[2] for row in rows[1:]} == {"answered"}
    (row,) = [line.split("\t") for line in ask(front, "list", "--state", "dead").stdout.splitlines()[1:]]
    assert (row[0], row[3], row[7]) == (task, "2", "answered 503") and "\x1b" not in shown
    told = front.told("why", task, "--socket", stage.pool.socket_path)
    assert "ago): its attempts are used up; tried 2 times, at last answered 503" in told
