"""The two daemons as an operator runs them: as processes, with files of their own, ended and looked after."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import processes
from installation import Installation
from plain_amqp import PlainAmqp
from waiting import wait_for

MODULES = {
    "dispatcher": "taskqueue.cli.dispatcher",
    "workerpool": "taskqueue.cli.workerpool",
    "http": "taskqueue.cli.front",
    "taskqueue": "taskqueue.cli.main",
}
URL_VARIABLE = "TASKQUEUE_AMQP_URL"
NAP = """
    import time
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            time.sleep(float(body))
            return body
"""
"""A plugin whose workitem says how many seconds it takes."""


class Daemon:
    """One daemon in the foreground, its log in a file."""

    def __init__(
        self, command: Sequence[str | Path], log: Path, env: dict[str, str], *, name: str, directory: Path
    ) -> None:
        self.command = [str(part) for part in command]
        self.name = name
        self.directory = directory
        self._log = log
        self.env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: set[int] = set()

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; returns at once."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, cwd="/",
                start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        """All that it and its helpers have logged so far."""
        return self._log.read_text(errors="replace")

    def logged(self, pattern: str, deadline_s: float = 10.0, count: int = 1) -> list[str]:
        """The log lines that match `pattern`, once there are `count` of them."""

        def lines() -> list[str]:
            found = [line for line in self.log.splitlines() if re.search(pattern, line)]
            return found if len(found) >= count else []

        return wait_for(lines, deadline_s, f"{count} x {pattern!r} in the log of {self.name}", otherwise=self.tail)

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.splitlines()[-40:])

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, deadline_s: float = 10.0) -> int:
        """Its exit status, once it has ended; negative for a signal."""
        assert self._process is not None
        wait_for(lambda: not self.running, deadline_s, f"{self.name} ended", otherwise=self.tail)
        return int(self._process.returncode)

    def stop(self, deadline_s: float = 15.0, number: int = signal.SIGTERM) -> int:
        """Stop it in good order; gives the exit status. Nothing that it started may be left."""
        theirs = processes.descendants(self.pid)
        self.send(number)
        status = self.wait(deadline_s)
        processes.wait_gone(theirs)
        return status

    def end(self) -> None:
        """At the end of a test, whatever has happened in it: stop, or kill with all that is left."""
        if self._process is None:
            return
        theirs = processes.descendants(self.pid) if self.running else set()
        if self.running:
            self.send(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.5)
        if self.running:
            self.send(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(8.0)
        if self.running:
            self._process.kill()
            self._process.wait()
        for pid in theirs:
            if processes.alive(pid) and "taskqueue" in processes.title(pid):
                processes.kill(pid)
        processes.left_of(theirs)


class Workerpool(Daemon):
    """The workerpool, with what its status socket and /proc say of it."""

    @property
    def socket_path(self) -> Path:
        """Its status socket."""
        return self.directory / "workerpool.sock"

    def status(self) -> dict[str, Any]:
        """The document of the status socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(self.socket_path))  # without a timeout: with one it is EAGAIN where many are waiting
            sock.settimeout(5.0)
            parts = []
            while part := sock.recv(65536):
                parts.append(part)
        document = json.loads(b"".join(parts))
        assert isinstance(document, dict)
        return document

    def status_if_up(self) -> dict[str, Any]:
        """The document of the status socket; empty where nobody listens there."""
        try:
            return self.status()
        except (FileNotFoundError, ConnectionRefusedError):
            return {}

    def group(self, name: str) -> dict[str, Any]:
        """What the status socket says of one group; empty where it is not there."""
        return next((group for group in self.status_if_up().get("groups", []) if group["name"] == name), {})

    def generation(self, group: str) -> dict[str, Any]:
        """What the status socket says of the newest generation of a group."""
        newest = self.group(group)["generations"][-1]
        assert isinstance(newest, dict)
        return newest

    def workers(self, group: str, states: Iterable[str] = ("idle", "running")) -> list[dict[str, Any]]:
        """The workers of a group that serve, of all its generations."""
        wanted = set(states)
        return [
            worker
            for generation in self.group(group).get("generations", [])
            for worker in generation.get("workers", [])
            if worker["state"] in wanted
        ]

    def pids(self, group: str) -> set[int]:
        """The pids of a group's workers that serve."""
        return {worker["pid"] for worker in self.workers(group)}

    def only_worker(self, group: str) -> int:
        """The pid of a group's only worker, once it serves."""
        self.wait_running(group)
        (pid,) = self.pids(group)
        return pid

    def helper(self, group: str, role: str) -> int:
        """The pid of the newest listener or template of a group."""
        pid = self.generation(group)["pids"][role]
        assert isinstance(pid, int)
        return pid

    def wait_running(self, *groups: str, deadline_s: float = 20.0) -> None:
        """Return once these groups run with all their workers."""

        def all_run() -> bool:
            document = self.status_if_up()
            assert document or self.running, f"{self.name} ended with status {self.wait()}\n{self.tail()}"
            found = {group["name"]: group for group in document.get("groups", [])}
            return all(name in found and _is_complete(found[name]) for name in groups)

        wait_for(all_run, deadline_s, f"{', '.join(groups)} running", otherwise=self.tail)

    def wait_state(self, group: str, state: str, deadline_s: float = 20.0) -> dict[str, Any]:
        """What the status says of `group`, once it is in `state`."""
        return wait_for(
            lambda: found if (found := self.group(group)).get("state") == state else {},
            deadline_s,
            f"{group} is {state}",
            otherwise=lambda: f"{self.group(group)}\n{self.tail()}",
        )

    def running_task(self, group: str, message_id: str, deadline_s: float = 10.0) -> int:
        """The pid of the worker that runs a workitem, once one does."""

        def pid() -> int:
            for worker in self.workers(group, {"running", "leaving"}):
                if any(task["id"] == message_id for task in worker["tasks"]):
                    return int(worker["pid"])
            return 0

        return wait_for(pid, deadline_s, f"a worker of {group} runs {message_id}", otherwise=self.tail)


