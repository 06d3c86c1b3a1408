"""`taskqueue submit` as it is installed: on a terminal, in a pipe, and with everything that can go wrong."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from broker import PrivateBroker
from daemons import Stage
from proxy import PUBLISH, Proxy
from terminal import CTRL_C, Terminal
from waiting import wait_for

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

ECHO = """
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            if body == "bad":
                raise ValueError("\\x1b]0;forged\\x07 [bold]no[/bold]")
            return body
"""


@pytest.fixture(scope="module")
def served(shared_stage: Stage) -> Stage:
    """A stage with a worker type `echo` that runs."""
    shared_stage.site.install("echo", ECHO)
    shared_stage.configure("[echo]\nworkers: 2\n")
    shared_stage.start("echo")
    return shared_stage


def waiting(stage: Stage, count: int = 1) -> list[tuple[bytes, str | None]]:
    """Bodies and content types of the next `count` workitems that wait for a dispatcher."""
    return [(each.body, each.properties.content_type) for each in stage.amqp.take_many("taskqueue", count)]


@contextlib.contextmanager
def submitting(stage: Stage, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """`taskqueue submit`, with standard input, output and error in pipes."""
    command = [str(part) for part in stage.command("taskqueue", "submit", *arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=stage.env(**environ), start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


# -- what is submitted


def test_the_installed_command_submits_in_a_pipe(stage: Stage) -> None:
    script = stage.site.script("taskqueue")
    ran = subprocess.run(
        [script, "submit", "nobody", "hello"], env=stage.env(), capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr.splitlines()) == (0, [
        "taskqueue: no dispatcher runs at present; what is submitted waits",
        "taskqueue: no worker of type nobody consumes at present; what is submitted waits",
    ])  # fmt: skip
    assert re.fullmatch(UUID, ran.stdout.rstrip("\n"))
    message = stage.amqp.take("taskqueue")
    assert message.properties.message_id == ran.stdout.rstrip("\n")
    assert (message.text, message.properties.content_type, message.properties.delivery_mode) == (
        "hello", "text/plain", 2,
    )  # fmt: skip
    assert message.headers == {"worker_type": "nobody"}
    assert message.properties.reply_to is None, "the result goes where the group's config says"
    assert not stage.amqp.exists("worker_nobody"), "looking makes no queue"


@pytest.mark.parametrize(
    ("arguments", "stdin", "body", "content_type"),
    [
        (["plain"], "", b"plain", "text/plain"),
        ([' {"a": 1.50}'], "", b' {"a": 1.50}', "application/json"),
        (["--json", "[1]"], "", b"[1]", "application/json"),
        (["--text", "{no json"], "", b"{no json", "text/plain"),
        ([""], "", b"", "text/plain"),
        (["-"], "from stdin\n", b"from stdin\n", "text/plain"),
        (["--file", "FILE"], "", b"\xff\x00", "application/octet-stream"),
        (["--", "--json"], "", b"--json", "text/plain"),
    ],
)
def test_bodies(stage: Stage, arguments: list[str], stdin: str, body: bytes, content_type: str) -> None:
    file = stage.scratch / "body"
    file.write_bytes(b"\xff\x00")
    named = [str(file) if argument == "FILE" else argument for argument in arguments]
    ran = stage.run("taskqueue", "submit", "t", *named, stdin=stdin)
    assert ran.returncode == 0, ran.stderr
    assert waiting(stage) == [(body, content_type)]


def test_headers_id_delay_and_json_output(stage: Stage) -> None:
    ran = stage.run(
        "taskqueue",
        "--json",
        "submit",
        "t",
        "b",
        "--header",
        "a=b=c",
        "--header",
        "d=",
        "--delay",
        "1.5s",
        "--id",
        "me",
    )
    assert (ran.returncode, json.loads(ran.stdout)) == (0, {"id": "me", "worker_type": "t"})
    message = stage.amqp.take("taskqueue")
    assert message.headers == {"worker_type": "t", "a": "b=c", "d": "", "x-delay": 1500}
    assert message.properties.message_id == "me"


def test_at_a_time(stage: Stage) -> None:
    at = datetime.now().astimezone() + timedelta(minutes=10)
    ran = stage.run("taskqueue", "submit", "t", "b", "--at", at.isoformat())
    assert ran.returncode == 0, ran.stderr
    assert 500_000 < stage.amqp.take("taskqueue").headers["x-delay"] <= 600_000


def test_count(stage: Stage) -> None:
    ran = stage.run("taskqueue", "submit", "t", "b", "--count", "2500")
    ids = ran.stdout.split()
    assert (ran.returncode, len(set(ids))) == (0, 2500)
    messages = stage.amqp.take_many("taskqueue", 2500)
    assert [message.properties.message_id for message in messages] == ids, "in order"


def test_each_line_is_a_workitem(stage: Stage) -> None:
    ran = stage.run("taskqueue", "submit", "t", "--lines", stdin='one\n\n{"n": 3}\n two \nlast, without an end')
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.split()) == 5
    assert waiting(stage, 5) == [
        (b"one", "text/plain"),
        (b"", "text/plain"),
        (b'{"n": 3}', "application/json"),
        (b" two ", "text/plain"),
        (b"last, without an end", "text/plain"),
    ]


def test_lines_are_submitted_as_they_come(stage: Stage) -> None:
    with submitting(stage, "t", "--lines") as process:
        assert process.stdin is not None and process.stdout is not None
        for number in range(3):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            sent = process.stdout.readline().rstrip("\n")  # while the next line is not written yet
            assert stage.amqp.take("taskqueue").properties.message_id == sent
        process.stdin.close()
        assert process.wait(20) == 0


def test_many_lines_in_flat_memory(stage: Stage) -> None:
    def peak(count: int) -> int:
        lines = subprocess.Popen(["seq", str(count)], stdout=subprocess.PIPE)
        command = [str(part) for part in stage.command("taskqueue", "submit", "t", "--lines")]
        process = subprocess.Popen(
            command, stdin=lines.stdout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=stage.env()
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = lines.wait()
        assert (os.waitstatus_to_exitcode(status), process.returncode) == (0, 0)
        return usage.ru_maxrss

    few, many = peak(3000), peak(60_000)
    assert stage.amqp.purge("taskqueue") == 63_000
    assert many - few < 8 * 1024, f"{few} and {many} KiB"


# -- results


def test_wait_prints_the_result(served: Stage) -> None:
    ran = served.run("taskqueue", "submit", "echo", "hello", "--wait")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "hello\n", "")
    ran = served.run("taskqueue", "submit", "echo", "--json", '{"a": [1, "\u00e9"]}', "--wait", "--timeout", "60")
    assert (ran.returncode, ran.stdout) == (0, '{"a": [1, "\u00e9"]}\n')
    ran = served.run("taskqueue", "--json", "submit", "echo", "x", "--wait", "--count", "2")
    documents = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(each["status"], each["result"], each["headers"]["worker_type"]) for each in documents] == [
        ("success", "x", "echo"), ("success", "x", "echo"),
    ]  # fmt: skip


def test_an_error_result_is_told_and_exits_1(served: Stage) -> None:
    ran = served.run("taskqueue", "submit", "echo", "bad", "--wait", "--id", "bad-one")
    assert (ran.returncode, ran.stdout) == (1, "")
    first, *trace = ran.stderr.splitlines()
    assert first == r"taskqueue: workitem bad-one failed: ValueError: \x1b]0;forged\x07 [bold]no[/bold]"
    assert trace[0] == "Traceback (most recent call last):" and "\x1b" not in ran.stderr
    ran = served.run("taskqueue", "--json", "submit", "echo", "bad", "--wait")
    document = json.loads(ran.stdout)
    assert (ran.returncode, document["status"], document["headers"]["error_type"]) == (1, "error", "ValueError")


def test_no_result_in_time_exits_4(stage: Stage) -> None:
    ran = stage.run("taskqueue", "submit", "t", "b", "--wait", "--timeout", "0.3", "--id", "slow")
    assert (ran.returncode, ran.stdout) == (4, "")
    assert ran.stderr.splitlines()[-1] == "taskqueue: no result of workitem slow within 0.3 s"


def test_without_wait_the_result_goes_where_the_group_says(served: Stage) -> None:
    ran = served.run("taskqueue", "submit", "echo", "to results")
    assert (ran.returncode, ran.stderr) == (0, ""), "who is there is not missed"
    assert served.amqp.take_for(ran.stdout.strip()).text == "to results"


# -- on a terminal


def test_a_progress_bar_and_no_ids_on_a_terminal(stage: Stage, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("".join(f"{number}\n" for number in range(2000)))
    with lines.open("rb") as stdin, Terminal(
        stage.command("taskqueue", "submit", "t", "--lines"), stage.env(), stdin=stdin
    ) as terminal:  # fmt: skip
        assert terminal.wait() == 0
        assert "submitting to t" in terminal.text and "\x1b[" in terminal.raw
        assert terminal.text.rstrip().splitlines()[-1] == "2000 submitted"
        assert re.search(UUID, terminal.text) is None
    assert stage.amqp.purge("taskqueue") == 2000


def test_a_result_cannot_forge_what_a_terminal_shows(served: Stage) -> None:
    hostile = "\x1b]0;forged\x07\x1b[2J\u202eback [red]x[/red] \x9b31m"
    with Terminal(served.command("taskqueue", "submit", "echo", hostile, "--wait"), served.env()) as terminal:
        assert terminal.wait() == 0
        shown = terminal.raw
    assert r"\x1b]0;forged\x07\x1b[2J\u202eback [red]x[/red] \x9b31m" in shown
    assert not {"\x07", "\x9b", "\u202e", "\x1b"} & set(shown)
    with Terminal(served.command("taskqueue", "submit", "echo", "bad", "--wait"), served.env()) as terminal:
        assert terminal.wait() == 1
        assert r"\x1b]0;forged\x07 [bold]no[/bold]" in terminal.text and "\x07" not in terminal.raw


# -- what goes wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'TYPE'"),
        (("t",), "nothing given; expected one of BODY, --file, --lines"),
        (("t", "b", "--lines"), "BODY and --lines given; expected one of BODY, --file, --lines"),
        (("t u", "b"), "'t u' is not a worker type; expected [A-Za-z0-9][A-Za-z0-9_.-]{0,200}"),
        (("t", "--json", "{"), "BODY: not JSON: "),
        (("t", "{"), "; --text submits it as text"),
        (("t", "b", "--delay", "5q"), "expected a duration such as 30, 1.5s, 5m, 2h or 7d"),
        (("t", "b", "--at", "soon"), "'soon' is not a time; expected such as 21:30"),
        (("t", "b", "--at", "2001-01-01"), "2001-01-01 is over"),
        (("t", "b", "--delay", "5", "--at", "23:59"), "--delay and --at cannot be combined"),
        (("t", "b", "--header", "x"), "'x' is not a header; expected name=value"),
        (("t", "b", "--header", "x-delay=3"), "the header x-delay is taskqueue's own; use --delay"),
        (("t", "--lines", "--id", "x"), "--lines and --id cannot be combined"),
        (("t", "b", "--timeout", "3"), "--timeout without --wait"),
        (("t", "b", "--count", "0"), "0 is not in the range x>=1"),
        (("t", "--file", "/no/such"), "'/no/such' does not exist"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exits_2(
    shared_stage: Stage, arguments: tuple[str, ...], said: str
) -> None:
    ran = shared_stage.run("taskqueue", "submit", *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith("taskqueue submit: ") and said in line


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("amqp://127.0.0.1:{closed}", "taskqueue: 127.0.0.1:{closed}: connection refused"),
        ("amqp://guest:s3cret@127.0.0.1:{port}", "the broker refuses the user or password ([amqp] user, passwd)"),
        ("amqp://guest:guest@127.0.0.1:{port}/no-such", "the broker refuses access to the virtual host ([amqp] vhost)"),
        ("amqp://no-such-host.invalid", "taskqueue: no-such-host.invalid:5672: "),
    ],
)
def test_a_broker_that_cannot_be_used_exits_3(
    shared_stage: Stage, broker: PrivateBroker, proxy: Proxy, url: str, said: str
) -> None:
    proxy.refuse()
    ports = {"closed": proxy.port, "port": broker.port}
    ran = shared_stage.run("taskqueue", "submit", "t", "b", TASKQUEUE_AMQP_URL=url.format(**ports))
    assert (ran.returncode, ran.stdout) == (3, "")
    (line,) = ran.stderr.splitlines()
    assert said.format(**ports) in line and "s3cret" not in line


def test_a_wrong_config_exits_2(shared_stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "wrong.ini"
    file.write_text("[amqp]\nhots: here\n")
    for arguments in (("-c", file, "submit", "t", "b"), ("submit", "-c", file, "t", "b")):
        ran = shared_stage.run("taskqueue", *arguments)
        assert ran.returncode == 2
        (line,) = ran.stderr.splitlines()
        assert line.startswith(f"taskqueue: {file}:2: [amqp] hots: unknown key") and "did you mean 'host'" in line


def test_a_bad_line_ends_it_and_says_which(stage: Stage) -> None:
    ran = stage.run("taskqueue", "submit", "t", "--json", "--lines", stdin="1\n2\nthree\n4\n")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-2:] == [
        "taskqueue: 2 lines were submitted; go on with line 3",
        "taskqueue: line 3: not JSON: Expecting value: line 1 column 1 (char 0)",
    ]
    assert len(ran.stdout.split()) == 2
    assert waiting(stage, 2) == [(b"1", "application/json"), (b"2", "application/json")]
    assert stage.amqp.depth("taskqueue") == 0


def test_a_reader_that_goes_away_is_no_fault(stage: Stage) -> None:
    with submitting(stage, "t", "b", "--count", "100000") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 128 + signal.SIGPIPE
        assert [line for line in process.stderr.read().splitlines() if "at present" not in line] == []


def test_ctrl_c_in_the_middle_of_lines_says_how_far_it_came(stage: Stage, tmp_path: Path) -> None:
    """From a file, on a terminal: what is said is what is in the queue, and the command goes on from there."""
    total = 300_000
    file = tmp_path / "lines"
    file.write_text("".join(f"{number}\n" for number in range(1, total + 1)))
    with file.open("rb") as stdin, Terminal(
        stage.command("taskqueue", "submit", "t", "--lines"), stage.env(), stdin=stdin
    ) as terminal:  # fmt: skip
        terminal.shows(r"submitting to t")
        wait_for(lambda: terminal.raw and stage.amqp.depth("taskqueue") > 1000, 30, "it submits")
        terminal.press(CTRL_C)
        assert terminal.wait() == 130
        count, after = map(int, terminal.shows(r"(\d+) lines were submitted; go on with line (\d+)").groups())
        assert terminal.text.rstrip().splitlines()[-1] == "taskqueue: interrupted"
        assert "Traceback" not in terminal.text
    assert 1000 < count < total and after == count + 1
    bodies = [message.body for message in stage.amqp.take_many("taskqueue", count, deadline_s=60)]
    assert bodies == [b"%d" % number for number in range(1, count + 1)], "nothing lost, nothing twice"
    assert stage.amqp.depth("taskqueue") == 0


def test_ctrl_c_while_it_waits_for_a_line(stage: Stage) -> None:
    with submitting(stage, "t", "--lines") as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write("one\ntwo\nhalf of the thi")
        process.stdin.flush()
        ids = [process.stdout.readline().rstrip("\n") for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        said = [line for line in process.stderr.read().splitlines() if line]
        assert said[-2:] == ["taskqueue: 2 lines were submitted; go on with line 3", "taskqueue: interrupted"]
    assert [each.properties.message_id for each in stage.amqp.take_many("taskqueue", 2)] == ids
    assert stage.amqp.depth("taskqueue") == 0


def test_ctrl_c_while_it_waits_for_a_result(stage: Stage) -> None:
    with submitting(stage, "t", "b", "--wait") as process:
        wait_for(lambda: stage.amqp.depth("taskqueue") == 1, 20, "it is submitted")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None and "Traceback" not in process.stderr.read()
    reply_to = stage.amqp.take("taskqueue").properties.reply_to
    assert not stage.amqp.exists(reply_to), "its reply queue is gone with it"


def test_a_connection_that_is_cut_in_the_middle_loses_nothing(stage: Stage, proxy: Proxy, vhost: str) -> None:
    proxy.set_trap(PUBLISH, count=2000, before=False)
    with submitting(stage, "t", "b", "--count", "5000", TASKQUEUE_AMQP_URL=proxy.url(vhost)) as process:
        assert proxy.sprung(deadline_s=60), process.poll()
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "taskqueue: broker connection lost: host=127.0.0.1:" in err
    ids = out.split()
    assert len(set(ids)) == 5000
    found = [each.properties.message_id for each in stage.amqp.take_many("taskqueue", stage.amqp.depth("taskqueue"))]
    assert set(found) == set(ids)
    assert len(found) - 5000 <= 1000, "what had no confirm was published again"


def test_help_and_version(shared_stage: Stage) -> None:
    ran = shared_stage.run("taskqueue", "--version")
    assert (ran.returncode, ran.stdout.split()[0]) == (0, "taskqueue")
    ran = shared_stage.run("taskqueue", "submit", "--help")
    assert (ran.returncode, "The body is JSON. (For JSON output: taskqueue --json" in ran.stdout) == (0, True)
    ran = shared_stage.run("taskqueue", "sumbit")
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
