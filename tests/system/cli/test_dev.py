"""`taskqueue dev` as it is installed: a plugin author's afternoon, and that nothing of it is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import signal
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import processes
from daemons import Stage
from processes import descendants, wait_gone
from terminal import CTRL_C, Terminal
from waiting import wait_for

SETUP = """
    from setuptools import setup

    setup(name="hello-plugin", version="1.0", package_dir={"": "src"}, packages=["hello_plugin"],
          entry_points={"worker.plugins": ["hello = hello_plugin.worker:Worker.factory"]})
"""
WORKER = """
    import getpass
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            return [ANSWER, getpass.getuser(), self.settings.get("greeting")]
"""
PLAIN = """
    [project]
    name = "plain-plugin"
    version = "2"
    [project.entry-points."worker.plugins"]
    plain = "plain_plugin:Worker"
"""
BACKEND = """
    [build-system]
    requires = []
    build-backend = "made_here"
    backend-path = ["."]
"""
MADE_HERE = """
    from pathlib import Path

    def prepare_metadata_for_build_wheel(directory, settings=None):
        info = Path(directory, "odd_plugin-3.dist-info")
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: odd-plugin\\nVersion: 3\\n")
        (info / "entry_points.txt").write_text("[worker.plugins]\\nodd = odd_plugin:Worker\\n")
        return info.name
"""
ODD = """
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            return "odd"
"""


def write(path: Path, text: str) -> None:
    """Write a file, and the directories above it, as an editor does: it is never half there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}~")
    new.write_text(textwrap.dedent(text).lstrip())
    new.rename(path)


def answer(project: Path, text: str) -> None:
    """Let the plugin answer with `text`."""
    write(project / "src" / "hello_plugin" / "worker.py", WORKER.replace("ANSWER", repr(text)))


@pytest.fixture
def project(stage: Stage) -> Path:
    """A project of one plugin, of setup.py, with its modules in src/."""
    directory = stage.directory / "project"
    write(directory / "setup.py", SETUP)
    write(directory / "src" / "hello_plugin" / "__init__.py", "\n")
    answer(directory, "first")
    return directory


@pytest.fixture
def temporary(stage: Stage) -> Iterator[Path]:
    """Where the command makes its temporary directory; empty again at the end."""
    directory = Path(tempfile.mkdtemp(dir=stage.directory.parent))  # short enough for a socket in it
    directory.chmod(0o1777)
    yield directory
    assert list(directory.iterdir()) == []
    assert processes(directory) == []


