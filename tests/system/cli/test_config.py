"""`taskqueue config` as it is installed: values and where they were said, in a pipe, on a terminal and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemons import Stage
from terminal import Terminal

CONFIG = """\
[DEFAULT]
workers: 1
greeting: hello

[amqp]
host: one, two:99
passwd: geheim

[worker2]
workers: here, there
time_limit: 90

[worker2_here]
time_limit: 2m

[worker2_there]
db_password: hush
max_memory: 512M
"""

PLUGIN = """
    from taskqueue.worker import BaseWorker

    raise SystemExit("imported")
"""


@pytest.fixture
def configured(stage: Stage) -> Stage:
    """A config with instances, a file in conf.d, and a plugin that has no section."""
    stage.site.install("plain", PLUGIN)
    stage.configure(CONFIG)
    more = stage.directory / "conf.d"
    more.mkdir()
    (more / "more.ini").write_text("[worker2_there]\nmax_memory: 1G\n")
    return stage


def rows(stage: Stage, *arguments: str, **environ: str) -> dict[tuple[str, str], tuple[str, str]]:
    """(value, from) by (section, key), of what the command prints in a pipe."""
    ran = stage.run("taskqueue", "config", "-c", stage.config_file, *arguments, **environ)
    assert ran.returncode == 0, ran.stderr
    head, *lines = [line.split("\t") for line in ran.stdout.splitlines()]
    assert head == ["SECTION", "KEY", "VALUE", "FROM"]
    return {(section, key): (value, where) for section, key, value, where in lines}


def test_each_value_and_where_it_was_said(configured: Stage) -> None:
    file = configured.config_file
    found = rows(configured, TASKQUEUE_AMQP_URL="")
    assert found["amqp", "host"] == ("one, two:99", f"{file}:6")
    assert found["amqp", "port"] == ("5672", "default")
    assert found["amqp", "passwd"] == ("********", f"{file}:7")
    assert found["workerpool", "results_ttl"] == ("7d", "default")
    assert found["worker2/here", "time_limit"] == ("2m", f"{file}:14")
    assert found["worker2/there", "time_limit"] == ("90s", f"{file}:11")
    assert found["worker2/there", "max_memory"] == ("1G", f"{file.parent}/conf.d/more.ini:2")
    assert found["worker2/here", "workers"] == ("1", f"{file}:2"), "the names of instances are no number of workers"
    assert found["worker2/there", "db_password"] == ("********", f"{file}:17")
    assert found["plain", "greeting"] == ("hello", f"{file}:3")
    assert {section for section, _ in found} == {
        "amqp", "dispatcher", "workerpool", "logging", "http", "DEFAULT", "plain", "worker2/here", "worker2/there",
    }  # fmt: skip


def test_what_the_environment_says(configured: Stage) -> None:
    found = rows(configured, "amqp", TASKQUEUE_AMQP_URL="amqps://me:geheim2@there/v")
    said = {key: value for (_, key), (value, where) in found.items() if where == "TASKQUEUE_AMQP_URL"}
    assert said == {"host": "there", "port": "5671", "ssl": "yes", "user": "me", "passwd": "********", "vhost": "v"}


def test_json_has_numbers_and_no_password(configured: Stage) -> None:
    arguments = ("--json", "config", "-c", configured.config_file, "amqp", "worker2/there")
    ran = configured.run("taskqueue", *arguments, TASKQUEUE_AMQP_URL="")
    found = {(each["section"], each["key"]): each["value"] for each in json.loads(ran.stdout)}
    assert found["amqp", "host"] == ["one", "two:99"]
    assert (found["worker2/there", "time_limit"], found["worker2/there", "max_memory"]) == (90, 1 << 30)
    assert (found["amqp", "ssl"], found["worker2/there", "user"]) == (False, None)
    assert "geheim" not in ran.stdout and "hush" not in ran.stdout


def test_queues_and_schedules(configured: Stage) -> None:
    file = configured.config_file
    configured.configure(
        "[http]\nqueues: a, b\nbook: postgresql://me:geheim@h/d\n[http_emails]\nrate_limit: 600/m\n"
        "headers: X-Key: geheim\n[schedule_nightly]\ncron: 0,30 3 * * *\nworker_type: plain\n"
    )
    found = rows(configured)
    assert found["http", "queues"] == ("a, b", f"{file}:2")
    assert found["http", "book"] == ("postgresql://me:…@h/d", f"{file}:3")
    assert found["http", "listen"] == ("127.0.0.1:8088", "default")
    assert found["http_emails", "rate_limit"] == ("10/s", f"{file}:5")
    assert found["http_emails", "headers"] == ("X-Key: ********", f"{file}:6")
    assert found["schedule_nightly", "cron"] == ("0,30 3 * * *", f"{file}:8")
    assert {section for section, _ in rows(configured, "http_emails", "schedule_nightly")} == {
        "http_emails", "schedule_nightly",
    }  # fmt: skip
    ran = configured.run("taskqueue", "config", "--check", "-c", file)
    assert (ran.returncode, ran.stdout) == (0, "config is valid: 1 group, 3 queues of tasks, 1 schedule\n")
    ran = configured.run("taskqueue", "--json", "config", "--check", "-c", file)
    document = json.loads(ran.stdout)
    assert (document["queues"], document["schedules"]) == (["a", "b", "emails"], ["nightly"])


def test_a_table_on_a_terminal(configured: Stage) -> None:
    command = configured.command("taskqueue", "config", "-c", configured.config_file, "worker2/there")
    with Terminal(command, configured.env(), columns=160) as terminal:
        assert terminal.wait() == 0
        assert "\x1b[" in terminal.raw and "\t" not in terminal.raw
        terminal.shows(r"^SECTION +KEY +VALUE +FROM *$")
        terminal.shows(r"^worker2/there +time_limit +90s +\S+/config.ini:11 *$")
        assert "hush" not in terminal.raw


def test_check(configured: Stage) -> None:
    ran = configured.run("taskqueue", "config", "--check", "-c", configured.config_file)
    assert (ran.returncode, ran.stdout) == (0, "config is valid: 1 group\n")
    (warning,) = ran.stderr.splitlines()
    assert warning == f"taskqueue: {configured.config_file}:9: [worker2]: no plugin 'worker2' is installed"
    ran = configured.run("taskqueue", "--json", "config", "--check", "-c", configured.config_file)
    assert json.loads(ran.stdout)["valid"] is True and json.loads(ran.stdout)["groups"] == ["plain"]


def test_a_bad_config_is_a_line_for_each_fault(configured: Stage) -> None:
    configured.configure("[amqp]\nhots: a\n[plain]\nworkers: many and more\nuser: nobody-of-that-name\n")
    for arguments in (("config",), ("config", "--check")):
        ran = configured.run("taskqueue", "-c", configured.config_file, *arguments)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert [line.split(" ")[1].rpartition(":")[0] for line in ran.stderr.splitlines()] == [
            f"{configured.config_file}:{number}" for number in (2, 4, 5)
        ]
    ran = configured.run("taskqueue", "--json", "config", "--check", "-c", configured.config_file)
    document = json.loads(ran.stdout)
    assert (ran.returncode, document["valid"], len(document["faults"])) == (2, False, 3)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("amqb",), 2, "taskqueue config: no section or group 'amqb'; expected one of amqp, dispatcher,"),
        (("amqb",), 2, "; did you mean 'amqp'?"),
        (("--check", "amqp"), 2, "taskqueue config: --check is of all sections"),
        (("-c", "/no/such.ini"), 2, "taskqueue: /no/such.ini: no such file"),
    ],
)
def test_a_wrong_command_line(shared_stage: Stage, arguments: tuple[str, ...], status: int, said: str) -> None:
    ran = shared_stage.run("taskqueue", "config", *arguments)
    assert (ran.returncode, ran.stdout) == (status, "")
    (line,) = ran.stderr.splitlines()
    assert said in line


def test_a_file_that_may_not_be_read(stage: Stage, tmp_path: Path) -> None:
    ran = stage.run("taskqueue", "config", "-c", tmp_path)
    assert (ran.returncode, ran.stderr) == (2, f"taskqueue: {tmp_path}: cannot be read: is a directory\n")
