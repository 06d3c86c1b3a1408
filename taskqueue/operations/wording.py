"""How a time and an error are worded in one line, wherever an operator reads them: on a terminal, a page, in a finding.

Pure. It must never know where the words are shown: escaping is for whoever shows them.
"""

from __future__ import annotations

import time
from datetime import datetime

_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))
"""Seconds of a unit and its letter, then those of the next smaller unit."""


def moment(at_s: float) -> str:
    """A Unix time in the local time zone: `2030-01-31 21:30:00+01:00`."""
    return datetime.fromtimestamp(at_s).astimezone().isoformat(" ", "seconds")


def span(seconds: float) -> str:
    """How long something takes or took, in at most two units: `3.2s`, `5m 10s`, `2h 3m`, `4d 1h`."""
    if seconds < 60:
        return f"{max(seconds, 0.0):.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    size, unit, smaller, smaller_unit = next(each for each in _UNITS if seconds >= each[0])
    whole, rest = divmod(seconds, size)
    return f"{whole:.0f}{unit} {rest // smaller:.0f}{smaller_unit}"


def last_line(text: str, width: int | None = None) -> str:
    """The last line of `text`, which of a traceback names the exception; cut to `width` characters, an ellipsis among
    them."""
    line = text.rstrip().rpartition("\n")[2]
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"


def unix(timestamp: str) -> float:
    """The Unix time of an RFC 3339 text, as fronts give it."""
    return datetime.fromisoformat(timestamp).timestamp()


def since(timestamp: str) -> str:
    """How long ago an RFC 3339 text is: `3m 2s`."""
    return span(time.time() - unix(timestamp))


def until(timestamp: str) -> str:
    """When an RFC 3339 text comes: `in 3m 2s`, or `now`."""
    left_s = unix(timestamp) - time.time()
    return f"in {span(left_s)}" if left_s > 0 else "now"


def local(timestamp: str) -> str:
    """An RFC 3339 text as `moment`, with how far away it is."""
    away = time.time() - unix(timestamp)
    return f"{moment(unix(timestamp))} ({f'{span(away)} ago' if away >= 0 else f'in {span(-away)}'})"
