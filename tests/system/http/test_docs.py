"""docs/http.rst is run: every shell block in one shell, in order, and what it prints is what the page shows below it.

The page's ports are replaced by free ones, so that tests can run side by side; nothing else of it is changed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import free_ports
from documents import Block, all_blocks, blocks, copy_of_venv, shows
from taskqueue.config.http_settings import RetrySettings
from taskqueue.config.load import load
from taskqueue.http.retry_rules import backoff_s
from taskqueue.webhook.signing import read_secrets
from waiting import wait_for

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "http.rst").read_text()
PORTS = ("8088", "9099", "9098")
MARK = "----- end of block"


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where every unix user can write, as workers and front run as others where root starts them."""
    made = Path(tempfile.mkdtemp(prefix="taskqueue-docs-", dir="/var/tmp"))
    try:
        for path in (made, made / "taskqueue-tour"):
            path.mkdir(exist_ok=True)
            path.chmod(0o777)
        copy_of_venv(made / ".venv")
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def with_free_ports(text: str) -> str:
    """The page with ports that nobody listens on."""
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    return re.sub(rf"\b(?:{'|'.join(PORTS)})\b", lambda found: ports[found[0]], text)


def runs(text: str) -> list[tuple[Block, str | None]]:
    """Each shell block, and the text block that shows what it prints: the next one, where no other block is between."""
    found = all_blocks(text)
    return [
        (block, after.text if after is not None and after.language == "text" else None)
        for block, after in zip(found, [*found[1:], None], strict=True)
        if block.language == "sh"
    ]


def run(script: str, directory: Path, env: dict[str, str]) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a script. What it has left running is ended."""
    with (directory / "stdout").open("w+") as stdout, (directory / "stderr").open("w+") as stderr:
        shell = subprocess.Popen(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=directory, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True,
        )  # fmt: skip
        try:
            status = shell.wait(120)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
            wait_for(lambda: not left_of(shell.pid, directory), 40, "what the page starts has ended")
        stdout.seek(0)
        stderr.seek(0)
        return status, stdout.read(), stderr.read()


def left_of(group: int, directory: Path) -> list[str]:
    """Processes that the script has started, by their group or by their environment."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _parent, of_group, *_ = (proc / "stat").read_bytes().rpartition(b")")[2].split()
            in_group = state != b"Z" and int(of_group) == group
            if in_group or f"HOME={directory}".encode() in (proc / "environ").read_bytes().split(b"\0"):
                found.append(proc.name)
    return found


def test_every_command_prints_what_the_page_shows(directory: Path, amqp_url: str, unix_users: None) -> None:
    steps = runs(with_free_ports(TEXT))
    assert len(steps) > 15
    script = "".join(f"{block.text}echo '{MARK}'\n" for block, _ in steps)
    env = {name: value for name, value in os.environ.items() if not name.startswith("TASKQUEUE_")}
    env |= {"PATH": f"{directory}/.venv/bin:{env['PATH']}", "TASKQUEUE_AMQP_URL": amqp_url, "HOME": str(directory)}
    status, stdout, stderr = run(script, directory, env)
    logs = "\n".join(path.read_text() for path in sorted((directory / "taskqueue-tour").glob("*.log")))
    printed = stdout.split(f"{MARK}\n")
    for (block, shown), came in zip(steps, printed, strict=False):
        place = f"docs/http.rst, line {block.line}:\n{block.text}"
        assert shows(shown or "", came), f"{place}\nprinted\n{came}\n{stderr}\n{logs}"
    assert status == 0, f"{printed[-1]}\n{stderr}\n{logs}"
    assert len(printed) == len(steps) + 1


def test_shows_can_tell() -> None:
    assert shows("{…} done\n a   b", "{1, 2} done\na b") and shows("0.008 x", "0.1 x")
    assert not shows("{…} done", "{1, 2} gone") and not shows("a", "a b") and not shows("201", "202")


@pytest.mark.parametrize("text", blocks(TEXT, "ini"))
def test_configuration_is_valid(text: str) -> None:
    settings = load(text=text, environ={}, installed=["webhook"], user_exists=lambda _name: True)
    assert settings.warnings == ()
    if "[http_emails]" in text:
        emails, *others = sorted(settings.http.queues, key=lambda queue: queue.name)
        assert (emails.rate_limit, emails.burst, emails.target) == (10.0, 20, "https://mail.example/hooks/")
        assert [queue.name for queue in others] == ["reports", "thumbnails"]


def test_flask_example_is_python() -> None:
    (example,) = blocks(TEXT, "python")
    compile(example, "docs/http.rst", "exec")


def test_file_of_secrets_can_be_read(tmp_path: Path) -> None:
    (example,) = (text for text in blocks(TEXT, "text") if "whsec_" in text)
    path = tmp_path / "secrets"
    path.write_text(example)
    assert {queue: len(secrets) for queue, secrets in read_secrets(str(path)).items()} == {"emails": 1, "reports": 2}


def test_table_of_waits_is_what_the_rules_give() -> None:
    rules = RetrySettings(min_backoff_s=10, max_backoff_s=300, max_doublings=3)
    attempts, waits = (
        [int(number) for number in re.findall(r"\d+", row)]
        for row in re.findall(r"^(?:after attempt|seconds until another) .*$", TEXT, re.MULTILINE)
    )
    assert [backoff_s(rules, attempt) for attempt in attempts] == waits and len(waits) == 8


def test_first_screen_of_the_readme_shows_what_is_run_here() -> None:
    readme = (ROOT / "README.rst").read_text()
    curls = re.findall(r'curl (-d "[^"]*" http\S+)', readme[: readme.index("Two commands")])
    run = "\n".join(blocks(TEXT, "sh"))
    assert len(curls) == 1 and curls[0] in run and "taskqueue tasks list" in run
