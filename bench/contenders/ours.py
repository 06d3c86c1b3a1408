"""Taskqueue: the two daemons as an operator runs them, with plugins that do nothing, or nap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import processes
from bench.contenders.base import Contender
from bench.lab import Room
from bench.workitems import ID
from daemons import Stage, Workerpool
from waiting import wait_for

_NOOP = """
from taskqueue.worker import BaseWorker

class Worker(BaseWorker):
    def handle_task(self, body):
        return None
"""
_ACT = (
    (Path(__file__).parent.parent / "peers" / "acting.py").read_text()
    + """

from taskqueue.worker import BaseWorker

class Worker(BaseWorker):
    def handle_task(self, body):
        return act(body["fields"]["work"])
"""
)
PLUGINS = {"noop": _NOOP, "act": _ACT}
NOOP: Mapping[str, str] = MappingProxyType({"noop": "noop"})


class Ours(Contender):
    """A dispatcher, and a pool on each of `nodes` hosts.

    `types` are the worker types by the name of the task that they do. `pools` False: nothing but the dispatcher, so
    that what it dispatches stays in the queue of the worker type. `amqp` are keys of the section [amqp].
    """

    name = "taskqueue"
    inlet = "taskqueue"

    def __init__(
        self,
        room: Room,
        *,
        workers: int = 2,
        nodes: int = 1,
        types: Mapping[str, str] = NOOP,
        pools: bool = True,
        amqp: Mapping[str, str] | None = None,
        import_s: float = 0.0,
    ) -> None:
        super().__init__(room, workers=workers, nodes=nodes)
        self.outlet = "results" if pools else f"worker_{next(iter(types))}"
        self._types = types
        self._amqp_keys = dict(amqp or {})
        self.stage = Stage(room.lab.installation, room.directory / "stage", room.url)
        for worker_type, task in types.items():
            slow = f"import time\ntime.sleep({import_s})\n" if import_s else ""
            self.stage.site.install(worker_type, slow + PLUGINS[task])
        self._configure()
        self.pools: list[Workerpool] = []
        if pools:
            more = (self.stage.another("workerpool", f"workerpool{index + 1}") for index in range(1, nodes))
            self.pools = [self.stage.pool, *more]

    def _configure(self) -> None:
        lines = ["[amqp]", *(f"{key}: {value}" for key, value in self._amqp_keys.items())]
        lines += ["[DEFAULT]", f"workers: {self.workers}", "max_crashes: 1000"]
        self.stage.configure("\n".join([*lines, ""]))

    def submit_templates(self, bodies: Sequence[tuple[str, bytes]]) -> None:
        """As any client of taskqueue would."""
        quorum = self._amqp_keys.get("ingress_queue_type") == "quorum"
        self.room.amqp.declare(self.inlet, {"x-queue-type": "quorum"} if quorum else None)
        if self.pools:
            self.room.amqp.declare("results")
        for _, body in bodies:
            self.room.amqp.submit(body, self.inlet, message_id=ID, content_type="application/json")

    def start_node(self, index: int) -> None:
        """The first host has the dispatcher too."""
        if index == 0:
            self.stage.dispatcher.start()
        if self.pools:
            self.pools[index].start()

    def start_on_waiting(self) -> None:
        """The dispatcher when the pools are ready."""
        for pool in self.pools:
            pool.start()
        self._wait_pools()
        self.stage.dispatcher.start()

    def _wait_pools(self) -> None:
        for pool in self.pools:
            if pool.running:
                pool.wait_running(*self._types, deadline_s=120.0)

    def wait_ready(self) -> None:
        """As the status socket says it, and the broker of the dispatcher."""
        self._wait_pools()
        wait_for(lambda: self.stage.amqp.consumers(self.inlet) == 1, 20.0, "the dispatcher consumes")

    def roles(self) -> dict[str, set[int]]:
        """By the titles that the processes give themselves."""
        found: dict[str, set[int]] = {}
        for daemon in self._running():
            for pid in {daemon.pid, *processes.descendants(daemon.pid)}:
                role = processes.title(pid).removeprefix("taskqueue: ").partition(" ")[0]
                found.setdefault(role, set()).add(pid)
        return found

    def queues(self) -> list[str]:
        """The inlet, and between the hops."""
        return [self.inlet, *(f"worker_{name}" for name in self._types if self.pools)]

    def tail(self) -> str:
        """Of the daemons' logs."""
        return "\n".join(f"--- {daemon.name}\n{daemon.tail()}" for daemon in self.stage.daemons)

    def _running(self) -> Sequence[Any]:
        return [daemon for daemon in (self.stage.dispatcher, *self.pools) if daemon.running]

    def stop(self) -> None:
        """SIGTERM, as an init system does it."""
        for daemon in self._running():
            daemon.stop(deadline_s=60.0)

    def close(self) -> None:
        """End the daemons."""
        self.stage.close()
