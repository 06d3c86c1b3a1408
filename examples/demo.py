#!/usr/bin/env python3
"""The whole of taskqueue at work in half a minute: what `make demo` runs.

Starts a private RabbitMQ node, installs the two example plugins, starts dispatcher and workerpool, submits workitems
in every format, kills a worker in the middle of 10,000 of them, and counts what came back. Its client is plain pika, to
show that any AMQP client will do. In the second act (demo_http.py) it starts a front, sends a thousand tasks over HTTP,
kills the front in the middle, and counts what came to a web daemon. Then it stops everything. The log files are left in
.run/demo/.

Whatever happens, and whenever it is interrupted, no process, socket or temporary file is left: this process is the
reaper of all its descendants, and ends what is still there at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import http.client
import importlib.metadata
import json
import math
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self, TypeVar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main() all there is to end is this process

import demo_http  # noqa: E402
import pika  # noqa: E402
import pika.exceptions  # noqa: E402
from demo_screen import DemoError, Screen  # noqa: E402

from broker import BrokerError, PrivateBroker, free_ports  # noqa: E402
from taskqueue.host import kernel  # noqa: E402
from taskqueue.host.spawn import Identity, identity  # noqa: E402

PLUGINS = ("taskqueue-primes", "taskqueue-probe")
CONFIG = """\
[amqp]
host: 127.0.0.1
port: {port}

[workerpool]
plugins: primes, probe, webhook
stop_timeout: 5s

[primes]
workers: 2

[probe]
concurrency: 50

"""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
START_S, RESULT_S, STOP_S = 30.0, 20.0, 15.0
"""How long to wait for the daemons, for a next result, and for the daemons' end."""
COMMIT_EVERY = 500
CPUS = len(os.sched_getaffinity(0))
SHOWN = 100
"""Characters of a result that are shown."""

T = TypeVar("T")


class Interrupted(BaseException):
    """A signal asked for the end."""

    def __init__(self, number: int) -> None:
        self.number = number


def main() -> int:
    """The program; gives its exit status: 1 where a workitem or a task was lost."""
    options = _options()
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    screen = Screen()
    demo = Demo(options.run_dir.absolute(), screen)
    status = 1
    try:
        try:
            status = demo.play(options.workitems, options.tasks)
        finally:
            _no_more_signals()
    except Interrupted as interrupted:
        screen.line(f"\ninterrupted by {signal.Signals(interrupted.number).name}: stopping everything")
        status = 128 + interrupted.number
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on
    except (DemoError, BrokerError, OSError, pika.exceptions.AMQPError) as error:
        screen.line(f"\ndemo failed: {type(error).__name__}: {error}")
        screen.line(f"the logs are in {demo.run_dir}")
    finally:
        left = demo.clean_up()
    if left or status >= 128:
        screen.line(f"had to be killed: {', '.join(left)}" if left else "stopped; nothing is left behind")
    return status or bool(left)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-n", "--workitems", type=int, default=10_000, help="how many to submit (default: 10000)")
    parser.add_argument("-t", "--tasks", type=int, default=1000, help="how many over HTTP (default: 1000)")
    parser.add_argument("--run-dir", type=Path, default=ROOT / ".run" / "demo", help="where logs and broker are")
    options = parser.parse_args()
    if not 100 <= options.workitems <= 1_000_000:
        parser.error("--workitems: expected 100 to 1000000")
    if not 100 <= options.tasks <= 100_000:
        parser.error("--tasks: expected 100 to 100000")
    return options


def _interrupt(number: int, _frame: object) -> NoReturn:
    _no_more_signals()
    raise Interrupted(number)


