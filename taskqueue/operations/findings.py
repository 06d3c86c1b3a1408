"""The finding of a check, as data: how bad it is, one line about it, and one with the advice."""

from __future__ import annotations

from typing import NamedTuple

OK, WARNING, PROBLEM = "ok", "warning", "problem"


class Finding(NamedTuple):
    """One line of a check's report. `advice` says what to do about it; a finding that is `ok` needs none."""

    status: str
    """`ok`, `warning` or `problem`."""
    check: str
    """The subject of the check: `connection`, `queues`."""
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(OK, check, found)


def warning(check: str, found: str, advice: str) -> Finding:
    """Work is done, but somebody should look at this."""
    return Finding(WARNING, check, found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    """Work is not done, or will not be."""
    return Finding(PROBLEM, check, found, advice)
