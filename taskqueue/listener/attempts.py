"""The rules of attempts: a report, a crash or a time limit ends an attempt, and this module says what follows.

1. Attempt 1 of message "42" ends with an exception, and the group has `max_retries = 1`: it is retried after a delay.
2. Attempt 2 ends with the worker's death, crash 1 of `max_crashes = 3`: it is run again at once, before all that wait.
3. Attempt 3 ends with an exception. Failures are attempts without crashes: no retry is left, so it fails for good.
4. Had attempt 3 succeeded, its result would be published.

The rules are `docs/guarantees.rst`, "What happens when". This module must never touch a worker or a queue itself.
"""

from __future__ import annotations

import logging
from collections import Counter

from taskqueue.config.settings import GroupSettings
from taskqueue.link.assignment import Report
from taskqueue.listener.run import Run
from taskqueue.listener.runs import Runs
from taskqueue.listener.settler import Settler
from taskqueue.protocol.dead_letters import DeadReason
from taskqueue.protocol.handout_reports import Returned

log = logging.getLogger(__name__)

_REASONS = {"reject": DeadReason.REJECTED, "malformed": DeadReason.MALFORMED}
"""Why a workitem is dead, by the outcome of a report that is never retried; any other outcome is a failure."""


class Attempts:
    """Counts attempts and ends them: by `settler`, or by letting the run wait again, first of all `runs`."""

    def __init__(self, settings: GroupSettings, settler: Settler, runs: Runs) -> None:
        self._settings = settings
        self._settler = settler
        self._runs = runs
        self.counts: Counter[str] = Counter(succeeded=0, failed=0, retried=0, crashed=0)

    def reported(self, run: Run, report: Report, body: bytes) -> None:
        """The worker reported how the attempt ended; `body` is the result."""
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
        """The attempt ended its worker, as `detail` says: run it again at once, up to `max_crashes` times in all.

        It is for its front to have a hand-out run again: the count goes with it.
        """
        self.counts["crashed"] += 1
        run.crashes += 1
        if run.crashes >= self._settings.max_crashes:
            self._fail(run, DeadReason.CRASHED, "WorkerCrashed", detail, detail, 0.0)
        elif run.handout is not None:
            self._settler.give_back(run, Returned.CRASHED)
        else:
            run.attempt += 1
            self._runs.wait_first([run])

    def interrupted(self, runs: list[Run]) -> None:
        """Their worker was killed for another run's sake: run them again at once, or have their front do that."""
        for run in runs:
            if run.handout is not None:
                self._settler.hand_back(run, Returned.HANDED_BACK)
        self._runs.wait_first([run for run in runs if run.handout is None])

    def timed_out(self, run: Run) -> None:
        """The worker was killed because the attempt took longer than `time_limit`."""
        limit_s = self._settings.time_limit_s or 0.0
        detail = f"time_limit of {limit_s:g} s is over"
        if self._may_retry(run, "timeout"):
            self._retry(run, "TimeLimitExceeded", None)
        else:
            self._fail(run, DeadReason.TIMEOUT, "TimeLimitExceeded", detail, detail, limit_s * 1000)

    def faulty(self, run: Run) -> None:
        """A delivery whose properties cannot all be read, since a client bypassed the dispatcher, is not run."""
        detail = run.delivery.fault
        self._fail(run, DeadReason.MALFORMED, "MalformedWorkitem", detail, detail, 0.0)

    def _may_retry(self, run: Run, outcome: str) -> bool:
        """The plugin's author asks for a retry with `Retry`: `max_retries` bounds that only where it is set."""
        most = self._settings.max_retries
        if outcome == "retry":
            return most == 0 or run.failures < most
        return outcome not in _REASONS and run.failures < most

    def _retry(self, run: Run, error_type: str, wait_s: float | None) -> None:
        self.counts["retried"] += 1
        log.info(
            "workitem will be retried: group=%s task=%s attempt=%d error_type=%s",
            self._settings.name, run.message_id, run.attempt, error_type,
        )  # fmt: skip
        self._settler.retry(run, wait_s)

    def _fail(self, run: Run, reason: DeadReason, error_type: str, error: str, trace: str, runtime_ms: float) -> None:
        self.counts["failed"] += 1
        self._settler.fail(run, reason, error_type, error, trace, runtime_ms)
