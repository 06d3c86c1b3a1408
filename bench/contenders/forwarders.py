"""The limit: programs in C that move messages along the same queues with the same guarantee, and look at no body."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from bench.contenders.base import Contender
from bench.lab import Room
from bench.workitems import ID
from taskqueue.config.load import URL_VARIABLE, load
from taskqueue.protocol import queues
from waiting import wait_for


class Forwarders(Contender):
    """One for each hop: `taskqueue` to `worker_noop`, and with `hops` 2 from there to `results`. They end by themselves
    when they have moved all."""

    inlet = "taskqueue"

    def __init__(
        self, room: Room, *, hops: int, queue_type: str = "quorum", ingress_queue_type: str = "classic"
    ) -> None:
        super().__init__(room)
        self.name = "C forwarder" if hops == 1 else "C forwarders, chained"
        amqp = replace(
            load(environ={URL_VARIABLE: room.url}).amqp,
            queue_type=queue_type, ingress_queue_type=ingress_queue_type,
        )  # fmt: skip
        chain = [queues.ingress(amqp), queues.worker("noop", amqp), queues.results("results")]
        self._queues = chain[: hops + 1]
        self.outlet = self._queues[-1].name
        self._running: list[subprocess.Popen[bytes]] = []

    def submit_templates(self, bodies: Sequence[tuple[str, bytes]]) -> None:
        """Into queues like taskqueue's own."""
        for queue in self._queues:
            self.room.amqp.declare(queue.name, dict(queue.arguments) or None)
        for _, body in bodies:
            self.room.amqp.submit(body, self.inlet, message_id=ID, content_type="application/json")

    def start_node(self, index: int) -> None:
        """All of them are on one host."""
        for source, target in zip(self._queues, self._queues[1:], strict=False):
            forwarder = self.room.lab.programs.forward(self.room.url, source.name, target.name, self.submitted)
            self._running.append(forwarder)

    def wait_ready(self) -> None:
        """They consume."""
        for queue in self._queues[:-1]:
            wait_for(partial(self.room.amqp.consumers, queue.name), 10.0, f"{queue.name} is consumed")

    def roles(self) -> dict[str, set[int]]:
        """They all do the same."""
        return {"forwarder": {process.pid for process in self._running}}

    def tail(self) -> str:
        """They say nothing: what goes wrong is on standard error."""
        return ""

    def stop(self) -> None:
        """They have ended when they have settled all: raises where one has not done its work."""
        for process in self._running:
            if process.wait(60) != 0:
                raise RuntimeError(f"forwarder failed: status={process.returncode}")

    def close(self) -> None:
        """End them."""
        for process in self._running:
            process.kill()
            process.wait()
