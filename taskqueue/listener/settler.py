"""Publishes the outcome of a run, confirmed, and then settles its delivery: once, last.

1. Run 7 of message "42" succeeded: its result is published to `results`, and the run is PUBLISHING.
2. The broker confirms the result: the delivery is acked, and the run is SETTLED.
3. A failure for good is two messages, an error result and a dead letter; a retry is one, a copy for the delay ladder.
4. The connection was cut at step 1: the outcome is kept. The broker delivers "42" again, `reclaim` publishes the kept
   outcome once more, and the new delivery is acked. The workitem is not run again.
5. The broker refuses a message however often it is published: a smaller one takes its place.
6. A front's hand-out ends as one report to that front, made by `answers`, and as no other message.

This module must never start or stop a worker, and never ack before all of an outcome is confirmed.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial

from taskqueue.amqp import Declarer, Published, Publisher
from taskqueue.config.settings import AmqpSettings, GroupSettings
from taskqueue.foundation.backoff import delay_s
from taskqueue.link.assignment import RESULT_LIMIT
from taskqueue.listener.answers import Answers
from taskqueue.listener.run import Publish, Run, unix_ms
from taskqueue.listener.runs import Runs
from taskqueue.listener.states import RunState
from taskqueue.protocol import queues
from taskqueue.protocol.dead_letters import DeadReason, dead_letter, reduced
from taskqueue.protocol.delays import next_step
from taskqueue.protocol.handout_reports import Returned, failure_body
from taskqueue.protocol.properties import handed_back
from taskqueue.protocol.results import Outcome, error_body, result

log = logging.getLogger(__name__)


class Settler:
    """Ends `runs`; `on_lease_settled()` is called after the delivery of a leased run was settled."""

    def __init__(
        self,
        settings: GroupSettings,
        amqp: AmqpSettings,
        results_ttl_s: float,
        declarer: Declarer,
        publisher: Publisher,
        runs: Runs,
        on_lease_settled: Callable[[], None],
        answers: Answers,
    ) -> None:
        self._settings = settings
        self._results_ttl_s = results_ttl_s
        self._declarer = declarer
        self._publisher = publisher
        self._runs = runs
        self._on_lease_settled = on_lease_settled
        self._answers = answers
        self._queue = queues.worker(settings.worker_type, amqp)
        self._host = socket.gethostname()

    # -- how a run can end

    def success(self, run: Run, content_type: str, body: bytes, runtime_ms: float) -> None:
        """Publish the result of `run`, which took `runtime_ms` milliseconds."""
        self._publish(run, self._result(run, Outcome("success", body, content_type, run.attempt, runtime_ms)))

    def retry(self, run: Run, wait_s: float | None) -> None:
        """Publish a copy that is run again in `wait_s` seconds, or after `retry_delay` where that is None."""
        settings = self._settings
        if wait_s is None:
            wait_s = delay_s(run.failures + 1, first_s=settings.retry_delay_s, longest_s=settings.retry_max_delay_s)
        onward = handed_back(run.properties, run.attempt, run.crashes)
        wait_ms = round(wait_s * 1000)
        due_ms = unix_ms() + wait_ms
        queue, delayed = next_step(onward, self._queue, wait_ms, due_ms)
        copy = Publish(queue, delayed, run.delivery.body)
        self._publish(run, [copy] if run.handout is None else [copy, self._answers.retrying(run, due_ms)])

    def hand_back(self, run: Run, why: Returned = Returned.HANDED_BACK) -> None:
        """Publish a copy for any host that is free, as if `run` had never been delivered; give back a hand-out.

        A copy, since a requeue would count towards the delivery limit. A plugin's own retry is copied as a hand-out,
        too: from its front it would come back without the attempts before it, and `max_retries` would not bound them.
        """
        if run.handout is not None and run.attempt == 1:
            self.give_back(run, why)
            return
        onward = handed_back(run.properties, run.attempt - 1, run.crashes)
        copy = Publish(self._queue, onward, run.delivery.body)
        self._publish(run, [copy] if run.handout is None else [copy, self._answers.retrying(run, unix_ms())])

    def give_back(self, run: Run, why: Returned) -> None:
        """Tell the front of `run`, a hand-out, that it is not run to its end here, and `why`."""
        log.debug("hand-out given back: group=%s task=%s why=%s", self._settings.name, run.message_id, why.value)
        self._publish(run, [self._answers.returned(run, why)])

    def fail(self, run: Run, reason: DeadReason, error_type: str, error: str, trace: str, runtime_ms: float) -> None:
        """Publish an error result and a dead letter; `runtime_ms` is in milliseconds."""
        log.warning(
            "workitem failed for good: group=%s task=%s reason=%s attempt=%d error_type=%s",
            self._settings.name, run.message_id, reason.value, run.attempt, error_type,
        )  # fmt: skip
        if run.handout is not None:
            self._publish(run, [self._answers.failed(run, reason, error_type, error, trace, runtime_ms)])
            return
        body = run.delivery.body
        described = error_body(body, run.properties.content_type, error, trace)
        if len(described) > RESULT_LIMIT:  # a workitem near the limit is longer as a JSON string
            described = error_body(b"", None, error, trace)
        outcome = Outcome("error", described, "application/json", run.attempt, runtime_ms, error_type)
        dead = dead_letter(
            handed_back(run.properties, run.attempt, run.crashes), reason, trace or error,
            queue=self._queue.name, at_s=time.time(), host=self._host,
        )  # fmt: skip
        self._publish(run, [*self._result(run, outcome), Publish(queues.dead(), dead, body)])

    # -- lost deliveries

    def lost(self, run: Run, *, answers_lost: bool) -> None:
        """The broker has the delivery of `run` back, while a worker had the run or its outcome was published: keep it.

        `answers_lost`: the publishing channel was closed too, so nobody knows whether the outcome is in its queues.
        """
        if answers_lost and run.life.state is RunState.PUBLISHING:
            run.life.move(RunState.KEPT)
        self._runs.keep(run)

    def reclaim(self, run: Run) -> bool:
        """`run` was delivered: whether it is the redelivery of a kept run, which then goes on in its place."""
        known = self._runs.reclaim(run)
        if known is None:
            return False
        log.info("redelivery of known work, not run again: task=%s state=%s", known.message_id, known.life.state.value)
        if known.life.state is RunState.KEPT:
            self._publish(known, known.outcome)
        return True

    # -- publish, then settle

    def _result(self, run: Run, outcome: Outcome) -> list[Publish]:
        settings = self._settings
        if run.handout is not None:
            return [self._answers.done(run, outcome)]
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
            self._runs.keep(run)
            return
        if run.life.state is not RunState.PUBLISHING:
            run.life.move(RunState.PUBLISHING)
        run.unanswered = len(run.outcome)
        for publish in run.outcome:
            self._send(run, run.outcome, publish)
        if not run.outcome:
            self._settle(run)

    def _send(self, run: Run, outcome: tuple[Publish, ...], publish: Publish) -> None:
        done = partial(self._answered, run, outcome, publish)
        self._publisher.publish(publish.queue.name, publish.properties, publish.body, done)

    def _answered(self, run: Run, outcome: tuple[Publish, ...], publish: Publish, published: Published) -> None:
        if outcome is not run.outcome:
            return  # another message of the outcome was refused: another outcome has taken its place
        if published is Published.UNROUTABLE and publish.declare:
            self._declarer.forget(publish.queue.name)
            self._declarer.declare(publish.queue, partial(self._send, run, outcome, publish))
            return
        if run.life.state is not RunState.PUBLISHING:
            return  # another message of the outcome was lost: the whole outcome waits for the redelivery
        if published is Published.LOST:
            run.life.move(RunState.KEPT)
            self._runs.keep(run)
            return
        if published is Published.REFUSED:
            self._refused(run, publish, self._publisher.refusal)
            return
        if published is Published.UNROUTABLE:
            log.warning("result dropped: task=%s reply_to=%s reason=no such queue", run.message_id, publish.queue.name)
        self._confirmed(run)

    def _confirmed(self, run: Run) -> None:
        run.unanswered -= 1
        if run.unanswered == 0:
            run.outcome = ()
            self._settle(run)

    def _refused(self, run: Run, publish: Publish, why: str) -> None:
        """The broker refuses a message of an outcome and always will: publish another message in its place."""
        refusal = f"the error result was refused: {why}"
        small = error_body(b"", None, refusal, "") if run.handout is None else failure_body(refusal, "")
        if publish.queue.name == queues.DEAD:
            bare = reduced(publish.properties)
            if bare != publish.properties:
                self._send(run, run.outcome, publish._replace(properties=bare))
                return
            log.error("dead letter not taken, workitem left in its queue: task=%s reason=%s", run.message_id, why)
            run.life.move(RunState.KEPT)  # until an operator has raised the broker's limits
        elif publish.status == "success":
            self.fail(run, DeadReason.FAILED, "ResultRefused", f"the result was refused: {why}", "", 0.0)
        elif not publish.status:
            self.fail(run, DeadReason.REJECTED, "WorkitemRefused", f"it cannot be sent on: {why}", "", 0.0)
        elif publish.status == "error" and publish.body != small:
            self._send(run, run.outcome, publish._replace(body=small))
        else:
            log.warning("result dropped: task=%s queue=%s reason=%s", run.message_id, publish.queue.name, why)
            self._confirmed(run)

    def _settle(self, run: Run) -> None:
        if run.delivery.settle():
            run.life.move(RunState.SETTLED)
            self._runs.in_hand.pop(run.number, None)
            if run.leased:
                self._on_lease_settled()
        else:
            run.life.move(RunState.KEPT)
            self._runs.keep(run)
