"""What a run that is a hand-out says to its front, each as a message that the broker must confirm.

1. Run 7 is hand-out 3 of task "0197…": its front has named the queue `taskqueue_http_5e0f`.
2. It ends with success: `done` is a report with the result, in place of a result for `results`.
3. Had it failed for good, `failed` would be a report with the error, in place of an error result and a dead letter.
4. Had its listener stopped, `returned` would be a report, in place of a copy for the worker queue.

The queue is never declared here: where it does not exist, the report is dropped. This module must never publish.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from taskqueue.config.settings import GroupSettings
from taskqueue.listener.run import Publish, Run
from taskqueue.protocol import handout_reports
from taskqueue.protocol.dead_letters import DeadReason
from taskqueue.protocol.handout_reports import Returned, Slots, Subject
from taskqueue.protocol.properties import Properties
from taskqueue.protocol.queues import Queue
from taskqueue.protocol.results import Outcome


class Answers:
    """Makes the reports of runs that are hand-outs. `slots()` gives how busy the listener is."""

    def __init__(self, settings: GroupSettings, slots: Callable[[], Slots]) -> None:
        self._worker_type = settings.worker_type
        self._slots = slots
        self._host = socket.gethostname()

    def begun(self, run: Run) -> Publish:
        """It has run for a second."""
        return self._publish(run, handout_reports.begun(self._subject(run)))

    def alive(self, run: Run) -> Publish:
        """It still runs."""
        return self._publish(run, handout_reports.alive(self._subject(run)))

    def returned(self, run: Run, why: Returned) -> Publish:
        """It is not run any more here."""
        return self._publish(run, handout_reports.returned(self._subject(run), why))

    def retrying(self, run: Run, again_ms: int) -> Publish:
        """Its copy leaves the delay ladder at `again_ms`, Unix time in milliseconds."""
        return self._publish(run, handout_reports.retrying(self._subject(run), again_ms))

    def done(self, run: Run, outcome: Outcome) -> Publish:
        """It has succeeded."""
        return self._done(run, outcome)

    def failed(
        self, run: Run, reason: DeadReason, error_type: str, error: str, trace: str, runtime_ms: float
    ) -> Publish:
        """It has failed for good; `runtime_ms` is in milliseconds."""
        outcome = handout_reports.failure(error_type, error, trace, run.attempt, runtime_ms)
        return self._done(run, outcome, reason)

    def _done(self, run: Run, outcome: Outcome, reason: DeadReason | None = None) -> Publish:
        properties = handout_reports.done(self._subject(run), outcome, reason)
        return self._publish(run, properties, outcome.body, outcome.status)

    def _subject(self, run: Run) -> Subject:
        assert run.handout is not None
        return Subject(run.message_id, run.handout, run.crashes, self._host, self._worker_type, self._slots())

    def _publish(self, run: Run, properties: Properties, body: bytes = b"", status: str = "report") -> Publish:
        assert run.handout is not None
        return Publish(Queue(run.handout.reply_to, {}), properties, body, declare=False, status=status)
