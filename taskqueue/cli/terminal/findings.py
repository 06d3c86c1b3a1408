"""How the findings of checks are shown: a line each, and the exit status that they come to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from taskqueue.cli.terminal.columns import Column
from taskqueue.cli.terminal.show import Show
from taskqueue.operations.findings import OK, PROBLEM, WARNING, Finding

_COLUMNS = (
    Column("status", styles={OK: "green", WARNING: "yellow", PROBLEM: "bold red"}),
    Column("check"),
    Column("found"),
    Column("advice", heading="what to do"),
)


def show_findings(show: Show, findings: Iterable[Finding]) -> int:
    """Show them, a line each; the exit status: 1 where there is a problem, else 0."""
    statuses = set()

    def seen() -> Iterator[tuple[str | None, ...]]:
        for status, check, found, advice in findings:
            statuses.add(status)
            yield status, check, found, advice or None

    show.table(_COLUMNS, seen())
    return int(PROBLEM in statuses)