def _no_more_signals() -> None:
    """From here on all is ended in order, however often Ctrl-C is pressed."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)


class Killed(NamedTuple):
    """The worker that was killed: how long until another stood in for it, and the workitem that it had."""

    took_ms: float
    message_id: str


class Demo:
    """Everything that is started, and its end."""

    def __init__(self, run_dir: Path, screen: Screen) -> None:
        self.run_dir = run_dir
        self.screen = screen
        self.broker = PrivateBroker(run_dir / "broker")
        # Short, for the status socket's path, and open to the unix user that dispatcher and workers become.
        self.work_dir = Path("/tmp", f"taskqueue-demo-{os.getpid()}-{secrets.token_hex(4)}")
        self.user: Identity = identity(None)
        self.venv = Path(sys.prefix)
        self.plugins = run_dir / "plugins"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.front = FrontProcess(self)
        self._not_daemons: set[int] = set()
        self._locked = False

    # -- the play

    def play(self, workitems: int, tasks: int) -> int:
        """All of it; gives the exit status."""
        kernel.adopt_orphans()
        began = time.monotonic()
        self.screen.line(f"taskqueue {importlib.metadata.version('taskqueue')}: a demonstration, from nothing")
        self._prepare()
        self.screen.title("Starting")
        installing = self._start_install()
        started = time.monotonic()
        self.broker.start()
        self.screen.row("broker", f"a private RabbitMQ on 127.0.0.1:{self.broker.port} {_took(started)}")
        self._finish_install(installing)
        told = f"pip install {' '.join(f'examples/{name}' for name in PLUGINS)}"
        self.screen.row("plugins", told if installing else f"{told} (done before)")
        started = time.monotonic()
        self._make_reachable()
        self._start_daemons()
        groups = self._wait_running()
        self.screen.row("daemons", f"taskqueue-dispatcher, taskqueue-workerpool {_took(started)}")
        for group in groups:
            pids = " and ".join(str(worker["pid"]) for worker in _workers(group))
            self.screen.row("", f"group {group['name']}: user {self.user.name}, workers {pids}")

        with Client(self.broker.port, self.check_daemons) as client:
            self.screen.title("Every way to submit a workitem, and what comes back in `results`")
            self._show_formats(client)
            self.screen.title(f"{workitems:,} workitems in four formats; a worker is killed on the way")
            per_s, killed = self._show_crowd(client, workitems)
            dead = client.depth("taskqueue_dead")
        over_http = demo_http.SecondAct(self.front, self.screen)
        account = over_http.play(tasks)
        started = time.monotonic()
        left = self._stop_daemons()
        self.screen.row("stopped", f"front, workerpool and dispatcher {_took(started)}")
        self.screen.title("Summary")
        status = self._summary(client, per_s, killed, dead, left)
        self.screen.title("Summary of the tasks over HTTP")
        status = over_http.summary(account) or status
        self.screen.line(f"\n{time.monotonic() - began:.0f} s in all. The logs are in {self.run_dir}")
        return status

    def _show_formats(self, client: Client) -> None:
        ruote = {"wfid": "20251122-demo", "fields": {"params": {"worker_type": "primes"}, "number": 1001}}
        target = {"worker_type": "probe", "host": "127.0.0.1", "port": self.broker.port}
        number = (999_999_000_001).to_bytes(5, "big")
        shown: list[tuple[str, str, Message]] = [
            ("text", "primes 360", Message(b"primes 360", "text/plain")),
            ("JSON envelope", '{"worker_type": "primes", "workitem": 97}',
             Message.json({"worker_type": "primes", "workitem": 97})),
            ("JSON object", json.dumps(target), Message.json(target)),
            ("Ruote", json.dumps(ruote["fields"]), Message.json(ruote)),
            ("header", f"{number.hex(' ')} (bytes)",
             Message(number, "application/octet-stream", {"worker_type": "primes"})),
            ("delayed", "primes 1024, x-delay 300 ms", Message(b"primes 1024", "text/plain", {"x-delay": 300})),
            ("not a number", "primes eleven", Message(b"primes eleven", "text/plain")),
        ]  # fmt: skip
        for name, text, message in shown:
            started = time.monotonic()
            result = client.ask(message)
            took_ms = (time.monotonic() - started) * 1000
            self.screen.row(name, text)
            self.screen.row("", f"-> {_readable(result.body)}  ({took_ms:.0f} ms)")

    def _show_crowd(self, client: Client, workitems: int) -> tuple[float, Killed]:
        """Gives workitems per second, and what became of the killed worker."""
        before = client.answered
        started = latest = time.monotonic()
        submitting: Iterator[int] | None = client.submitting(_crowd(workitems))
        killed: Killed | None = None
        done = 0
        while done < workitems and time.monotonic() - latest < RESULT_S:
            if submitting is not None and next(submitting, None) is None:
                submitting = None
                took_s = time.monotonic() - started
                self.screen.row("submitted", f"{workitems:,} workitems in {took_s:.1f} s, confirmed by the broker")
            client.receive(0.1 if submitting is None else 0)
            if client.answered - before > done:
                done, latest = client.answered - before, time.monotonic()
                self.screen.progress(done, workitems, done / (latest - started))
            if killed is None and done >= workitems * 0.3:
                killed = self._kill_worker(client)
                before += 1  # its own workitem is not one of the crowd
                latest = time.monotonic()
        if killed is None:
            raise DemoError(f"only {done} results came\n{self._last_words('workerpool')}")
        client.receive(0.3)  # what comes twice would come now
        return done / (latest - started), killed

    def _kill_worker(self, client: Client) -> Killed:
        """Give the workers something that takes a while, and kill the one that got it."""
        slow = client.submit([SLOW])

        def runs_it() -> tuple[int, set[int]] | None:
            nonlocal slow
            client.receive(0.002)
            if slow not in client.waiting:  # done before we could look
                slow = client.submit([SLOW])
            workers = _workers(self._group("primes"))
            busy = (worker["pid"] for worker in workers for task in worker["tasks"] if _is_running(task, slow))
            pid = next(busy, None)
            return None if pid is None else (pid, {worker["pid"] for worker in workers})

        pid, before = self.wait_for(runs_it, "a worker at work", poll_s=0)
        started = time.monotonic()
        os.kill(pid, signal.SIGKILL)

        def replaced() -> int | None:
            ready = {each["pid"] for each in _workers(self._group("primes")) if each["state"] != "starting"}
            return next(iter(ready - before), None)

        new_pid = self.wait_for(replaced, "a new worker in place of the killed one", poll_s=0.001)
        killed = Killed((time.monotonic() - started) * 1000, slow)
        self.screen.row(
            "kill -9", f"worker {pid}, while it ran {slow[:8]}…: replaced by {new_pid} within {killed.took_ms:.0f} ms"
        )
        self.wait_for(lambda: client.receive(0.01) if slow in client.waiting else True, "its workitem's result")
        return killed

    def _summary(self, client: Client, per_s: float, killed: Killed, dead: int, left: list[str]) -> int:
        row, lost = self.screen.row, len(client.waiting)
        row("submitted", f"{client.submitted:>9,}   workitems")
        row("results", f"{client.received:>9,}   of which {client.right:,} were checked, and are right")
        row("lost", f"{lost:>9,}", good=lost == 0)
        row("duplicated", f"{client.duplicates:>9,}", good=client.duplicates == 0)
        row("errors", f"{client.errors:>9,}   expected: the one that is not a number; dead letters: {dead}",
            good=client.errors == 1)  # fmt: skip
        row("throughput", f"{per_s:>9,.0f}   workitems a second; client, broker and workers share {CPUS} CPUs")
        row("kill -9", f"{killed.took_ms:>9,.0f}   ms until another worker stood in for the killed one; "
            f"its workitem: attempt {client.attempts[killed.message_id]}")  # fmt: skip
        row("left", f"{len(left):>9,}   processes and sockets of the daemons, once stopped", good=not left)
        for each in left:
            row("", each)
        return 1 if lost or left or client.wrong else 0

    # -- before

    def _prepare(self) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.run_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends
        except BlockingIOError:
            raise DemoError(f"another demo runs in {self.run_dir}") from None
        self._locked = True
        self.work_dir.mkdir()
        self.work_dir.chmod(0o755)

    def _start_install(self) -> subprocess.Popen[bytes] | None:
        """Install the examples, beside the virtual environment, whose plugins are the tests' business; None: done.

        From copies: pip builds in place, and would leave its files among the sources.
        """
        sources = [ROOT / "examples" / name for name in PLUGINS]
        stamp = hashlib.sha256(sys.version.encode())
        for path in sorted(path for source in sources for path in source.rglob("*") if path.is_file()):
            stamp.update(f"{path}\0".encode() + path.read_bytes())
        self.plugins = self.run_dir / f"plugins-{stamp.hexdigest()[:12]}"
        if self.plugins.exists():
            return None
        for old in self.run_dir.glob("plugins-*"):
            shutil.rmtree(old)
        copies = [self.work_dir / source.name for source in sources]
        for source, copy in zip(sources, copies, strict=True):
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
        return self._start(
            "pip", sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check",
            "--no-build-isolation", "--no-deps", "--no-index", "--target", f"{self.plugins}.part", *map(str, copies),
        )  # fmt: skip

    def _finish_install(self, installing: subprocess.Popen[bytes] | None) -> None:
        if installing is None:
            return
        if installing.wait() != 0:
            raise DemoError(f"pip failed:\n{self._last_words('pip')}")
        Path(f"{self.plugins}.part").rename(self.plugins)
        for name in PLUGINS:
            shutil.rmtree(self.work_dir / name)

    def _make_reachable(self) -> None:
        """Started as root, dispatcher and workers run as another user, who may not get into a checkout in /root."""
        if self._may_import():
            return
        self.screen.row("", f"user {self.user.name} cannot reach this checkout: running a copy in {self.work_dir}")
        for source, name in ((self.venv, "venv"), (self.plugins, "plugins")):
            copy = self.work_dir / name
            subprocess.run(["cp", "-a", "--reflink=auto", source, copy], check=True)
            subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
        self.venv, self.plugins = self.work_dir / "venv", self.work_dir / "plugins"
        if not self._may_import():
            raise DemoError(f"user {self.user.name} cannot run {self.venv}/bin/python")

    def _may_import(self) -> bool:
        become: dict[str, Any] = {}
        if self.user.uid != os.geteuid():
            become = {"user": self.user.uid, "group": self.user.gid, "extra_groups": self.user.groups}
        program = (
            "import taskqueue.listener, taskqueue.http.front, taskqueue.webhook.plugin, "
            "taskqueue_primes.worker, taskqueue_probe.worker"
        )
        try:
            ran = subprocess.run(
                [self.venv / "bin" / "python", "-P", "-c", program],
                cwd="/", env=self._environment(), capture_output=True, check=False, **become,
            )  # fmt: skip
        except PermissionError:
            return False
        return ran.returncode == 0

    # -- the daemons

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TASKQUEUE_"))}
        return {**kept, "PYTHONPATH": str(self.plugins)}

    def _start(self, name: str, *command: str, again: bool = False) -> subprocess.Popen[bytes]:
        """Start `command`, its output in a log file; in a session of its own, so that Ctrl-C is for us alone."""
        with (self.run_dir / f"{name}.log").open("ab" if again else "wb") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=self._environment(),
                start_new_session=True,
            )  # fmt: skip

    def _start_daemons(self) -> None:
        config = self.work_dir / "config.ini"
        config.write_text(CONFIG.format(port=self.broker.port) + self.front.config())
        config.chmod(0o644)  # the dispatcher reads it as its own user
        shutil.copy(config, self.run_dir)  # to be looked at afterwards
        self._not_daemons = kernel.children(os.getpid())
        for role in ("dispatcher", "workerpool"):
            self.start_daemon(role, role)

    def start_daemon(self, role: str, module: str, *, again: bool = False) -> None:
        """Start `taskqueue-ROLE`, the program of taskqueue.cli.MODULE; `again` goes on with its log."""
        self.daemons[role] = self._start(
            role, str(self.venv / "bin" / "python"), "-P", "-m", f"taskqueue.cli.{module}", "--foreground",
            "--config", str(self.work_dir / "config.ini"), "--pid-file", str(self.work_dir / f"{role}.pid"),
            again=again,
        )  # fmt: skip

    def _wait_running(self) -> list[dict[str, Any]]:
        def running() -> list[dict[str, Any]] | None:
            groups: list[dict[str, Any]] = self._status().get("groups", [])
            return groups if groups and all(group["state"] == "running" for group in groups) else None

        return self.wait_for(running, "every group running")

    def _status(self) -> dict[str, Any]:
        """The document of the pool's status socket; empty where it does not answer yet."""
        with contextlib.suppress(FileNotFoundError, ConnectionError), socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5.0)
            link.connect(str(self.work_dir / "workerpool.sock"))
            with link.makefile("rb") as stream:
                found: dict[str, Any] = json.load(stream)
                return found
        return {}

    def _group(self, name: str) -> dict[str, Any]:
        return next((group for group in self._status().get("groups", []) if group["name"] == name), {})

    def wait_for(self, fact: Callable[[], T | None], what: str, *, poll_s: float = 0.02, role: str = "workerpool") -> T:
        """The first value of `fact()` that is not None; `DemoError` where a daemon ends, or nothing comes of it."""
        deadline = time.monotonic() + START_S
        while (value := fact()) is None:
            self.check_daemons()
            if time.monotonic() > deadline:
                raise DemoError(f"not within {START_S:.0f} s: {what}\n{self._last_words(role)}")
            time.sleep(poll_s)
        return value

    def check_daemons(self) -> None:
        """Raise `DemoError` where one has ended."""
        for role, process in self.daemons.items():
            if process.poll() is not None:
                raise DemoError(f"taskqueue-{role} ended, status {process.returncode}:\n{self._last_words(role)}")

    def _stop_daemons(self) -> list[str]:
        """SIGTERM, as an init system would; gives what had to be killed, or was left."""
        left = []
        for process in self.daemons.values():
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for role, process in self.daemons.items():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                left.append(f"taskqueue-{role} (pid {process.pid})")
                process.kill()
                process.wait()
        self.daemons.clear()
        kernel.reap()
        left += [f"process {pid}" for pid in kernel.children(os.getpid()) - self._not_daemons]
        return left + [str(path) for path in self.work_dir.glob("*.sock")]

    def _last_words(self, name: str) -> str:
        return "\n".join((self.run_dir / f"{name}.log").read_text(errors="replace").splitlines()[-15:])

    # -- after

    def clean_up(self) -> list[str]:
        """End and remove whatever is there, however far it came; gives what did not end by itself."""
        if not self._locked:
            return []
        self._not_daemons |= kernel.children(os.getpid()) - {each.pid for each in self.daemons.values()}
        left = self._stop_daemons()
        with contextlib.suppress(BrokerError):
            self.broker.stop()
        deadline = time.monotonic() + 5.0
        while (children := kernel.children(os.getpid())) and time.monotonic() < deadline:
            for pid in children:  # pip, and what was interrupted between its start and our hearing of it
                kernel.kill(pid)
            kernel.reap()
            time.sleep(0.01)
        for path in (self.work_dir, self.run_dir / f"{self.plugins.name}.part", self.broker.directory / "data"):
            shutil.rmtree(path, ignore_errors=True)
        return left + [f"process {pid}" for pid in kernel.children(os.getpid())]