def _is_complete(group: dict[str, Any]) -> bool:
    """Whether a group of the status document runs with all its workers."""
    workers = group["generations"][-1].get("workers", []) if group["generations"] else []
    serving = sum(worker["state"] in {"idle", "running"} for worker in workers)
    return bool(group["state"] == "running" and serving >= group["workers_wanted"])


class Stage:
    """A vhost, an installation with plugins, a config file and the daemons that use them: what a test plays with."""

    def __init__(self, installation: Installation, directory: Path, amqp_url: str) -> None:
        directory.mkdir(mode=0o755)
        self.directory = directory
        self.site = installation.site(directory / "site")
        self.run_dir = directory / "run"
        self.run_dir.mkdir(mode=0o755)
        self.scratch = directory / "scratch"
        self.scratch.mkdir()
        self.scratch.chmod(0o1777)
        self.config_file = directory / "config.ini"
        self.amqp_url = amqp_url
        self.amqp = PlainAmqp(amqp_url)
        self.daemons: list[Daemon] = []
        self.pool: Workerpool = self._daemon(Workerpool, "workerpool")
        self.dispatcher: Daemon = self._daemon(Daemon, "dispatcher")

    def env(self, **more: str) -> dict[str, str]:
        """The environment of a daemon: little, and where the broker is."""
        return {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", URL_VARIABLE: self.amqp_url, **more}

    def command(self, role: str, *arguments: str | Path) -> list[str | Path]:
        """The command line of a daemon, or of a check."""
        return [self.site.python, "-m", MODULES[role], *arguments]

    def _daemon(
        self, kind: type[Any], role: str, *, env: dict[str, str] | None = None, prefix: Sequence[str] = (),
        arguments: Sequence[str | Path] | None = None, name: str = "", run_dir: Path | None = None,
    ) -> Any:  # fmt: skip
        run_dir = run_dir or self.run_dir
        if arguments is None:
            arguments = ["-f", "-c", self.config_file, "-p", run_dir / f"{name or role}.pid"]
        command = [*prefix, *self.command(role, *arguments)]
        log = self.directory / f"{name or role}.log"
        log.touch()
        daemon = kind(command, log, self.env() if env is None else env, name=name or role, directory=run_dir)
        self.daemons.append(daemon)
        return daemon

    def another(self, role: str, name: str, **keywords: Any) -> Any:
        """One more daemon, as on another host: with a log and (unless `run_dir` says otherwise) a runtime directory of
        its own."""
        if "run_dir" not in keywords:
            keywords["run_dir"] = self.directory / f"run-{name}"
            keywords["run_dir"].mkdir(mode=0o755)
        return self._daemon(Workerpool if role == "workerpool" else Daemon, role, name=name, **keywords)

    def configure(self, text: str) -> None:
        """Write the config file."""
        self.config_file.write_text(text)
        self.config_file.chmod(0o644)

    def run(
        self, role: str, *arguments: str | Path, deadline_s: float = 20.0, stdin: str = "", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that ends by itself."""
        return subprocess.run(
            [str(part) for part in self.command(role, *arguments)],
            input=stdin, capture_output=True, text=True, timeout=deadline_s, env=self.env(**environ), cwd="/",
            check=False,
        )  # fmt: skip

    def start(self, *groups: str) -> None:
        """Start both daemons, and wait until the pool answers, and these groups run and consume."""
        if not self.config_file.exists():
            self.configure("")
        self.dispatcher.start()
        self.pool.start()
        wait_for(
            lambda: self.amqp.consumers("taskqueue") == 1, 20, "dispatcher consumes", otherwise=self.dispatcher.tail
        )
        wait_for(self.pool.status_if_up, 20, "the pool answers", otherwise=self.pool.tail)
        self.pool.wait_running(*groups)
        for name in groups:
            queue = f"worker_{name.partition('/')[0]}"
            wait_for(
                lambda queue=queue: self.amqp.consumers(queue) > 0,  # type: ignore[misc]
                20, f"{name} consumes", otherwise=self.pool.tail,
            )  # fmt: skip

    def reload(self) -> None:
        """SIGHUP to the pool; returns once it has read its config anew."""
        pattern = r"reloading: groups=|not reloaded: "
        before = len(re.findall(pattern, self.pool.log))
        self.pool.send(signal.SIGHUP)
        self.pool.logged(pattern, count=before + 1)

    def output(self, name: str = "out") -> list[str]:
        """The lines that plugins have written to a file in the scratch directory."""
        path = self.scratch / name
        return path.read_text().splitlines() if path.exists() else []

    def close(self) -> None:
        """End the daemons."""
        for daemon in self.daemons:
            daemon.end()
        self.amqp.close()
