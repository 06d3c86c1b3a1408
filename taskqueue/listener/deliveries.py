"""The way of a delivery through the listener: from the consumer to a worker, and from its report to the settler.

1. The consumer delivers message "42": `arrived` begins run 7, which waits behind all others.
2. `hand_out`: the scheduler assigns run 7 to a worker that is free, or soon will be.
3. The worker sends its report: `reported` has `attempts` decide what follows. Success: the settler publishes the
   result, and acks the delivery when the broker has confirmed it.
4. While it runs: after `time_limit` the worker is killed; after 20 s the delivery is leased; what waits behind it for
   1 s goes to other workers or other hosts.
5. The worker dies: `worker_gone` has `deaths` judge which run is to blame; the others wait again.
6. It is a front's hand-out: `handouts` gives it back where it may not begin, and tells the front while it runs.
7. The channel is closed: `lost` drops the runs that wait, since the broker delivers them again. Runs that have begun
   go on, and are settled with the redelivery.

All parts share one `Runs`. Steps 1 to 3 happen thousands of times in a second: nothing else may be done there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from taskqueue.amqp import Connection, Consumer, Declarer, Delivery, Publisher
from taskqueue.config.settings import AmqpSettings, GroupSettings
from taskqueue.foundation.loop import Loop
from taskqueue.link import orders
from taskqueue.link.assignment import Report
from taskqueue.listener.answers import Answers
from taskqueue.listener.attempts import Attempts
from taskqueue.listener.deaths import TIME_LIMIT, Deaths
from taskqueue.listener.handouts import HandOuts
from taskqueue.listener.hoarding import Hoarding
from taskqueue.listener.leases import Leases
from taskqueue.listener.peers import Peers
from taskqueue.listener.prefetch import Prefetch
from taskqueue.listener.run import Run, begin, unix_ms
from taskqueue.listener.runs import Runs
from taskqueue.listener.settler import Settler
from taskqueue.listener.time_limit import TimeLimit
from taskqueue.listener.worker_process import Worker
from taskqueue.listener.workers import Workers
from taskqueue.protocol import queues
from taskqueue.protocol.handout_reports import Returned, Slots

log = logging.getLogger(__name__)


class Deliveries:
    """The deliveries of one listener, and the parts that they pass."""

    def __init__(
        self,
        loop: Loop,
        settings: GroupSettings,
        amqp: AmqpSettings,
        results_ttl_s: float,
        connection: Connection,
        declarer: Declarer,
        publisher: Publisher,
        peers: Peers,
        now_ms: Callable[[], int] = unix_ms,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._peers = peers
        self._draining = False
        self._handing_out = True
        self._serves = False
        self.runs = runs = Runs()
        self.workers = Workers(
            loop, settings, peers, on_ready=self._worker_ready, on_report=self.reported, on_unread=runs.wait_first
        )
        self._scheduler = self.workers.scheduler
        queue = queues.worker(settings.worker_type, amqp)
        self._consumer = Consumer(connection, declarer, queue, 1, self.arrived, self.lost)
        self._prefetch = Prefetch(loop, settings, self._consumer, runs, self.workers)
        answers = Answers(settings, self._slots)
        self._settler = Settler(settings, amqp, results_ttl_s, declarer, publisher, runs, self._prefetch.apply, answers)
        self._handouts = HandOuts(loop, connection, publisher, runs, self._settler, answers, now_ms)
        self._attempts = Attempts(settings, self._settler, runs)
        self._deaths = Deaths(settings, runs, self._attempts, self.workers, peers)
        self._limit = TimeLimit(loop, settings.time_limit_s, self.workers, self._kill_overdue)
        self._hoarding = Hoarding(
            loop, settings, connection, runs, self._scheduler, self._prefetch, self._settler, self.hand_out
        )
        self.leases = Leases(
            connection,
            declarer,
            publisher,
            settings.worker_type,
            amqp,
            runs,
            on_leased=self._prefetch.apply,
            on_unknown=self.arrived,
            on_lost=self.lost,
        )

    # -- from the broker

    def arrived(self, delivery: Delivery) -> None:
        """A workitem was delivered: run it, or settle it with the outcome that is kept for it."""
        run = begin(delivery)
        runs = self.runs
        if runs.kept and self._settler.reclaim(run):
            self._prefetch.apply()
            return
        runs.in_hand[run.number] = run
        if delivery.fault:
            self._attempts.faulty(run)
        elif run.handout is not None and self._handouts.refuses(run):
            pass  # its front has it back
        elif self._draining:
            self._settler.hand_back(run, Returned.STOPPED)
        else:
            runs.waiting.append(run)
            self.leases.watch()
            self.hand_out()

    def lost(self) -> None:
        """A channel was closed: the broker has back all that was not settled on it."""
        answers_lost = not self._connection.is_up
        self.runs.wait_first(self._scheduler.recall_all())
        for run in self.runs.drop_lost():
            self._settler.lost(run, answers_lost=answers_lost)
        self._prefetch.apply()

    # -- to the workers and back

    def hand_out(self) -> None:
        """Assign what waits; where nothing does, a free worker gets what is queued ahead to another."""
        if self._connection.blocked or not self._handing_out:
            return
        waiting = self.runs.waiting
        if not waiting:
            waiting.extend(self._scheduler.rebalance())
        handouts = self._handouts
        while waiting and (
            (waiting[0].handout is not None and handouts.is_over(waiting[0])) or self._scheduler.assign(waiting[0])
        ):
            waiting.popleft()
        self._limit.watch()
        if self.runs.in_hand:
            self._hoarding.watch()

    def reported(self, run: Run, report: Report, body: bytes) -> None:
        """A worker has reported `run`; `body` is the result."""
        self._attempts.reported(run, report, body)
        self._prefetch.adapt(self._scheduler.mean_s, self._scheduler.reported_at)
        self.hand_out()

    def worker_gone(self, pid: int, exit_code: int, why: str | None) -> None:
        """The template has reaped a worker: see `WorkerGone`."""
        death = self.workers.gone(pid, exit_code, why)
        if death is not None:
            self._deaths.judge(death, ordered=not self._handing_out)
            self._prefetch.apply()
            self.hand_out()

    def _slots(self) -> Slots:
        """What fronts are told: a listener that drains takes nothing more, and what waits gets the next free slots."""
        if self._draining:
            return Slots(0, 0)
        slots, free = self.workers.slots()
        return Slots(slots, max(0, free - len(self.runs.waiting)))

    def _worker_ready(self) -> None:
        if self._draining:
            return
        self._prefetch.apply()
        if not self._serves and self.workers.ready >= self._settings.workers:
            self._serves = True
            self._peers.to_pool(orders.Ready())
        self.hand_out()

    def _kill_overdue(self, worker: Worker) -> None:
        log.warning("time limit: group=%s pid=%d; killing the worker", self._settings.name, worker.pid)
        self._peers.to_template(orders.KillWorker(worker.pid, TIME_LIMIT))

    # -- the end

    def drain(self) -> None:
        """Consume nothing more and hand back what waits; workers finish the runs that they have."""
        if not self._draining:
            self._draining = True
            self._consumer.cancel(self.hand_back_all)
            self._hoarding.end()

    def stop_handing_out(self) -> None:
        """Assign nothing more: the workers are killed, and their runs wait to be handed back."""
        self._handing_out = False

    def template_died(self) -> None:
        """All workers died with their template. The runs that they had read stay unsettled: the broker requeues and
        counts them, and its delivery limit of 20 bounds a workitem that kills its template. The rest waits."""
        for death in self.workers.all_gone():
            self.runs.waiting.extend(death.unread)

    def hand_back_all(self) -> None:
        """Hand back what waits, to be run by any host."""
        self._hoarding.hand_back_all(Returned.STOPPED)

    # -- for the status document

    def status(self) -> dict[str, Any]:
        """The group's part of the status document, without the broker."""
        return {
            "consuming": self._consumer.consuming,
            "prefetch": self._prefetch.wanted,
            "waiting": len(self.runs.waiting) + self._scheduler.ahead,
            "counts": {**self._attempts.counts, "restarts": self._deaths.count},
            "workers": self.workers.describe(),
        }
