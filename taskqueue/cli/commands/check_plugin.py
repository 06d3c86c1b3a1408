"""`taskqueue check-plugin`: puts a plugin through payloads, limits and signals, and reports what it survived.

Each check is real: worker processes as a pool has them, real signals, real deadlines. Only the broker is left out.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from taskqueue.cli.arguments import group_names, workitem_body
from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.findings import show_findings
from taskqueue.cli.trial.trial import Trial, TrialOutcome, Workitem
from taskqueue.config.settings import GroupSettings
from taskqueue.errors import PluginError
from taskqueue.host import kernel
from taskqueue.link.assignment import Report
from taskqueue.link.exits import EXITS
from taskqueue.operations.findings import Finding, ok, problem, warning
from taskqueue.operations.wording import last_line
from taskqueue.plugins import Plugin
from taskqueue.workitem import BYTES, JSON, TEXT

_STDERR = 2
_IDEMPOTENT = "make the work idempotent: self.task.id is the same for all runs of a workitem"
_PATIENCE_S = 60.0
"""Seconds for a bad payload where the group has no `time_limit`; a plugin that needs more is reported as hanging."""
_TRIES = 20
"""Tries to interrupt a handler in the middle; one that is done before the signal each time is reported as not tried."""
_SHORTEST_S = 0.02
"""Seconds; a faster handler is done before any time limit, which is 10 ms at least, and the limit is not tried."""

BAD = {
    "an empty text": (b"", TEXT),
    "text that means nothing": (b"\xef\xbf\xbd\x7f ) \\ ' \" <>&;$(x) %s {0} \x00", TEXT),
    "a text of 1 MiB": (b"x" * (1 << 20), TEXT),
    "JSON null": (b"null", JSON),
    "an empty JSON object": (b"{}", JSON),
    "JSON of other types": (b'[[], {"worker_type": 1, "fields": null}, 1e308, -0, "\\ud800"]', JSON),
    "no JSON": (b'{"a": ', JSON),
    "bytes": (bytes(range(256)), BYTES),
}
"""Payloads that no plugin asks for, and that any client can send."""


@click.command("check-plugin", short_help="Put a plugin through what it will meet.")
@operator_command()
@click.argument("name", metavar="TYPE", shell_complete=group_names.complete)
@workitem_body.body_options
@click.option("-v", "--verbose", is_flag=True, help="Show what the plugin prints and logs.")
def command(operator: Operator, name: str, body: str | None, kind: str | None, path: Path | None, verbose: bool) -> int:
    """Put the plugin of TYPE, an installed worker type or a group (worker2/bifh1), through bad payloads, a duplicate,
    its time limits, SIGTERM and SIGKILL in the middle each with a second run, and its end; say what it survived.

    BODY is a workitem that it can run, - for standard input; by default an empty text. It is run some dozen times, as
    the group's user, with no broker: use one that does no harm. Best is one that takes some tenths of a second, so
    that it can be met in the middle. Exit status 1 where there is a problem.
    """
    content, content_type = workitem_body.given(body, kind, path)
    group, plugin = group_names.choose_one(operator, name)
    examination = _Examination(
        group,
        plugin,
        Workitem(content, content_type, "check-plugin"),
        operator.host_settings.workerpool.stop_timeout_s,
        _STDERR if verbose else subprocess.DEVNULL,
    )
    return show_findings(operator.show, examination.findings())


@dataclass(slots=True)
class _Examination:
    """All checks of one plugin, in order. `good` is a workitem that the plugin should be able to run."""

    group: GroupSettings
    plugin: Plugin
    good: Workitem
    stop_timeout_s: float
    output: int
    runtime_s: float = 0.0
    result: bytes = b""

    def findings(self) -> Iterator[Finding]:
        """Run them."""
        try:
            with self._worker() as worker:
                yield from self._start(worker)
                good = yield from self._workitem(worker)
            with self._worker() as worker:
                self._ready(worker)
                yield from self._bad_payloads(worker)
            if not good:
                return
            with self._worker() as worker:
                self._ready(worker)
                yield from self._duplicate(worker)
                yield from self._end(worker)
            yield from self._time_limits()
            for number in (signal.SIGTERM, signal.SIGKILL):
                yield from self._signal(number)
        except PluginError as error:
            yield problem("start", last_line(str(error)), f"taskqueue plugins {self.group.name} shows where")

    def _worker(self, **settings: Any) -> Trial:
        return Trial(replace(self.group, **settings), self.plugin, output=self.output)

    def _ready(self, worker: Trial) -> None:
        worker.imported()
        worker.ready()

    # -- with one worker

    def _start(self, worker: Trial) -> Iterator[Finding]:
        started = time.monotonic()
        self._ready(worker)
        yield ok("start", f"imported and set up in {time.monotonic() - started:.2f} s")

    def _workitem(self, worker: Trial) -> Generator[Finding, None, bool]:
        """Run the good workitem; returns whether the plugin could."""
        outcome = worker.run(self.good)
        if outcome.report is None or outcome.report.outcome != "success":
            yield problem(
                "workitem", f"{_described(outcome)}; what needs a good one was not tried", "give a BODY that it can run"
            )
            return False
        self.runtime_s, self.result = outcome.report.runtime_ms / 1000, outcome.body
        limit_s = self.group.time_limit_s
        found = f"done in {self.runtime_s * 1000:.1f} ms"
        if limit_s is not None and self.runtime_s > limit_s / 2:
            yield warning("workitem", f"{found}, of time_limit {limit_s:g} s", "raise time_limit: hosts may be slower")
        else:
            yield ok("workitem", found)
        return True

    def _bad_payloads(self, worker: Trial) -> Iterator[Finding]:
        refused = 0
        for what, (content, content_type) in BAD.items():
            worker.give(Workitem(content, content_type, "check-plugin-bad"))
            outcome = worker.outcome(self.group.time_limit_s or _PATIENCE_S)
            if outcome.report is None:
                yield problem(
                    "bad payload", f"{what}: {_described(outcome)}",
                    "let handle_task raise: an exception costs this workitem, a death costs the worker",
                )  # fmt: skip
                return
            refused += outcome.report.outcome != "success"
        yield ok("bad payload", f"survived {len(BAD)}: {refused} failed, {len(BAD) - refused} done")

    def _duplicate(self, worker: Trial) -> Iterator[Finding]:
        """A workitem that was done already, because its settling was lost: at-least-once."""
        worker.run(self.good)
        yield self._again("duplicate", "the same again", worker.run(self.good))

    def _again(self, check: str, found: str, outcome: TrialOutcome) -> Finding:
        """A second run must end as the first did."""
        if outcome.report is None or outcome.report.outcome != "success":
            return problem(check, f"{found}; the second run: {_described(outcome)}", _IDEMPOTENT)
        if outcome.body != self.result:
            return warning(check, f"{found}; the second run gave another result", f"where that matters, {_IDEMPOTENT}")
        return ok(check, f"{found}; the second run gave the same result")

    def _end(self, worker: Trial) -> Iterator[Finding]:
        status = worker.leave(self.stop_timeout_s)
        if status is None:
            yield warning("end", f"still there {self.stop_timeout_s:g} s after its last workitem", "look at teardown")
        elif status:
            yield warning("end", f"ended with {kernel.exit_text(status)}{EXITS.get(status, '')}", "look at teardown")
        else:
            yield ok("end", "torn down in good order")

    # -- each with a worker of its own

    def _time_limits(self) -> Iterator[Finding]:
        if self.group.time_limit_s is None:
            yield warning(
                "time limit", "no time_limit: a workitem that hangs keeps its worker for ever",
                f"[{self.group.worker_type}] time_limit: a duration that no good workitem needs",
            )  # fmt: skip
        if self.runtime_s < _SHORTEST_S:
            yield ok("time limit", f"not tried: done in {self.runtime_s * 1000:.1f} ms; give a BODY that takes longer")
            return
        limit_s = self.runtime_s / 2
        with self._worker(soft_time_limit_s=limit_s, time_limit_s=None) as worker:
            self._ready(worker)
            worker.give(self.good)
            outcome = worker.outcome(limit_s + max(self.runtime_s, self.stop_timeout_s))
        in_time = f"soft_time_limit after {limit_s * 1000:.0f} ms"
        if outcome.report is None:
            yield warning(
                "time limit", f"{in_time}: {_described(outcome)}",
                "only time_limit, a SIGKILL, will end it: let SoftTimeLimitExceeded pass, hold the interpreter less",
            )  # fmt: skip
        elif outcome.report.outcome == "success":
            yield ok("time limit", f"{in_time}: it returned a result all the same")
        else:
            with self._worker() as worker:
                self._ready(worker)
                yield self._again(
                    "time limit", f"{in_time}: {_described(outcome)}", worker.run(self.good._replace(attempt=2))
                )

    def _signal(self, number: signal.Signals) -> Iterator[Finding]:
        """Signal a worker in the middle of the workitem; then a second run by another worker, as after a crash."""
        name = number.name
        with self._worker() as worker:
            self._ready(worker)
            early = self._meet(worker)
            if early is not None:
                yield self._not_met(name, early)
                return
            worker.signal(number)
            outcome = worker.outcome(self.stop_timeout_s)
        if outcome.report is None and outcome.exit_code is None:
            yield warning(
                name, f"neither ended nor done {self.stop_timeout_s:g} s later", "whoever stops it has to use SIGKILL"
            )
            return
        with self._worker() as worker:
            self._ready(worker)
            found = "finished all the same" if outcome.report is not None else f"{_described(outcome)} in the middle"
            yield self._again(name, found, worker.run(self.good._replace(attempt=2)))

    def _meet(self, worker: Trial) -> TrialOutcome | None:
        """Have the worker run the workitem for half of its runtime: None where it still runs, else its end."""
        outcome = TrialOutcome()
        for _ in range(_TRIES):
            worker.give(self.good)
            if worker.has_begun(self.stop_timeout_s) and not worker.has_something(self.runtime_s / 2):
                return None
            outcome = worker.outcome(self.stop_timeout_s)
            if outcome.report is None or outcome.report.outcome != "success":
                break
        return outcome

    def _not_met(self, check: str, early: TrialOutcome) -> Finding:
        if early.report is not None and early.report.outcome == "success":
            return ok(check, f"not tried: done before it came, {_TRIES} times; give a BODY that takes longer")
        return problem(check, f"not tried: {_described(early)}, by what the checks before it have left", _IDEMPOTENT)


def _described(outcome: TrialOutcome) -> str:
    """A worker's report or end, in a few words."""
    if outcome.report is not None:
        return _report_described(outcome.report)
    if outcome.exit_code is None:
        return "it hangs, and was killed"
    return f"the worker died: {kernel.exit_text(outcome.exit_code)}{EXITS.get(outcome.exit_code, '')}"


def _report_described(report: Report) -> str:
    if report.outcome == "success":
        return "done"
    text = f": {report.error}" if report.error else ""
    return f"{report.outcome}: {report.error_type}{text}"