class FrontProcess:
    """The program `taskqueue-http`, to be killed and started again; the demo ends it like every daemon."""

    _ROLE = "http"

    def __init__(self, demo: Demo) -> None:
        self._demo = demo
        [self.port] = free_ports(1)
        self._starts = 0

    def config(self) -> str:
        """Its part of config.ini, for which it gets a directory that its user may write to."""
        directory = self._demo.work_dir / "book"
        directory.mkdir(mode=0o700)
        os.chown(directory, self._demo.user.uid, self._demo.user.gid)
        return demo_http.CONFIG.format(
            port=self.port, book=directory / "http.db", rate=demo_http.RATE, burst=demo_http.BURST
        )

    def start(self) -> float:
        """Start it; returns once it serves. Gives the seconds that it took."""
        started = time.monotonic()
        self._demo.start_daemon(self._ROLE, "front", again=self._starts > 0)
        self._starts += 1
        self._demo.wait_for(self._serves, "the front serving", role=self._ROLE)
        return time.monotonic() - started

    def kill(self) -> int:
        """Kill it with -9; gives its pid."""
        process = self._demo.daemons.pop(self._ROLE)
        process.kill()
        process.wait()
        return process.pid

    def check(self) -> None:
        """Raise `DemoError` where a daemon has ended by itself."""
        self._demo.check_daemons()

    def _serves(self) -> bool | None:
        """True once the front answers 200, None before."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5.0)
        try:
            link.request("GET", "/health/ready")
            return True if link.getresponse().status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            link.close()


# -- the client: plain pika


class Message(NamedTuple):
    """A workitem to submit. `number`: what its result is to be the factors of; 0 where it is not checked."""

    body: bytes
    content_type: str
    headers: dict[str, Any] | None = None
    number: int = 0

    @classmethod
    def json(cls, value: object, number: int = 0) -> Message:
        """A JSON workitem."""
        return cls(json.dumps(value).encode(), "application/json", None, number)


class Result(NamedTuple):
    """A result as it came."""

    headers: dict[str, Any]
    body: bytes


SLOW = Message(b"primes 999999000001", "text/plain", None, 999_999_000_001)
"""A tenth of a second of work."""


class Client:
    """Submits workitems, reads results and keeps the account."""

    def __init__(self, port: int, check: Callable[[], None]) -> None:
        self._check = check
        self.submitted = self.received = self.errors = self.right = self.wrong = self.duplicates = 0
        self.waiting: dict[str, int] = {}
        """Of each workitem without a result, the number to check it by."""
        self.latest = Result({}, b"")
        self.attempts: dict[str, int] = {}
        self._connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
        self._out = self._connection.channel()
        self._in = self._connection.channel()
        self._out.tx_select()  # a commit is answered when the broker has all of it on disk
        for queue in ("taskqueue", "results"):
            self._in.queue_declare(queue, durable=True)
        self._in.basic_consume("results", self._on_result, auto_ack=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:  # whatever was broken off, a farewell could wait for an answer that was read already
            self._connection.close()

    @property
    def answered(self) -> int:
        """How many workitems have a result."""
        return self.submitted - len(self.waiting)

    def submit(self, messages: Iterable[Message]) -> str:
        """Submit them; returns when the broker has them. Gives the last one's `message_id`."""
        for _ in self.submitting(messages):
            pass
        return next(reversed(self.waiting))

    def submitting(self, messages: Iterable[Message]) -> Iterator[int]:
        """Submit them, and give their number so far, each time the broker has them."""
        count = 0
        for count, message in enumerate(messages, 1):
            message_id = str(uuid.uuid4())
            self.waiting[message_id] = message.number
            self.submitted += 1
            properties = pika.BasicProperties(
                message_id=message_id, content_type=message.content_type, headers=message.headers, delivery_mode=2
            )
            self._out.basic_publish("", "taskqueue", message.body, properties)
            if count % COMMIT_EVERY == 0:
                self._out.tx_commit()
                yield count
        if count % COMMIT_EVERY:
            self._out.tx_commit()
            yield count

    def ask(self, message: Message) -> Result:
        """Submit a workitem and wait for its result, when no other is under way."""
        self.submit([message])
        deadline = time.monotonic() + RESULT_S
        while self.waiting:
            if time.monotonic() > deadline:
                raise DemoError(f"no result within {RESULT_S:.0f} s of {message.body!r:.60}")
            self.receive(0.1)
        return self.latest

    def receive(self, limit_s: float) -> None:
        """Take results, for no longer than `limit_s` seconds."""
        self._check()
        self._connection.process_data_events(time_limit=limit_s)

    def depth(self, queue: str) -> int:
        """How many messages wait in `queue`."""
        return int(self._in.queue_declare(queue, passive=True).method.message_count)

    def _on_result(self, channel: object, method: object, properties: Any, body: bytes) -> None:
        self.received += 1
        self.latest = Result(properties.headers, body)
        self.attempts[properties.message_id] = properties.headers["attempt"]
        number = self.waiting.pop(properties.message_id, None)
        if number is None:
            self.duplicates += 1
        elif properties.headers["status"] != "success":
            self.errors += 1
        elif number:
            value = json.loads(body)
            right = math.prod(value.get("fields", value)["factors"]) == number
            self.right += right
            self.wrong += not right


