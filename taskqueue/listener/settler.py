"""Publishes what a run led to, confirmed, and then settles its delivery: once, last.

Owns results, retries through the delay ladder, dead letters, copies that are handed back, and the outcomes that are
kept because their delivery was lost with the connection: those settle the redelivery, so that finished work is not
run again here. It must never start or stop a worker.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from taskqueue.amqp import Declarer, Published, Publisher
from taskqueue.config.settings import AmqpSettings, GroupSettings
from taskqueue.foundation.backoff import delay_s
from taskqueue.link.assignment import RESULT_LIMIT
from taskqueue.listener.run import Publish, Run
from taskqueue.listener.states import RunState
from taskqueue.protocol import queues
from taskqueue.protocol.dead_letters import DeadReason, dead_letter, reduced
from taskqueue.protocol.delays import next_step
from taskqueue.protocol.properties import handed_back
from taskqueue.protocol.results import Outcome, error_body, result

log = logging.getLogger(__name__)

_KEPT_LIMIT = 10_000
_KEPT_S = 3600.0
"""So many outcomes are kept, for so long, for a redelivery to this host; another host may have got it instead."""


class _Kept(NamedTuple):
    run: Run
    since: float


class Settler:
    """Ends runs. `on_done(run)` is called when the broker has all that a run led to, or it is given up as another's."""

    def __init__(
        self,
        settings: GroupSettings,
        amqp: AmqpSettings,
        results_ttl_s: float,
        declarer: Declarer,
        publisher: Publisher,
        on_done: Callable[[Run], None],
    ) -> None:
        self._settings = settings
        self._results_ttl_s = results_ttl_s
        self._declarer = declarer
        self._publisher = publisher
        self._on_done = on_done
        self._queue = queues.worker(settings.worker_type, amqp)
        self._host = socket.gethostname()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    # -- how a run can end

    def success(self, run: Run, content_type: str, body: bytes, runtime_ms: float) -> None:
        """Publish its result."""
        self._publish(run, self._result(run, Outcome("success", body, content_type, run.attempt, runtime_ms)))

    def retry(self, run: Run, wait_s: float | None) -> None:
        """Have it run again in `wait_s` seconds, or by the group's `retry_delay`."""
        settings = self._settings
        if wait_s is None:
            wait_s = delay_s(run.failures + 1, first_s=settings.retry_delay_s, longest_s=settings.retry_max_delay_s)
        onward = handed_back(run.properties, run.attempt, run.crashes)
        wait_ms = round(wait_s * 1000)
        queue, delayed = next_step(onward, self._queue, wait_ms, round(time.time() * 1000) + wait_ms)
        self._publish(run, [Publish(queue, delayed, run.delivery.body)])

    def hand_back(self, run: Run) -> None:
        """Give it to whoever is free, as if it had not been delivered: a copy, which counts towards no limit."""
        onward = handed_back(run.properties, run.attempt - 1, run.crashes)
        self._publish(run, [Publish(self._queue, onward, run.delivery.body)])

    def fail(self, run: Run, reason: DeadReason, error_type: str, error: str, trace: str, runtime_ms: float) -> None:
        """Publish an error result and a dead letter."""
        log.warning(
            "workitem failed for good: group=%s task=%s reason=%s attempt=%d error_type=%s",
            self._settings.name, run.message_id, reason.value, run.attempt, error_type,
        )  # fmt: skip
        body = run.delivery.body
        described = error_body(body, run.properties.content_type, error, trace)
        if len(described) > RESULT_LIMIT:  # a workitem near the limit, and longer as a JSON string
            described = error_body(b"", None, error, trace)
        outcome = Outcome("error", described, "application/json", run.attempt, runtime_ms, error_type)
        dead = dead_letter(
            handed_back(run.properties, run.attempt, run.crashes), reason, trace or error,
            queue=self._queue.name, at_s=time.time(), host=self._host,
        )  # fmt: skip
        self._publish(run, [*self._result(run, outcome), Publish(queues.dead(), dead, body)])

    # -- redeliveries

    def lost(self, run: Run, *, answers_lost: bool) -> None:
        """The delivery of `run` went back to the broker with its channel, while it was run or its outcome published.

        `answers_lost`: so did the publishing channel; what was published is not known to be in its queue.
        """
        if answers_lost and run.life.state is RunState.PUBLISHING:
            run.life.move(RunState.KEPT)
        self._keep(run)

    def forget(self, run: Run) -> None:
        """Its redelivery, if it comes to us, is a new run."""
        self._kept.pop(run.message_id, None)

    def reclaim(self, run: Run) -> Run | None:
        """`run` was delivered: if it is the redelivery of one that we know, that one goes on with the new delivery.

        Gives the known run, or None.
        """
        if run.message_id not in self._kept:
            return None
        known = self._kept.pop(run.message_id).run
        known.delivery = run.delivery
        known.delivered = run.delivered
        log.info("redelivery of known work, not run again: task=%s state=%s", known.message_id, known.life.state.value)
        if known.life.state is RunState.KEPT:
            self._publish(known, known.outcome)
        return known

    def _keep(self, run: Run) -> None:
        now = time.monotonic()
        self._kept[run.message_id] = _Kept(run, now)
        while self._kept:
            oldest = next(iter(self._kept.values()))
            if len(self._kept) <= _KEPT_LIMIT and now - oldest.since < _KEPT_S:
                break
            del self._kept[oldest.run.message_id]
            self._on_done(oldest.run)

    # -- publish, then settle

    def _result(self, run: Run, outcome: Outcome) -> list[Publish]:
        settings = self._settings
        if not settings.report_results:
            return []
        properties = result(
            run.properties, outcome, worker_type=settings.worker_type, host=self._host, ttl_s=self._results_ttl_s
        )
        reply_to = run.properties.reply_to
        if reply_to and reply_to.startswith(queues.DIRECT_REPLY_PREFIX):
            log.warning("result dropped: task=%s reply_to=%s reason=not a queue", run.message_id, reply_to)
            return []
        queue = queues.results(reply_to or settings.results_routing_key)
        return [Publish(queue, properties, outcome.body, declare=not reply_to, status=outcome.status)]

    def _publish(self, run: Run, outcome: Sequence[Publish]) -> None:
        run.outcome = tuple(outcome)
        if not run.delivery.held:
            if run.life.state is not RunState.KEPT:
                run.life.move(RunState.KEPT)
            self._keep(run)
            return
        if run.life.state is not RunState.PUBLISHING:
            run.life.move(RunState.PUBLISHING)
        run.unanswered = len(run.outcome)
        for publish in run.outcome:
            self._send(run, publish)
        if not run.outcome:
            self._settle(run)

    def _send(self, run: Run, publish: Publish) -> None:
        done = partial(self._answered, run, publish)
        self._publisher.publish(publish.queue.name, publish.properties, publish.body, done)

    def _answered(self, run: Run, publish: Publish, published: Published) -> None:
        if published is Published.UNROUTABLE and publish.declare:
            self._declarer.forget(publish.queue.name)
            self._declarer.declare(publish.queue, partial(self._send, run, publish))
            return
        if run.life.state is not RunState.PUBLISHING:
            return  # another part of its outcome was lost: all of it waits for the redelivery
        if published is Published.LOST:
            run.life.move(RunState.KEPT)
            self._keep(run)
            return
        if published is Published.REFUSED:
            self._refused(run, publish, self._publisher.refusal)
            return
        if published is Published.UNROUTABLE:
            log.warning("result dropped: task=%s reply_to=%s reason=no such queue", run.message_id, publish.queue.name)
        self._counted(run)

    def _counted(self, run: Run) -> None:
        run.unanswered -= 1
        if run.unanswered == 0:
            run.outcome = ()
            self._settle(run)

    def _refused(self, run: Run, publish: Publish, why: str) -> None:
        """The broker will not have a part of an outcome, however often: publish another in its place."""
        small = error_body(b"", None, f"the error result was refused: {why}", "")
        if publish.queue.name == queues.DEAD:
            bare = reduced(publish.properties)
            if bare != publish.properties:
                self._send(run, publish._replace(properties=bare))
                return
            log.error("dead letter not taken, workitem left in its queue: task=%s reason=%s", run.message_id, why)
            run.life.move(RunState.KEPT)  # for its redelivery, when a person has seen to the broker's limits
        elif publish.status == "success":
            self.fail(run, DeadReason.FAILED, "ResultRefused", f"the result was refused: {why}", "", 0.0)
        elif not publish.status:
            self.fail(run, DeadReason.REJECTED, "WorkitemRefused", f"it cannot be sent on: {why}", "", 0.0)
        elif publish.body != small:
            self._send(run, publish._replace(body=small))
        else:
            log.warning("result dropped: task=%s queue=%s reason=%s", run.message_id, publish.queue.name, why)
            self._counted(run)

    def _settle(self, run: Run) -> None:
        if run.delivery.settle():
            run.life.move(RunState.SETTLED)
            self._on_done(run)
        else:
            run.life.move(RunState.KEPT)
            self._keep(run)
