"""A front as an operator runs it: `taskqueue-http` as a process of a stage, with port, unix socket and book of its
own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

from broker import free_ports
from daemons import Daemon, Stage
from waiting import wait_for


class FrontDaemon:
    """The front of `stage`; not started yet. `more` is config behind its section [http]."""

    def __init__(self, stage: Stage, *, book: str | None = None, http: str = "", more: str = "") -> None:
        self.stage = stage
        directory = stage.directory / "book"
        directory.mkdir(mode=0o750)
        if os.geteuid() == 0:  # the front becomes that user
            user = pwd.getpwnam("taskqueue")
            os.chown(directory, user.pw_uid, user.pw_gid)
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.socket = directory / "http.sock"
        self.file = directory / "http.db"
        self.book = book or f"sqlite:{self.file}"
        self.configure(http, more)
        self.daemon: Daemon = stage.another("http", "front", run_dir=directory)

    def configure(self, http: str = "", more: str = "", listen: str | None = None) -> None:
        """Write the config of the stage: `http` goes into [http]."""
        where = listen or f"127.0.0.1:{self.port}, unix:{self.socket}"
        self.stage.configure(f"[http]\nlisten: {where}\nbook: {self.book}\n{http}\n{more}\n")

    def start(self) -> None:
        """Start it; returns when it serves."""
        before = self.daemon.log.count("front started")
        self.daemon.start()
        wait_for(
            lambda: self.daemon.log.count("front started") > before or not self.daemon.running, 20, "the front serves",
            otherwise=self.daemon.tail,
        )  # fmt: skip
        assert self.daemon.running, self.daemon.tail()

    def run(self, *arguments: str | Path, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        """`taskqueue`, with the config of this front."""
        return self.stage.run(
            "taskqueue", *arguments, "-c", self.stage.config_file, deadline_s=60, stdin=stdin, **environ
        )

    def told(self, *arguments: str | Path, **keywords: Any) -> str:
        """What a command that must succeed prints."""
        ran = self.run(*arguments, **keywords)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()


def ask(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 30.0
) -> tuple[int, Any]:
    """One request on a connection of its own; gives status and document."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        return ask_on(connection, method, path, body, headers)


def ask_on(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:  # fmt: skip
    """One request; gives status and document."""
    data = None if body is None else json.dumps(body)
    connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
    answer = connection.getresponse()
    text = answer.read()
    return answer.status, json.loads(text) if text else None


def health(port: int) -> int:
    """The status of `/health/ready`; 0 where nobody listens."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return ask(port, "GET", "/health/ready", timeout=5.0)[0]
    return 0
