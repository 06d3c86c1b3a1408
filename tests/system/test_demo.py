"""`make demo`, without the preparation: what a new user sees first works, and leaves nothing behind."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import broker as private_broker
from processes import adopt_orphans, descendants, kill, title
from waiting import wait_for

DEMO = Path(__file__).resolve().parent.parent.parent / "examples" / "demo.py"


class Run:
    """A demo under way: this process is the reaper of all that it leaves behind."""

    def __init__(self, directory: Path, workitems: int, tasks: int = 100) -> None:
        self.directory = directory
        self.output = directory / "output"
        self._before = descendants(os.getpid())
        environment = {**os.environ, "TMPDIR": str(directory), "NO_COLOR": "1"}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable, DEMO, "--workitems", str(workitems), "--tasks", str(tasks),
                    "--run-dir", directory / "run",
                ],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=environment,
            )  # fmt: skip

    @property
    def text(self) -> str:
        """What it has said so far."""
        return self.output.read_text()

    def wait_said(self, words: str) -> None:
        """Return once it has said so."""
        wait_for(lambda: words in self.text or self.process.poll() is not None, 120, f"said {words!r}")
        assert words in self.text

    def wait(self) -> int:
        """Its exit status."""
        try:
            return self.process.wait(120)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the demo hangs:\n{self.text}") from None

    def check_nothing_left(self) -> None:
        """No process, no socket, no temporary directory; of what it made only what it says it leaves."""
        left = descendants(os.getpid()) - self._before
        assert not left, [f"{pid} {title(pid)}" for pid in left]
        assert not private_broker.processes(self.directory / "run")
        assert not list(Path("/tmp").glob(f"taskqueue-demo-{self.process.pid}-*"))
        assert not [path for path in self.directory.rglob("*") if path.is_socket() or path.suffix == ".part"]

    def end(self) -> None:
        """Whatever happened: end it, and what it left."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in descendants(os.getpid()) - self._before:
            kill(pid)
        private_broker.stop_directory(self.directory / "run")


