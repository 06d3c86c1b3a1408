"""`taskqueue plugins` and `taskqueue run` as they are installed: real plugins, in processes of their own users."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import textwrap
from pathlib import Path

import pytest

from daemons import Stage
from processes import descendants, wait_gone
from terminal import CTRL_C, Terminal
from waiting import wait_for

SPEAKS = """
    import getpass, json, os, signal, subprocess, sys, time
    from taskqueue.worker import BaseWorker, Reject, Retry

    class Worker(BaseWorker):
        def setup(self):
            print("set up")

        def teardown(self):
            print("torn down")

        def handle_task(self, body):
            match body:
                case "bad":
                    raise ValueError("\\x1b]0;forged\\x07 [bold]no[/bold]")
                case "later":
                    raise Retry("busy", delay_s=5)
                case "never":
                    raise Reject("no good")
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "ask":
                    return input("name? ")
                case "sleep":
                    subprocess.Popen(["sleep", "1000"], start_new_session=True)
                    print("asleep")
                    time.sleep(1000)
                case "bytes":
                    return b"\\xff\\x00"
                case "who":
                    return [getpass.getuser(), os.getuid(), os.getcwd(), "TASKQUEUE_AMQP_URL" in os.environ]
                case "task":
                    self.log.info("it runs")
                    task = self.task
                    return [task.id, task.attempt, dict(task.headers), self.settings["greeting"]]
            return body
"""
BROKEN = """
    import no_such_module
"""
HANGS_UP = """
    import os
    os._exit(3)
"""
NO_WORKER = """
    Worker = type("Worker", (), {"factory": staticmethod(lambda: None)})
