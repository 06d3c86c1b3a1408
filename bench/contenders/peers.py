"""The peers: Celery, Dramatiq, Taskiq, each with its own client, its own command and the settings of peers/*_app.py."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.accounting import tree
from bench.contenders.base import Command, Contender
from bench.lab import Room
from bench.workitems import ID
from waiting import wait_for

APPS = Path(__file__).parent.parent / "peers"


def _celery(workers: int, node: int) -> list[str]:
    # what is switched off only costs: no guarantee hangs on it
    return [
        "celery", "-A", "celery_app", "worker", "--concurrency", str(workers), "-n", f"bench{node}@%h",
        "--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat",
    ]  # fmt: skip


def _dramatiq(workers: int, node: int) -> list[str]:
    return ["dramatiq", "dramatiq_app", "--processes", str(workers), "--threads", "8"]


def _taskiq(workers: int, node: int) -> list[str]:
    return ["taskiq", "worker", "taskiq_app:broker", "--workers", str(workers), "--log-level", "WARNING"]


@dataclass(frozen=True)
class Kind:
    """A peer in one configuration. `settings` go to its app in the environment."""

    name: str
    app: str
    inlet: str
    command: Callable[[int, int], list[str]]
    """Of so many workers, on the host of that number: a module and its arguments."""
    consumers: Callable[[int], int]
    """How many consumers the inlet has when that many workers are ready."""
    settings: Mapping[str, str] = field(default_factory=dict)


def _one(workers: int) -> int:
    return 1


def _each(workers: int) -> int:
    return workers


CELERY = Kind("Celery", "celery_app", "celery", _celery, _one)
CELERY_ONE = replace(CELERY, name="Celery, prefetch 1", settings={"BENCH_PREFETCH": "1"})
CELERY_CONFIRMED = replace(CELERY, name="Celery, results confirmed", settings={"BENCH_CONFIRMED": "1"})
DRAMATIQ = Kind("Dramatiq, no results", "dramatiq_app", "default", _dramatiq, _each)
DRAMATIQ_RESULTS = replace(DRAMATIQ, name="Dramatiq, results", settings={"BENCH_RESULTS": "unconfirmed"})
DRAMATIQ_CONFIRMED = replace(DRAMATIQ, name="Dramatiq, results confirmed", settings={"BENCH_RESULTS": "confirmed"})
TASKIQ = Kind("Taskiq, no results", "taskiq_app", "taskiq", _taskiq, _each)


class Peer(Contender):
    """A peer at work."""

    def __init__(self, room: Room, kind: Kind, *, workers: int = 2, nodes: int = 1, import_s: float = 0.0) -> None:
        super().__init__(room, workers=workers, nodes=nodes)
        self.kind = kind
        self.name = kind.name
        self.inlet = kind.inlet
        self.outlet: str | None = None
        self._env = {
            "PATH": "/usr/bin:/bin",
            "BENCH_URL": room.url,
            **({"BENCH_IMPORT_S": str(import_s)} if import_s else {}),
            **kind.settings,
        }
        self._running: list[Command] = []

    def client(self, *arguments: str, bodies: Sequence[tuple[str, bytes]]) -> Any:
        """Run the app's own client on these tasks and bodies; what it says."""
        command = [str(self.room.lab.peers_python), f"{self.kind.app}.py", *arguments]
        workitems = [(task, json.loads(body)) for task, body in bodies]
        env = {**self._env, "BENCH_IMPORT_S": "0"}
        ran = subprocess.run(
            command, input=json.dumps(workitems), stdout=subprocess.PIPE, env=env, cwd=APPS, text=True, check=True
        )
        return json.loads(ran.stdout)

    def submit_templates(self, bodies: Sequence[tuple[str, bytes]]) -> None:
        """By the app's own client, which says where the results will come."""
        self.outlet = self.client("submit", ID, bodies=bodies)

    def start_node(self, index: int) -> None:
        """Its own command, with the workers of one host."""
        command = [str(self.room.lab.peers_python), "-m", *self.kind.command(self.workers, index)]
        log = self.room.directory / f"{self.kind.app}-{index}.log"
        self._running.append(Command(command, log, self._env, APPS))

    def wait_ready(self) -> None:
        """All processes are there, and consume."""
        wait_for(
            lambda: (
                self.room.amqp.consumers(self.inlet) >= len(self._running) * self.kind.consumers(self.workers)
                and all(len(tree(node.pid)) > self.workers for node in self._running)
            ),
            120.0,
            f"{self.name} is ready",
            otherwise=self.tail,
        )

    def tail(self) -> str:
        """The end of what it said."""
        return "\n".join(node.tail() for node in self._running)

    def roles(self) -> dict[str, set[int]]:
        """Its processes, not told apart."""
        return {"peer": set().union(*(tree(node.pid) for node in self._running if node.running))}

    def stop(self) -> None:
        """SIGTERM."""
        for node in self._running:
            node.stop()

    def close(self) -> None:
        """The same."""
        self.stop()
