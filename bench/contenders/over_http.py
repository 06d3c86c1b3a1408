"""Who takes tasks over HTTP and calls webhooks: taskqueue, on SQLite or PostgreSQL, and FastAPI with Celery."""

from __future__ import annotations

import socket
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import processes
from bench.accounting import tree
from bench.contenders.base import Command
from bench.contenders.peers import APPS
from bench.lab import Room
from daemons import Daemon, Stage
from postgresql import PrivatePostgresql
from waiting import wait_for

CONCURRENCY = 200


class Side(ABC):
    """A system under test: `start`, then send tasks to `port` and `path`. It is ended with its context."""

    name: str
    path: str

    def __init__(self, room: Room) -> None:
        self.room = room
        self.port = _free_port()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def start(self) -> None:
        """Start all of it; returns when it serves."""

    @abstractmethod
    def roles(self) -> dict[str, set[int]]:
        """The process ids by what they do, without the broker."""

    def at_rest(self) -> bool:
        """Whether nothing is left to be done after the last webhook."""
        return True

    @abstractmethod
    def tail(self) -> str:
        """The end of what its processes have said."""

    @abstractmethod
    def close(self) -> None:
        """End whatever is left."""

    def _wait_serving(self) -> None:
        def serves() -> bool:
            # a front listens before its book is open
            connection = HTTPConnection("127.0.0.1", self.port, timeout=5.0)
            try:
                connection.request("GET", "/")
                return connection.getresponse().status > 0
            except OSError:
                return False
            finally:
                connection.close()

        wait_for(serves, 60.0, f"{self.name} serves", otherwise=self.tail)


class Fronted(Side):
    """A front and a workerpool with one webhook worker. Its book is in SQLite, or with `server` in PostgreSQL."""

    path = "/v1/queues/default/tasks"

    def __init__(self, room: Room, server: PrivatePostgresql | None = None) -> None:
        super().__init__(room)
        self.name = "taskqueue" if server is None else "taskqueue, PostgreSQL"
        self._server = server
        self._database = room.directory.name
        self.stage = Stage(room.lab.installation, room.directory / "stage", room.url)
        self.stage.site.install_webhook()
        self.file = self.stage.scratch / "http.db"
        book = f"sqlite:{self.file}" if server is None else server.make_database(self._database)
        self.stage.configure(
            f"[http]\nlisten: 127.0.0.1:{self.port}\nbook: {book}\n"
            f"[webhook]\nworkers: 1\nconcurrency: {CONCURRENCY}\ntargets: private\n"
        )
        self.front: Daemon = self.stage.another("http", "front")

    def start(self) -> None:
        """The front first: it makes the tables of its book."""
        if not self.front.running:
            self.start_front()
        self.stage.pool.start()
        self.stage.pool.wait_running("webhook", deadline_s=60.0)
        wait_for(lambda: self.room.amqp.consumers("worker_webhook") > 0, 20.0, "webhook consumes", otherwise=self.tail)

    def start_front(self) -> None:
        """The front alone."""
        self.front.start()
        self._wait_serving()

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements on the book, in one transaction; gives the rows of the last."""
        if self._server is not None:
            rows: list[tuple[Any, ...]] = []
            for statement in statements:
                rows = self._server.sql(statement, self._database)
            return rows
        db = sqlite3.connect(self.file)
        try:
            with db:
                for statement in statements:
                    rows = db.execute(statement).fetchall()
            return rows
        finally:
            db.close()

    def numbers(self, first: int, last: int) -> str:
        """The start of a statement that selects from `numbers`, whose column `n` runs from `first` to `last`."""
        if self._server is not None:
            return f"WITH numbers AS (SELECT generate_series({first}, {last}) AS n)"
        return f"WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})"

    @property
    def padded_id(self) -> str:
        """An id of task number `n`: it sorts before those of today."""
        if self._server is not None:
            return "'01800000-0000-7000-8000-' || lpad(n::text, 12, '0')"
        return "printf('01800000-0000-7000-8000-%012d', n)"

    @property
    def a_body(self) -> str:
        """300 bytes."""
        return "convert_to(repeat('x', 300), 'UTF8')" if self._server is not None else "zeroblob(300)"

    def at_rest(self) -> bool:
        """Every outcome is in the book."""
        return self.sql("SELECT 1 FROM tasks WHERE watch_ms IS NOT NULL LIMIT 1") == []

    def roles(self) -> dict[str, set[int]]:
        """By the titles that the processes give themselves."""
        found: dict[str, set[int]] = {}
        for daemon in self.stage.daemons:
            for pid in tree(daemon.pid) if daemon.running else ():
                role = processes.title(pid).removeprefix("taskqueue: ").partition(" ")[0]
                found.setdefault("front" if role == "http" else role, set()).add(pid)
        if self._server is not None:
            found["book"] = tree(self._server.pid)
        return found

    def tail(self) -> str:
        """Of the daemons' logs."""
        return "\n".join(f"--- {daemon.name}\n{daemon.tail()}" for daemon in self.stage.daemons)

    def close(self) -> None:
        """End the daemons, and drop the book."""
        self.stage.close()
        if self._server is not None:
            self._server.drop_database(self._database)


class Pieced(Side):
    """uvicorn with FastAPI, one process as our front is; Celery's workers in their `pool`, which call by requests."""

    path = "/tasks"

    def __init__(self, room: Room, pool: str, concurrency: int) -> None:
        super().__init__(room)
        self.name = f"FastAPI, Celery {pool} {concurrency}, requests"
        self._celery = ["-P", pool, "-c", str(concurrency)]
        self._processes = concurrency + 1 if pool == "prefork" else 1
        self._running: dict[str, Command] = {}

    def start(self) -> None:
        """Both."""
        self._start("front", ["uvicorn", "webhooks_app:api", "--port", str(self.port), "--no-access-log",
                              "--log-level", "warning"])  # fmt: skip
        self._start("pool", ["celery", "-A", "webhooks_app:app", "worker", *self._celery, "--loglevel", "WARNING",
                             "--without-gossip", "--without-mingle", "--without-heartbeat"])  # fmt: skip
        self._wait_serving()
        wait_for(
            lambda: (
                self.room.amqp.consumers("celery") >= 1 and len(tree(self._running["pool"].pid)) >= self._processes
            ),
            120.0, f"{self.name} is ready", otherwise=self.tail,
        )  # fmt: skip

    def _start(self, role: str, command: Sequence[str]) -> None:
        log = self.room.directory / f"{role}.log"
        env = {"PATH": "/usr/bin:/bin", "BENCH_URL": self.room.url}
        python: Path = self.room.lab.peers_python
        self._running[role] = Command([python, "-m", *command], log, env, APPS)

    def roles(self) -> dict[str, set[int]]:
        """The server, and Celery's processes."""
        return {role: tree(command.pid) for role, command in self._running.items() if command.running}

    def tail(self) -> str:
        """The end of what they said."""
        return "\n".join(command.tail() for command in self._running.values())

    def close(self) -> None:
        """SIGTERM."""
        for command in self._running.values():
            command.stop()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
