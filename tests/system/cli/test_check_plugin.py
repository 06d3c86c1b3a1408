"""`taskqueue check-plugin` as it is installed: plugins that survive, and plugins that do not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from daemons import Stage
from processes import descendants, wait_gone
from terminal import CTRL_C, Terminal

GOOD = """
    import time
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            if body != "good":
                raise ValueError("not good")
            time.sleep(0.2)
            return "result"
"""
FAST = """
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            return 1
"""
FRAGILE = """
    import os
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            if isinstance(body, bytes):
                os._exit(9)
            return None
"""
FORGETS = """
    import itertools, time
    from pathlib import Path
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            if body == "good":
                half = Path(self.settings["scratch"], "half-done")
                half.touch(exist_ok=False)
                time.sleep(0.2)
                half.unlink()
                return "result"

        def teardown(self):
            raise RuntimeError("no way")
"""
STUBBORN = """
    import signal, time
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def setup(self):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self.number = 0

        def handle_task(self, body):
            print("at work")
            self.number += 1
            until = time.monotonic() + 0.3
            while time.monotonic() < until:
                try:
                    time.sleep(0.3)
                except BaseException:
                    until = time.monotonic() + 1000
            return self.number

        def teardown(self):
            time.sleep(1000)
"""


@pytest.fixture(scope="module")
def installed(shared_stage: Stage) -> Stage:
    """All of them, with a config that makes the stubborn one bearable."""
    for name, source in (
        ("good", GOOD), ("fast", FAST), ("fragile", FRAGILE), ("forgets", FORGETS), ("stubborn", STUBBORN),
        ("broken", "import no_such_module\n"),
    ):  # fmt: skip
        shared_stage.site.install(name, source)
    shared_stage.configure(
        f"[workerpool]\nstop_timeout: 1s\n[good]\ntime_limit: 10s\n[forgets]\nscratch: {shared_stage.scratch}\n"
    )
    return shared_stage


def check(stage: Stage, *arguments: str, status: int) -> dict[str, dict[str, Any]]:
    """What was found, by check; the last one of each. Needs no broker."""
    command = ("taskqueue", "--json", "check-plugin", "-c", stage.config_file, *arguments)
    ran = stage.run(*command, deadline_s=120, TASKQUEUE_AMQP_URL="amqp://127.0.0.1:1")
    assert ran.returncode == status, ran.stdout + ran.stderr
    return {each["check"]: each for each in json.loads(ran.stdout)}


def test_a_plugin_that_survives_all(installed: Stage) -> None:
    found = check(installed, "good", "good", status=0)
    assert {name: each["status"] for name, each in found.items()} == dict.fromkeys(
        ["start", "workitem", "bad payload", "duplicate", "end", "time limit", "SIGTERM", "SIGKILL"], "ok"
    )
    assert found["bad payload"]["found"] == "survived 8: 8 failed, 0 done"
    same = "the second run gave the same result"
    assert found["duplicate"]["found"] == f"the same again; {same}"
    assert re.fullmatch(
        rf"soft_time_limit after \d+ ms: error: SoftTimeLimitExceeded: .*; {same}",
        found["time limit"]["found"],
    )
    for name in ("SIGTERM", "SIGKILL"):
        assert found[name]["found"] == f"the worker died: signal {name} in the middle; {same}"


def test_what_is_too_fast_is_not_said_to_have_survived(installed: Stage) -> None:
    found = check(installed, "fast", status=0)
    assert found["time limit"]["found"].startswith("not tried: done in ")
    for name in ("SIGTERM", "SIGKILL"):
        assert re.match(
            "not tried: done before it came|the worker died: signal|finished all the same", found[name]["found"]
        )


def test_a_worker_that_dies_of_a_payload(installed: Stage) -> None:
    found = check(installed, "fragile", status=1)
    assert (found["bad payload"]["status"], found["bad payload"]["found"]) == (
        "problem", "bytes: the worker died: status 9",
    )  # fmt: skip


def test_a_second_run_that_finds_what_the_first_has_left(installed: Stage) -> None:
    (installed.scratch / "half-done").unlink(missing_ok=True)
    found = check(installed, "forgets", "good", status=1)
    assert found["duplicate"]["status"] == "ok", "the first run was complete"
    for name in ("time limit", "SIGTERM", "SIGKILL"):
        assert found[name]["status"] == "problem"
        assert "error: FileExistsError" in found[name]["found"] and "idempotent" in found[name]["advice"]
    assert "SoftTimeLimitExceeded" in found["time limit"]["found"], "that is what has left it"
    assert found["end"]["found"] == "ended with status 1"


def test_a_stubborn_one(installed: Stage) -> None:
    found = check(installed, "stubborn", "good", status=0)
    assert found["duplicate"]["found"] == "the same again; the second run gave another result"
    assert found["end"]["found"] == "still there 1 s after its last workitem"
    assert found["time limit"]["found"].endswith("it hangs, and was killed")
    assert found["SIGTERM"]["found"].startswith("finished all the same; ")
    assert found["SIGKILL"]["found"].startswith("the worker died: signal SIGKILL in the middle; ")
    assert {found[name]["status"] for name in ("duplicate", "end", "time limit")} == {"warning"}


def test_without_a_good_body_and_without_a_good_plugin(installed: Stage) -> None:
    (installed.scratch / "half-done").unlink(missing_ok=True)
    found = check(installed, "good", "bad", status=1)
    assert found["workitem"]["found"].startswith("error: ValueError: not good; what needs a good one was not tried")
    assert set(found) == {"start", "workitem", "bad payload"}
    found = check(installed, "broken", status=1)
    assert found["start"]["found"] == "ModuleNotFoundError: No module named 'no_such_module'"


def test_in_a_pipe_on_a_terminal_and_ctrl_c(installed: Stage, tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_text("good")
    ran = installed.run("taskqueue", "check-plugin", "-c", installed.config_file, "fragile", "--file", file)
    head, *lines = [line.split("\t") for line in ran.stdout.splitlines()]
    assert (ran.returncode, head) == (1, ["STATUS", "CHECK", "FOUND", "WHAT TO DO"])
    assert "problem" in {line[0] for line in lines}
    with Terminal(
        installed.command("taskqueue", "check-plugin", "-c", installed.config_file, "fragile"), installed.env(),
        columns=200,
    ) as terminal:  # fmt: skip
        assert terminal.wait() == 1
        terminal.shows(r"^problem +bad payload +bytes: the worker died: status 9 +let handle_task raise")
    command = installed.command("taskqueue", "check-plugin", "-v", "-c", installed.config_file, "stubborn", "good")
    with Terminal(command, installed.env()) as terminal:
        terminal.shows("^at work")
        theirs = descendants(terminal.process.pid)
        terminal.press(CTRL_C)
        assert terminal.wait() == 130, terminal.text
    wait_gone(theirs)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'TYPE'"),
        (("nosuch",), "no plugin 'nosuch' is installed; expected one of "),
        (("good", "{"), "BODY: not JSON: "),
    ],
)
def test_a_wrong_command_line(installed: Stage, arguments: tuple[str, ...], said: str) -> None:
    ran = installed.run("taskqueue", "check-plugin", *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith("taskqueue check-plugin: ") and said in line
