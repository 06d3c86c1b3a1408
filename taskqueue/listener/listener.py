"""The listener of one group: consumes `worker_<type>`, has its workers run the workitems, and settles them.

1. `start` connects to the broker. The template forks workers, and the first that is ready starts the consuming.
2. Workitems pass through `deliveries` until the pool orders `Drain`, or sends SIGTERM: the listener consumes no more,
   hands back what waits, and lets the workers finish.
3. No run is with a worker any more: the template is ordered to `Retire`, and answers `NoWorkerLeft`.
   After `StopNow` the workers are killed instead, and what they ran is handed back.
4. The broker has confirmed all outcomes: the listener removes its lease queue, closes the connection and ends.
5. The pool is gone: the listener ends at once, and the broker requeues all that is not settled.

It runs as user taskqueue without a line of plugin code, so that heartbeats never depend on a plugin. This module must
never touch a run: it obeys the pool, hears the template, and finds the end.
"""

from __future__ import annotations

import signal
from typing import Any

from taskqueue.amqp import Connection, Declarer, Publisher
from taskqueue.config.settings import AmqpSettings, GroupSettings
from taskqueue.errors import LinkError
from taskqueue.foundation.loop import Loop
from taskqueue.link import orders
from taskqueue.link.packets import Link
from taskqueue.listener.deliveries import Deliveries
from taskqueue.listener.peers import Peers
from taskqueue.protocol import queues


class Listener:
    """One listener, between its pool and its template."""

    def __init__(
        self, loop: Loop, settings: GroupSettings, amqp: AmqpSettings, results_ttl_s: float, pool: Link, template: Link
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._peers = Peers(settings.name, pool, template)
        self._draining = False
        self._killing = False
        self._retired = False
        self._workers_are_gone = False
        self.connection = Connection(
            loop, amqp, f"taskqueue-listener {settings.name}", on_up=self._up, on_blocked=self._blocked_or_not
        )
        self._declarer = Declarer(self.connection)
        publisher = Publisher(self.connection)
        self._deliveries = Deliveries(
            loop, settings, amqp, results_ttl_s, self.connection, self._declarer, publisher, self._peers
        )
        loop.add_handler(pool.fileno(), self._on_pool, loop.READ)
        loop.add_handler(template.fileno(), self._on_template, loop.READ)
        loop.on_signal(signal.SIGTERM, self._drain)
        loop.before_wait(self._end_when_drained)

    def start(self) -> None:
        """Connect; consuming begins with the first worker that is ready."""
        self.connection.start()

    def _up(self) -> None:
        self._declarer.declare(queues.dead(), lambda: None)
        if self._settings.report_results:
            self._declarer.declare(queues.results(self._settings.results_routing_key), lambda: None)

    def _blocked_or_not(self, blocked: bool) -> None:
        self._deliveries.hand_out()

    # -- from the template

    def _on_template(self, fd: int, events: int) -> None:
        try:
            while (received := orders.receive(self._peers.template)) is not None:
                match received.order:
                    case orders.WorkerForked(pid):
                        self._deliveries.workers.add(pid, received.fds)
                    case orders.WorkerGone(pid, exit_code, why):
                        self._deliveries.worker_gone(pid, exit_code, why)
                    case orders.NoWorkerLeft() if self._retired or self._killing:
                        self._workers_ended()
        except (EOFError, LinkError):
            self._template_died()

    def _template_died(self) -> None:
        self._loop.remove_handler(self._peers.template.fileno())
        self._killing = True
        self._deliveries.stop_handing_out()
        self._deliveries.template_died()
        self._drain()
        self._workers_ended()

    # -- from the pool

    def _on_pool(self, fd: int, events: int) -> None:
        try:
            while (received := orders.receive(self._peers.pool)) is not None:
                match received.order:
                    case orders.Drain():
                        self._drain()
                    case orders.StopNow():
                        self._kill_workers()
                    case orders.AskStatus():
                        self._peers.to_pool(orders.Status(self.status()))
        except (EOFError, LinkError):
            self._peers.end_without_pool()

    def status(self) -> dict[str, Any]:
        """The group's part of the status document."""
        return {
            "broker": {
                "host": self.connection.host,
                "connected": self.connection.is_up,
                "blocked": self.connection.blocked,
                "trouble": self.connection.trouble,
            },
            **self._deliveries.status(),
        }

    # -- the end

    def _drain(self) -> None:
        self._draining = True
        self._deliveries.drain()

    def _kill_workers(self) -> None:
        """The time to finish is over: hand back what runs, once it is certain that it runs no more."""
        self._drain()
        if not self._killing:
            self._killing = True
            self._deliveries.stop_handing_out()
            self._peers.to_template(orders.KillAllWorkers())

    def _workers_ended(self) -> None:
        """No worker is left: hand back the runs that they had not finished."""
        self._deliveries.hand_back_all()
        self._workers_are_gone = True

    def _end_when_drained(self) -> None:
        runs = self._deliveries.runs
        if not self._draining or runs.waiting:
            return
        if not self._retired and not self._killing and not runs.unfinished:
            self._retired = True
            self._peers.to_template(orders.Retire())
            self._deliveries.workers.retire()
        if not self._workers_are_gone:
            return
        if runs.unconfirmed and self.connection.is_up and not self.connection.blocked:
            return
        self._loop.remove_hook(self._end_when_drained)
        self._deliveries.leases.end(self._close)

    def _close(self) -> None:
        self.connection.close(self._loop.stop)