def files(directory: Path) -> set[str]:
    """All that is in a directory."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def ask(stage: Stage, url: str, worker_type: str = "hello") -> object:
    """What the plugin returns."""
    ran = stage.run("taskqueue", "submit", worker_type, "x", "--wait", "--timeout", "30", TASKQUEUE_AMQP_URL=url,
                    deadline_s=60)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    with contextlib.suppress(ValueError):
        return json.loads(ran.stdout)
    return ran.stdout.rstrip("\n")


def test_an_afternoon(stage: Stage, project: Path, temporary: Path) -> None:
    before = files(project)
    config = stage.directory / "dev.ini"
    config.write_text("[hello]\ngreeting: hi\n")
    owner = pwd.getpwuid(project.stat().st_uid).pw_name
    command = [*stage.command("taskqueue", "dev", project), "-c", config]
    with Terminal(command, stage.env(TMPDIR=str(temporary)), columns=200) as terminal:
        terminal.shows(r"^running: hello; Ctrl-C ends it", 90)
        url = terminal.shows(r"export TASKQUEUE_AMQP_URL=(amqp://\S+)")[1]
        assert ask(stage, url) == ["first", owner, "hi"]
        answer(project, "second")
        terminal.shows(r"^changed: \S+/hello_plugin/worker\.py$")
        wait_for(lambda: ask(stage, url) == ["second", owner, "hi"], 60, "the new one answers")
        answer(project, "third")
        write(project / "src" / "hello_plugin" / "worker.py", "def (\n")
        terminal.shows(r"SyntaxError")
        assert ask(stage, url) in (["second", owner, "hi"], ["third", owner, "hi"]), "the last that was good goes on"
        answer(project, "fourth")
        wait_for(lambda: ask(stage, url) == ["fourth", owner, "hi"], 60, "mended")
        write(project / "setup.py", "import no_such_module\n")
        terminal.shows(r"^taskqueue: \S+/project: its metadata cannot be made:$")
        write(project / "setup.py", SETUP)
        config.write_text("[hello]\ngreeting: ho\n")
        wait_for(lambda: ask(stage, url) == ["fourth", owner, "ho"], 60, "the config is read anew")
        theirs = descendants(terminal.process.pid)
        assert len(theirs) >= 6, "broker, epmd, guard, dispatcher, pool, listener, template, worker"
        terminal.press(CTRL_C)
        assert terminal.wait(60) == 130
        assert terminal.text.rstrip().splitlines()[-1] == "taskqueue: interrupted"
    wait_gone(theirs)
    assert files(project) == before, "nothing is written into the project"


@contextlib.contextmanager
def running(
    stage: Stage, temporary: Path, directory: Path, *, user: str | None = None
) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """The command in a pipe with --json, and its first line."""
    command = [str(part) for part in stage.command("taskqueue", "--json", "dev", directory)]
    log = stage.directory / "dev.log"
    with log.open("w") as stderr, subprocess.Popen(
        command, env=stage.env(TMPDIR=str(temporary)), text=True, cwd="/", user=user, group=user,
        extra_groups=[] if user else None, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            yield process, json.loads(line)
        finally:
            if process.poll() is None:
                process.terminate()


@pytest.fixture
def many(stage: Stage) -> Path:
    """A directory with two projects: one of pyproject.toml alone, one with a build backend of its own."""
    directory = stage.directory / "many"
    write(directory / "plain" / "pyproject.toml", PLAIN)
    write(directory / "plain" / "plain_plugin.py", ODD.replace("odd", "plain"))
    write(directory / "odd" / "pyproject.toml", BACKEND)
    write(directory / "odd" / "made_here.py", MADE_HERE)
    write(directory / "odd" / "odd_plugin.py", ODD)
    write(directory / "venv" / "pyvenv.cfg", "\n")
    write(directory / "no-project" / "README", "\n")
    return directory


def test_several_projects_in_a_pipe_ended_by_sigterm(stage: Stage, many: Path, temporary: Path) -> None:
    with running(stage, temporary, many) as (process, first):
        assert (first["event"], first["types"]) == ("running", ["odd", "plain"])
        assert [ask(stage, str(first["url"]), name) for name in ("odd", "plain")] == ["odd", "plain"]
        write(many / "plain" / "data.txt", "new\n")
        assert process.stdout is not None
        changed = json.loads(process.stdout.readline())
        assert changed == {"event": "changed", "files": [str(many / "plain" / "data.txt")]}
        theirs = descendants(process.pid)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    wait_gone(theirs)


@pytest.mark.root_only
def test_as_another_than_root_and_killed(stage: Stage, project: Path, temporary: Path) -> None:
    """Whatever becomes of it, no process is left."""
    with running(stage, temporary, project, user="bifh1") as (process, first):
        assert ask(stage, str(first["url"])) == ["first", "bifh1", None]
        theirs = descendants(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_gone(theirs, 15)
    for left in temporary.iterdir():  # nobody was left to remove it
        subprocess.run(["rm", "-r", str(left)], check=True)


@pytest.mark.root_only
def test_killed_as_root(stage: Stage, project: Path, temporary: Path) -> None:
    with running(stage, temporary, project) as (process, _first):
        theirs = descendants(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_gone(theirs, 15)
    for left in temporary.iterdir():
        subprocess.run(["rm", "-r", str(left)], check=True)


def test_a_broker_that_dies(stage: Stage, project: Path, temporary: Path) -> None:
    with running(stage, temporary, project) as (process, _first):
        (node,) = (pid for pid in processes(temporary) if b"beam.smp" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(node, signal.SIGKILL)
        assert process.wait(60) == 1
    assert "taskqueue: the broker has ended" in (stage.directory / "dev.log").read_text()


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        ({}, 1, r"taskqueue: \S+/wrong: no plugin here; expected a project with one of pyproject\.toml, setup\.py"),
        ({"setup.py": "import no_such_module\n"}, 1, r"taskqueue: \S+/wrong: its metadata cannot be made:"),
        (
            {"setup.py": "from setuptools import setup\nsetup(name='x', py_modules=[])\n"},
            1, r"taskqueue: \S+/wrong: no entry point worker\.plugins",
        ),
        ({"setup.py": SETUP, "bad.ini": "[amqp]\nhots: x\n"}, 2, r"taskqueue: \S+/bad\.ini:2: \[amqp\] hots: unknown"),
    ],
)  # fmt: skip
def test_what_is_wrong(stage: Stage, temporary: Path, given: dict[str, str], status: int, said: str) -> None:
    directory = stage.directory / "wrong"
    directory.mkdir()
    for name, text in given.items():
        write(directory / name, text)
    options = ["-c", directory / "bad.ini"] if "bad.ini" in given else []
    ran = stage.run("taskqueue", "dev", directory, *options, TMPDIR=str(temporary))
    assert (ran.returncode, ran.stdout) == (status, "")
    assert re.match(said, ran.stderr), ran.stderr


def test_a_directory_that_is_not_there(stage: Stage) -> None:
    ran = stage.run("taskqueue", "dev", "/no/such")
    assert ran.returncode == 2 and "'/no/such' does not exist" in ran.stderr
