"""The listener of one group: consumes `worker_<type>`, has its workers run what comes, settles it.

It owns attempts, time limits, retries and crash accounting. It runs as user taskqueue, without a line of plugin code,
so that heartbeats never depend on what a plugin does. When the pool is gone it ends at once: what is not settled goes
back to the broker.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import deque
from typing import Any

from taskqueue.amqp import Connection, Consumer, Declarer, Delivery, Publisher
from taskqueue.config.settings import AmqpSettings, GroupSettings
from taskqueue.errors import LinkError
from taskqueue.foundation.loop import Loop, Timer
from taskqueue.host import kernel
from taskqueue.link import orders
from taskqueue.link.assignment import Report
from taskqueue.link.exits import EXITS, FAILED
from taskqueue.link.packets import Link
from taskqueue.listener.attempts import Attempts
from taskqueue.listener.intake import Intake
from taskqueue.listener.leases import Leases
from taskqueue.listener.run import Run, begin
from taskqueue.listener.settler import Settler
from taskqueue.listener.states import RunState
from taskqueue.listener.time_limit import TimeLimit
from taskqueue.listener.workers import Death, Worker, Workers
from taskqueue.protocol import queues

log = logging.getLogger(__name__)

_HOARD_S = 1.0
"""What waits here so long while every worker is busy goes back, for other hosts."""


class Listener:
    """One listener. The pool speaks to it over `pool`, the template over `template`."""

    def __init__(
        self, loop: Loop, settings: GroupSettings, amqp: AmqpSettings, results_ttl_s: float, pool: Link, template: Link
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._pool = pool
        self._template = template
        self._backlog: deque[Run] = deque()
        self._runs: dict[int, Run] = {}
        """Every run that is not settled, in the order of its delivery."""
        self._draining = False
        self._killing = False
        self._retired = False
        self._workers_are_gone = False
        self._was_ready = False
        self._hoard: Timer | None = None
        self._last_report = time.monotonic()
        self._restarts = 0
        self.connection = Connection(
            loop, amqp, f"taskqueue-listener {settings.name}", on_up=self._up, on_blocked=lambda _blocked: self._go_on()
        )
        self._declarer = Declarer(self.connection)
        self._publisher = Publisher(self.connection)
        self._settler = Settler(settings, amqp, results_ttl_s, self._declarer, self._publisher, self._done)
        self._attempts = Attempts(settings, self._settler, lambda run: self._wait_first([run]))
        queue = queues.worker(settings.worker_type, amqp)
        self._consumer = Consumer(self.connection, self._declarer, queue, 1, self._delivered, self._deliveries_lost)
        self._intake = Intake(loop, settings, self._consumer, runs=self._runs.values, hands=lambda: self._workers.ready)
        self._leases = Leases(
            self.connection,
            self._declarer,
            self._publisher,
            settings.worker_type,
            amqp,
            runs=self._runs.values,
            on_leased=self._intake.steer,
            on_unknown=self._delivered,
            on_lost=self._deliveries_lost,
        )
        self._workers = Workers(
            loop,
            settings,
            on_ready=self._worker_ready,
            on_failed=self._worker_failed,
            on_report=self._reported,
            on_unread=self._wait_first,
            on_nonsense=self._worker_nonsense,
        )
        self._limit = TimeLimit(loop, settings.time_limit_s, self._workers, self._overdue)
        loop.add_handler(pool.fileno(), self._on_pool, loop.READ)
        loop.add_handler(template.fileno(), self._on_template, loop.READ)
        loop.on_signal(signal.SIGTERM, self._drain)
        loop.before_wait(self._end_when_drained)

    def start(self) -> None:
        """Connect; consuming begins with the first worker that is ready."""
        self.connection.start()

    # -- deliveries in

    def _up(self) -> None:
        self._declarer.declare(queues.dead(), lambda: None)
        if self._settings.report_results:
            self._declarer.declare(queues.results(self._settings.results_routing_key), lambda: None)

    def _delivered(self, delivery: Delivery) -> None:
        run = begin(delivery)
        if self._settler.reclaim(run) is not None:
            self._intake.steer()
            return
        self._runs[run.number] = run
        if delivery.fault:
            self._attempts.faulty(run)
            return
        if self._draining:
            self._settler.hand_back(run)
            return
        self._backlog.append(run)
        self._go_on()

    def _deliveries_lost(self) -> None:
        answers_lost = not self.connection.is_up
        self._wait_first(self._workers.unread())  # the broker has them: others may run them
        for run in list(self._runs.values()):
            if run.delivery.held:
                continue
            if run.life.state is RunState.WAITING:
                del self._runs[run.number]
            else:
                self._settler.lost(run, answers_lost=answers_lost)
        self._backlog = deque(run for run in self._backlog if run.delivery.held)
        self._intake.steer()

    def _done(self, run: Run) -> None:
        self._runs.pop(run.number, None)
        if run.leased:
            self._intake.steer()

    # -- work out and reports in

    def _go_on(self) -> None:
        """Hand out what waits, and take work back for a worker that has none."""
        if self.connection.blocked or self._killing:
            return
        if self._runs:
            self._leases.watch()
        backlog = self._backlog
        if not backlog:
            backlog.extend(self._workers.steal())
        while backlog and self._workers.take(backlog[0]):
            backlog.popleft()
        self._limit.watch()
        if self._runs and self._hoard is None and self._settings.prefetch is None:
            self._hoard = self._loop.call_later(_HOARD_S, self._check_hoard)

    def _reported(self, run: Run, report: Report, body: bytes) -> None:
        self._last_report = time.monotonic()
        self._attempts.reported(run, report, body)
        self._intake.adapt(self._workers.mean_s, self._last_report)
        self._go_on()

    # -- deaths

    def _gone(self, death: Death) -> None:
        settings = self._settings
        self._restarts += 1
        self._wait_first(death.unread)
        if death.why == "time_limit":
            limit_s, now = settings.time_limit_s or 0.0, time.monotonic()
            overdue = [run for run in death.suspects if run.started is not None and now - run.started >= limit_s]
            for run in overdue:
                self._attempts.timed_out(run)
            self._wait_first([run for run in death.suspects if run not in overdue])
        elif self._killing:
            self._wait_first(death.suspects)
        else:
            what = death.why or kernel.exit_text(death.exit_code) + EXITS.get(death.exit_code, "")
            if death.suspects or death.exit_code != 0:
                log.warning(
                    "worker died: group=%s pid=%d %s tasks=%s",
                    settings.name, death.pid, what, ",".join(run.message_id for run in death.suspects) or "none",
                )  # fmt: skip
            if len(death.suspects) == 1:
                self._attempts.crashed(death.suspects[0], f"the worker died: {what}")
            else:
                for run in death.suspects:  # one of them did it: each is run alone, and none is counted
                    run.alone = True
                self._wait_first(death.suspects)
            if not death.ready and death.exit_code not in {0, FAILED}:
                self._tell_pool(orders.Failed(f"worker died before it was ready: {what}", self._workers.ready))
        self._intake.steer()
        self._go_on()

    def _wait_first(self, runs: list[Run]) -> None:
        """`runs` wait again, before all others; but for those whose delivery is gone: the broker has them."""
        for run in reversed(runs):
            run.started = None
            if not run.delivery.held:
                self._runs.pop(run.number, None)
                self._settler.forget(run)
                continue
            if run.life.state is RunState.HANDED:
                run.life.move(RunState.WAITING)
            self._backlog.appendleft(run)

    def _overdue(self, worker: Worker) -> None:
        log.warning("time limit: group=%s pid=%d; killing the worker", self._settings.name, worker.pid)
        self._tell_template(orders.KillWorker(worker.pid, "time_limit"))

    # -- prefetch

    def _check_hoard(self) -> None:
        """What stands behind a long task goes to other workers; where all are busy with such, back for other hosts."""
        self._hoard = None
        if self._draining or not (self._backlog or self._workers.ahead):
            return
        self._wait_first(self._workers.recall(_HOARD_S))
        idle_s = time.monotonic() - self._last_report
        if not self._backlog or idle_s < _HOARD_S or not self.connection.is_up or self.connection.blocked:
            self._hoard = self._loop.call_later(_HOARD_S, self._check_hoard)
            self._go_on()
            return
        self._workers.mean_s = max(self._workers.mean_s or 0.0, idle_s)
        self._intake.shrink()
        log.info("handed back for other hosts: group=%s workitems=%d", self._settings.name, len(self._backlog))
        self._hand_back_all()

    def _hand_back_all(self) -> None:
        backlog, self._backlog = self._backlog, deque()
        for run in backlog:
            self._settler.hand_back(run)

    # -- from the template

    def _on_template(self, fd: int, events: int) -> None:
        try:
            while (received := orders.receive(self._template)) is not None:
                match received.order:
                    case orders.WorkerForked(pid):
                        self._workers.add(pid, received.fds)
                        if self._retired:  # forked before the template heard of it
                            self._workers.retire()
                    case orders.WorkerGone(pid, exit_code, why):
                        death = self._workers.gone(pid, exit_code, why)
                        if death is not None:
                            self._gone(death)
                    case orders.NoWorkerLeft() if self._retired or self._killing:
                        self._workers_ended()
        except (EOFError, LinkError):
            self._template_died()

    def _template_died(self) -> None:
        """Its workers died with it. What they ran stays unsettled: the broker counts it, the limit of 20 is the
        backstop against a workitem that kills its template. What waited goes back uncounted."""
        self._loop.remove_handler(self._template.fileno())
        for death in self._workers.all_gone():
            self._backlog.extend(death.unread)
        self._killing = True
        self._drain()
        self._workers_ended()

    def _worker_ready(self, worker: Worker) -> None:
        self._tell_template(orders.WorkerReady(worker.pid))
        if self._draining:
            return
        self._intake.steer()
        if not self._was_ready and self._workers.ready >= self._settings.workers:
            self._was_ready = True
            self._tell_pool(orders.Ready())
        self._go_on()

    def _worker_failed(self, worker: Worker, trace: str) -> None:
        self._tell_pool(orders.Failed(trace, self._workers.ready))

    def _worker_nonsense(self, worker: Worker, error: str) -> None:
        log.error("worker broke the protocol: group=%s pid=%d error=%s", self._settings.name, worker.pid, error)
        worker.leaving = True
        self._loop.remove_handler(worker.link.fileno())
        self._tell_template(orders.KillWorker(worker.pid, f"killed, since it broke the protocol: {error:.200}"))

    # -- from the pool

    def _on_pool(self, fd: int, events: int) -> None:
        try:
            while (received := orders.receive(self._pool)) is not None:
                match received.order:
                    case orders.Drain():
                        self._drain()
                    case orders.StopNow():
                        self._kill_workers()
                    case orders.AskStatus():
                        self._tell_pool(orders.Status(self.status()))
        except (EOFError, LinkError):
            log.warning("pool is gone: group=%s; ending", self._settings.name)
            os._exit(1)

    def status(self) -> dict[str, Any]:
        """What the pool shows of this group on its status socket."""
        return {
            "broker": {
                "host": self.connection.host,
                "connected": self.connection.is_up,
                "blocked": self.connection.blocked,
                "trouble": self.connection.trouble,
            },
            "consuming": self._consumer.consuming,
            "prefetch": self._intake.prefetch,
            "waiting": len(self._backlog) + self._workers.ahead,
            "counts": {**self._attempts.counts, "restarts": self._restarts},
            "workers": self._workers.describe(),
        }

    def _tell_pool(self, order: orders.Order) -> None:
        try:
            orders.send(self._pool, order, wait=True)
        except LinkError:
            os._exit(1)

    def _tell_template(self, order: orders.Order) -> None:
        try:
            orders.send(self._template, order, wait=True)
        except LinkError as error:
            log.debug("template is gone: group=%s error=%s", self._settings.name, error)  # its link's end tells more

    # -- the end

    def _drain(self) -> None:
        """Take no more, hand back what waits, let finish what runs."""
        if not self._draining:
            self._draining = True
            self._consumer.cancel(self._hand_back_all)
            self._hand_back_all()

    def _kill_workers(self) -> None:
        """The time to finish is over: requeue what runs, once it is certain that it runs no more."""
        self._drain()
        if not self._killing:
            self._killing = True
            self._tell_template(orders.KillAllWorkers())

    def _workers_ended(self) -> None:
        """No worker is left: what they had not finished goes back, then all is settled, then we end."""
        self._hand_back_all()
        self._workers_are_gone = True

    def _end_when_drained(self) -> None:
        if not self._draining or self._backlog:
            return
        busy = any(run.life.state in {RunState.HANDED, RunState.WAITING} for run in self._runs.values())
        if not busy and not self._retired and not self._killing:
            self._retired = True
            self._tell_template(orders.Retire())
            self._workers.retire()
        if not self._workers_are_gone:
            return
        unanswered = any(run.life.state is RunState.PUBLISHING for run in self._runs.values())
        if unanswered and self.connection.is_up and not self.connection.blocked:
            return
        self._loop.remove_hook(self._end_when_drained)
        self._leases.end(lambda: self.connection.close(self._loop.stop))