@pytest.fixture
def directory(run_dir: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory for one demo."""
    adopt_orphans()
    made = run_dir / re.sub(r"\W+", "-", request.node.name)
    made.mkdir()
    yield made
    shutil.rmtree(made, ignore_errors=True)


def _numbers(text: str, title: str) -> dict[str, int]:
    """The counts of the summary of this title."""
    summary = text.partition(f"\n{title}\n")[2].partition("\n\n")[0]
    return {
        name: int(count.replace(",", "")) for name, count in re.findall(r"^  (\S.*?) +([\d,]+)(?: |$)", summary, re.M)
    }


def test_the_demo_shows_all_of_it_and_nothing_is_lost(directory: Path) -> None:
    demo = Run(directory, workitems=1000, tasks=1000)
    try:
        status = demo.wait()
        assert status == 0, demo.text
        numbers = _numbers(demo.text, "Summary")
        # the crowd, the seven formats, and what is run when the worker is killed
        assert 1008 <= numbers["submitted"] == numbers["results"]
        assert numbers | {"lost": 0, "duplicated": 0, "errors": 1, "left": 0} == numbers
        assert numbers["throughput"] > 100
        assert '{"number": 360, "factors": [2, 2, 2, 3, 3, 5]}' in demo.text
        assert "error: not a number: 'eleven'" in demo.text
        assert re.search(r"worker (\d+), while it ran .*: replaced by (?!\1)\d+ within \d+ ms", demo.text)
        assert "its workitem: attempt 2" in demo.text
        assert "\x1b" not in demo.text and "\r" not in demo.text
        _check_second_act(demo.text)
        assert len(demo.text.splitlines()) < 85
        demo.check_nothing_left()
    finally:
        demo.end()


def _check_second_act(text: str) -> None:
    # the crowd, and one task of each shape
    numbers = _numbers(text, "Summary of the tasks over HTTP")
    assert numbers | {"sent": 1006, "answered 2xx": 1006, "arrived": 1006, "lost": 0} == numbers
    found = re.search(r"arrived .* tasks: (\d+) requests, (\d+) results of primes", text)
    assert found is not None and int(found[2]) == 101
    assert int(found[1]) + int(found[2]) >= 1006, "each arrived, some were run twice"
    assert numbers["failed first"] >= 39, "one task in 23 is failed at first, but for those of primes"
    assert 10 <= numbers["rate"] <= 60, "of a queue that may have 50 a second, and was without a front for a while"
    most = re.search(r"at most (\d+) in one; limit 50, burst 20", text)
    assert most is not None and int(most[1]) <= 70
    assert re.search(r"kill -9 +the front, pid \d+: \d+ tasks were answered, \d+ had come", text)
    assert int(re.findall(r"tasks; (\d+) requests again", text)[0]) > 0, "clients missed the front"
    shown = text.partition("\nOver HTTP")[2].partition("\nSummary\n")[0]
    assert shown.count("  -> task …") == 6 and "the plugin's result: 5 * 1000003" in shown
    wide = [line for line in (shown + text.partition("\nSummary of")[2]).splitlines()[:-2] if len(line) > 80]
    assert not wide


def test_a_lost_task_is_told_and_ends_the_demo_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(DEMO.parent)
    act = importlib.import_module("demo_http")
    second = act.SecondAct(None, importlib.import_module("demo_screen").Screen())
    good = act.Account(3, {1: "a", 2: "b", 3: "c"}, 0, {"a": 1, "b": 2, "c": 1}, 1, 0, 50.0, 50, 500.0)
    assert second.summary(good) == 0
    assert "run twice             1 " in capsys.readouterr().out
    assert second.summary(good._replace(runs={"a": 2, "b": 1})) == 1
    assert "lost: task c" in capsys.readouterr().out
    assert second.summary(good._replace(runs={**good.runs, "d": 1})) == 1, "one request made two tasks"
    assert "not asked for: task d" in capsys.readouterr().out
    assert second.summary(good._replace(tasks=4)) == 1, "a task was never answered 2xx"


@pytest.mark.root_only
def test_the_demo_in_a_checkout_that_workers_cannot_reach(directory: Path) -> None:
    directory.chmod(0o700)
    demo = Run(directory, workitems=200)
    try:
        status = demo.wait()
        assert status == 0, demo.text
        assert "cannot reach this checkout: running a copy in /tmp/" in demo.text
        demo.check_nothing_left()
    finally:
        demo.end()


@pytest.mark.parametrize(
    ("number", "when", "workitems"),
    [
        ("SIGINT", "broker", 20_000),
        ("SIGTERM", "daemons", 20_000),
        ("SIGINT", "progress", 20_000),
        ("SIGINT", "target", 200),  # the second act: the front serves
        ("SIGINT", "kill -9       the front", 200),  # killed, and started again
    ],
)
def test_an_interrupted_demo_leaves_nothing_behind(directory: Path, number: str, when: str, workitems: int) -> None:
    demo = Run(directory, workitems, tasks=1000)
    try:
        if when == "broker":  # while it starts
            wait_for(lambda: private_broker.processes(directory / "run"), 60, "broker starting")
        else:
            demo.wait_said(f"\n  {when}")
        demo.process.send_signal(signal.Signals[number])
        status = demo.wait()
        assert status == 128 + signal.Signals[number], demo.text
        assert f"interrupted by {number}" in demo.text
        assert demo.text.endswith("stopped; nothing is left behind\n")
        demo.check_nothing_left()
    finally:
        demo.end()


def test_a_second_demo_does_not_disturb_the_first(directory: Path) -> None:
    demo = Run(directory, workitems=200)
    try:
        demo.wait_said("\n  broker")
        second = subprocess.run(
            [sys.executable, DEMO, "--run-dir", directory / "run"], capture_output=True, text=True, check=False
        )
        assert second.returncode == 1
        assert "another demo runs in" in second.stdout
        assert demo.wait() == 0, demo.text
        demo.check_nothing_left()
    finally:
        demo.end()
