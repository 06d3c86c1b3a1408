"""The rules of attempts: what becomes of a workitem whose attempt ended, by a report, a crash or a time limit.

Pure policy over a `Settler`; it must never touch a worker or a queue itself. The rules are section 7 of the design.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from taskqueue.config.settings import GroupSettings
from taskqueue.link.assignment import Report
from taskqueue.listener.run import Run
from taskqueue.listener.settler import Settler
from taskqueue.protocol.dead_letters import DeadReason

log = logging.getLogger(__name__)

_REASONS = {"reject": DeadReason.REJECTED, "malformed": DeadReason.MALFORMED}
"""Of a report that ends a workitem at once; any other has failed."""


class Attempts:
    """Counts attempts and ends them. `again(run)` is to have a run handed out once more, first of all that waits."""

    def __init__(self, settings: GroupSettings, settler: Settler, again: Callable[[Run], None]) -> None:
        self._settings = settings
        self._settler = settler
        self._again = again
        self.counts: Counter[str] = Counter(succeeded=0, failed=0, retried=0, crashed=0)

    def reported(self, run: Run, report: Report, body: bytes) -> None:
        """Its worker has said how it went."""
        run.started = None
        if report.outcome == "success":
            self.counts["succeeded"] += 1
            self._settler.success(run, report.content_type, body, report.runtime_ms)
        elif report.outcome == "memory":
            detail = f"out of memory: max_memory is {self._settings.max_memory_bytes} bytes"
            self.crashed(run, f"{detail}\n{report.trace}")
        elif self._may_retry(run, report.outcome):
            self._retry(run, report.error_type, report.delay_s)
        else:
            reason = _REASONS.get(report.outcome, DeadReason.FAILED)
            self._fail(run, reason, report.error_type, report.error, report.trace, report.runtime_ms)

    def crashed(self, run: Run, detail: str) -> None:
        """It ended its worker: run it again at once, up to `max_crashes` times in all."""
        self.counts["crashed"] += 1
        run.crashes += 1
        if run.crashes >= self._settings.max_crashes:
            self._fail(run, DeadReason.CRASHED, "WorkerCrashed", detail, detail, 0.0)
        else:
            run.attempt += 1
            self._again(run)

    def timed_out(self, run: Run) -> None:
        """Its worker was killed for it, `time_limit` being over."""
        limit_s = self._settings.time_limit_s or 0.0
        detail = f"time_limit of {limit_s:g} s is over"
        if self._may_retry(run, "timeout"):
            self._retry(run, "TimeLimitExceeded", None)
        else:
            self._fail(run, DeadReason.TIMEOUT, "TimeLimitExceeded", detail, detail, limit_s * 1000)

    def faulty(self, run: Run) -> None:
        """Not all of its properties can be read: it was sent past the dispatcher, and is not run."""
        detail = run.delivery.fault
        self._fail(run, DeadReason.MALFORMED, "MalformedWorkitem", detail, detail, 0.0)

    def _may_retry(self, run: Run, outcome: str) -> bool:
        """`Retry` is the author's word: `max_retries` bounds it only where the operator has set it."""
        most = self._settings.max_retries
        if outcome == "retry":
            return most == 0 or run.failures < most
        return outcome not in _REASONS and run.failures < most

    def _retry(self, run: Run, error_type: str, wait_s: float | None) -> None:
        self.counts["retried"] += 1
        log.info(
            "workitem to be run again: group=%s task=%s attempt=%d error_type=%s",
            self._settings.name, run.message_id, run.attempt, error_type,
        )  # fmt: skip
        self._settler.retry(run, wait_s)

    def _fail(self, run: Run, reason: DeadReason, error_type: str, error: str, trace: str, runtime_ms: float) -> None:
        self.counts["failed"] += 1
        self._settler.fail(run, reason, error_type, error, trace, runtime_ms)