def _crowd(count: int) -> Iterator[Message]:
    """Numbers to factor, in four formats by turns."""
    for number in range(2, count + 2):
        match number % 4:
            case 0:
                yield Message(b"primes %d" % number, "text/plain", None, number)
            case 1:
                yield Message.json({"worker_type": "primes", "number": number}, number)
            case 2:
                yield Message.json({"fields": {"params": {"worker_type": "primes"}, "number": number}}, number)
            case 3:
                body = number.to_bytes(8, "big")
                yield Message(body, "application/octet-stream", {"worker_type": "primes"}, number)


def _workers(group: dict[str, Any]) -> list[dict[str, Any]]:
    return [worker for generation in group.get("generations", []) for worker in generation.get("workers", [])]


def _is_running(task: dict[str, Any], message_id: str) -> bool:
    """Whether a worker has begun with it, and not just been given it."""
    return bool(task["id"] == message_id and time.time() - task["since"] > 0.01)


def _took(started: float) -> str:
    return f"({time.monotonic() - started:.1f} s)"


def _readable(body: bytes) -> str:
    """A result for a line of a terminal."""
    value = json.loads(body)
    if "error" in value:
        return f"error: {value['error']}"
    text = json.dumps(value.get("fields", value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


if __name__ == "__main__":
    exit_status = main()
    sys.stdout.flush()
    os._exit(exit_status)  # a third Ctrl-C must not hit an interpreter that is shutting down