"""


@pytest.fixture(scope="module")
def installed(shared_stage: Stage) -> Stage:
    """Five plugins, one of them disabled, one left out, and a config for them."""
    shared_stage.site.install("speaks", SPEAKS, version="2.1")
    shared_stage.site.install("broken", BROKEN)
    shared_stage.site.install("hangs-up", HANGS_UP)
    shared_stage.site.install("no-worker", NO_WORKER)
    shared_stage.site.install("off", BROKEN)
    shared_stage.configure(
        "[DEFAULT]\ngreeting: hello\n[off]\nworkers: 0\n[speaks]\nworkers: 2\ntime_limit: 3s\n"
        "[workerpool]\nplugins: speaks, broken, off, no-worker\n"
    )
    return shared_stage


def run(stage: Stage, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """`taskqueue run`, without a broker to be found."""
    command = ("taskqueue", "run", "-c", stage.config_file, *arguments)
    return stage.run(*command, stdin=stdin, TASKQUEUE_AMQP_URL="amqp://127.0.0.1:1")


# -- plugins


def test_plugins_in_a_pipe(installed: Stage) -> None:
    ran = installed.run("taskqueue", "plugins", "-c", installed.config_file)
    assert ran.returncode == 1, "one that is enabled does not import"
    head, *lines = [line.split("\t") for line in ran.stdout.splitlines()]
    assert head[:5] == ["GROUP", "DISTRIBUTION", "VERSION", "ENTRY POINT", "ENABLED"]
    found = {line[0]: dict(zip(head, line, strict=True)) for line in lines}
    assert found["speaks"] | {"USER": ""} == {
        "GROUP": "speaks", "DISTRIBUTION": "plugin_speaks", "VERSION": "2.1", "USER": "",
        "ENTRY POINT": "plugin_speaks.worker:Worker.factory", "ENABLED": "yes", "WORKERS": "2", "IMPORTS": "yes",
        "SECTIONS": "[DEFAULT], [speaks]",
    }  # fmt: skip
    assert found["broken"]["IMPORTS"] == "ModuleNotFoundError: No module named 'no_such_module'"
    assert found["hangs-up"]["ENABLED"] == "no: not in [workerpool] plugins"
    assert found["hangs-up"]["IMPORTS"] == "its process died before it was imported: status 3"
    assert (found["off"]["ENABLED"], found["off"]["SECTIONS"]) == ("no: workers is 0", "[DEFAULT], [off]")
    assert found["no-worker"]["IMPORTS"] == "yes", "its factory is not called"


def test_only_those_that_are_enabled_count_for_the_exit_status(installed: Stage) -> None:
    for names, status in ((["speaks", "off", "hangs-up"], 0), (["speaks", "broken"], 1)):
        ran = installed.run("taskqueue", "plugins", "-c", installed.config_file, *names)
        assert ran.returncode == status, ran.stderr
    ran = installed.run("taskqueue", "plugins", "-c", installed.config_file, "--no-import")
    assert (ran.returncode, ran.stdout.count("not tried")) == (0, 5)


def test_a_named_plugin_with_its_settings_and_the_traceback(installed: Stage) -> None:
    ran = installed.run("taskqueue", "plugins", "-c", installed.config_file, "broken")
    assert f"broken\tgreeting\thello\t{installed.config_file}:2" in ran.stdout.splitlines()
    assert "broken\tmax_crashes\t3\tdefault" in ran.stdout.splitlines()
    assert "Traceback (most recent call last):" in ran.stderr and "import no_such_module" in ran.stderr


def test_plugins_as_json(installed: Stage) -> None:
    ran = installed.run("taskqueue", "--json", "plugins", "-c", installed.config_file)
    found = {each["group"]: each for each in json.loads(ran.stdout)}
    assert (found["speaks"]["enabled"], found["speaks"]["imports"], found["speaks"]["error"]) == (True, True, None)
    assert (found["broken"]["imports"], found["off"]["enabled"]) == (False, False)
    assert "no_such_module" in found["broken"]["trace"]
    limits = [each for each in found["speaks"]["settings"] if each["key"] == "time_limit"]
    assert limits == [
        {"section": "speaks", "key": "time_limit", "value": 3, "from": f"{installed.config_file}:7"}
    ]  # fmt: skip


def test_plugins_on_a_terminal(installed: Stage) -> None:
    command = installed.command("taskqueue", "plugins", "-c", installed.config_file)
    with Terminal(command, installed.env(), columns=240) as terminal:
        assert terminal.wait() == 1
        assert "\x1b[" in terminal.raw
        terminal.shows(
            r"^speaks +plugin_speaks +2\.1 +plugin_speaks\.worker:Worker\.factory +yes +2 .* yes +\[DEFAULT\]"
        )
    with Terminal(command, installed.env(), columns=80) as terminal:
        assert terminal.wait() == 1
        terminal.shows(r"^speaks +plugin_speak\S* +2\.1 +yes +2 +\w+ +yes *$")


def test_no_plugin_and_no_such_plugin(stage: Stage) -> None:
    ran = stage.run("taskqueue", "plugins")
    assert (ran.returncode, ran.stderr) == (0, "taskqueue: no plugin is installed (entry points worker.plugins)\n")
    stage.site.install("speaks", SPEAKS)
    for command in ("plugins", "run"):
        ran = stage.run("taskqueue", command, "speeks")
        assert (ran.returncode, ran.stderr.splitlines()) == (2, [
            f"taskqueue {command}: no plugin 'speeks' is installed; expected one of speaks; did you mean 'speaks'?"
        ])  # fmt: skip


@pytest.mark.root_only
def test_each_group_is_tried_as_its_own_user(stage: Stage) -> None:
    who = stage.scratch / "who"
    says_who = f"""
        import getpass
        with open("{who}", "a") as file:
            print(getpass.getuser(), file=file)
    """
    stage.site.install("speaks", textwrap.dedent(says_who) + textwrap.dedent(SPEAKS))
    who.touch()
    who.chmod(0o666)
    stage.configure("[speaks]\nworkers: a, b\n[speaks_a]\nuser: bifh1\n[speaks_b]\nuser: bifh2\n")
    ran = stage.run("taskqueue", "plugins", "-c", stage.config_file)
    assert ran.returncode == 0, ran.stdout
    assert sorted(stage.output("who")) == ["bifh1", "bifh2"]
    ran = stage.run("taskqueue", "run", "-c", stage.config_file, "speaks/b", "who")
    assert json.loads(ran.stdout) == ["bifh2", pwd.getpwnam("bifh2").pw_uid, "/", False]
    ran = stage.run("taskqueue", "run", "-c", stage.config_file, "speaks", "who")
    assert (ran.returncode, ran.stderr) == (
        2, "taskqueue run: speaks has instances; expected one of speaks/a, speaks/b\n"
    )  # fmt: skip


@pytest.mark.root_only
def test_as_another_than_root(installed: Stage) -> None:
    command = installed.command("taskqueue", "plugins", "-c", installed.config_file, "speaks")
    ran = subprocess.run(
        [str(part) for part in command], user="bifh1", group="bifh1", env=installed.env(), cwd="/",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[1].split("\t")[6:8] == ["bifh1", "yes"], "as the pool of whoever starts it"


# -- run


def test_run_prints_the_result_and_nothing_else(installed: Stage) -> None:
    ran = run(installed, "speaks", "hello")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "hello\n", "set up\ntorn down\n")
    ran = run(installed, "speaks", "-", stdin='{"a": [1, "\u00e9"]}')
    assert (ran.returncode, ran.stdout) == (0, '{"a": [1, "\u00e9"]}\n')
    ran = run(installed, "speaks")
    assert (ran.returncode, ran.stdout) == (0, "\n")


def test_run_gives_what_a_worker_gets(installed: Stage, tmp_path: Path) -> None:
    ran = run(installed, "speaks", "task", "--id", "me", "--attempt", "3", "--header", "a=b")
    assert json.loads(ran.stdout) == ["me", 3, {"a": "b"}, "hello"]
    assert "INFO" in ran.stderr and "it runs task=me" in ran.stderr
    file = tmp_path / "body"
    file.write_bytes(b"from a file")
    ran = run(installed, "speaks", "--file", str(file))
    assert (ran.returncode, ran.stdout) == (0, "from a file\n")
    ran = run(installed, "speaks", "{no json", "--text")
    assert (ran.returncode, ran.stdout) == (0, "{no json\n")
    ran = run(installed, "speaks", '{"a":1}', "--content-type", "application/octet-stream")
    assert ran.stdout == '{"a":1}'


@pytest.mark.parametrize(
    ("body", "status", "last"),
    [
        ("bad", 1, r"taskqueue: failed: \x1b]0;forged\x07 [bold]no[/bold]"),
        ("later", 1, "taskqueue: asks to be run again in 5 s: busy"),
        ("never", 1, "taskqueue: rejected, would be a dead letter: no good"),
        ("kill", 1, "taskqueue: the worker died: signal SIGKILL"),
        ("sleep", 4, "taskqueue: time_limit of 3 s is over; the worker was killed"),
    ],
)
def test_run_says_what_went_wrong(installed: Stage, body: str, status: int, last: str) -> None:
    ran = run(installed, "speaks", body)
    assert (ran.returncode, ran.stdout) == (status, "")
    assert last in ran.stderr.splitlines() and "\x1b" not in ran.stderr


def test_run_as_json(installed: Stage) -> None:
    def document(*arguments: str) -> tuple[int, dict[str, object]]:
        ran = run(installed, "--json", *arguments)
        return ran.returncode, json.loads(ran.stdout)

    status, found = document("speaks", "hello")
    assert (status, found["status"], found["result"], found["content_type"]) == (0, "success", "hello", "text/plain")
    status, found = document("speaks", "bad")
    assert (status, found["status"], found["error_type"]) == (1, "error", "ValueError")
    status, found = document("speaks", "kill")
    assert (status, found) == (1, {"status": "crashed", "exit_code": -signal.SIGKILL})
    status, found = document("broken", "x")
    assert (status, found["status"]) == (1, "not run")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "taskqueue: not run: ModuleNotFoundError: No module named 'no_such_module'"),
        ("hangs-up", "taskqueue: not run: its process died before it was imported: status 3"),
        ("no-worker", "expected a worker with handle_task"),
    ],
)
def test_run_of_a_plugin_that_cannot_be_used(installed: Stage, name: str, said: str) -> None:
    ran = run(installed, name, "x")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert said in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("speaks", "{"), "BODY: not JSON: "),
        (("speaks", "x", "--file", "/etc/hostname"), "BODY and --file given"),
        (("speaks", "--file", "/no/such"), "'/no/such' does not exist"),
        (("speaks", "--attempt", "0"), "0 is not in the range"),
        ((), "Missing argument 'TYPE'"),
    ],
)
def test_a_wrong_command_line(installed: Stage, arguments: tuple[str, ...], said: str) -> None:
    ran = run(installed, *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith("taskqueue run: ") and said in line


def test_a_plugin_may_ask_the_terminal(installed: Stage) -> None:
    command = installed.command("taskqueue", "run", "-c", installed.config_file, "speaks", "ask")
    with Terminal(command, installed.env()) as terminal:
        terminal.shows(r"name\? ")
        terminal.press("Erika\n")
        assert terminal.wait() == 0
        assert terminal.text.splitlines()[-2:] == ["Erika", "torn down"]


def test_ctrl_c_ends_it_and_all_that_it_has_started(installed: Stage) -> None:
    command = installed.command("taskqueue", "run", "-c", installed.config_file, "speaks", "sleep")
    with Terminal(command, installed.env()) as terminal:
        terminal.shows("^asleep")
        theirs = wait_for(lambda: found if len(found := descendants(terminal.process.pid)) == 2 else None, 10, "both")
        assert theirs is not None
        terminal.press(CTRL_C)
        assert terminal.wait() == 130
        assert terminal.text.rstrip().splitlines()[-1] == "taskqueue: interrupted"
        assert "Traceback" not in terminal.text
    wait_gone(theirs)


def test_nothing_is_left_when_it_is_killed(installed: Stage) -> None:
    command = [
        str(part) for part in installed.command("taskqueue", "run", "-c", installed.config_file, "speaks", "ask")
    ]
    with subprocess.Popen(command, env=installed.env(), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"set up" in process.stderr.readline()
        theirs = descendants(process.pid)
        assert len(theirs) == 1
        os.kill(process.pid, signal.SIGKILL)
    wait_gone(theirs)
