"""What a check found, how bad it is, and how a list of such is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from taskqueue.cli.terminal.show import Column, Show

OK, WARNING, PROBLEM = "ok", "warning", "problem"


class Finding(NamedTuple):
    """One line. `advice` says what to do about it; a finding that is ok needs none."""

    status: str
    check: str
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(OK, check, found)


def warning(check: str, found: str, advice: str) -> Finding:
    """It works, but somebody should look at it."""
    return Finding(WARNING, check, found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    """Work is not done, or will not be."""
    return Finding(PROBLEM, check, found, advice)


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
