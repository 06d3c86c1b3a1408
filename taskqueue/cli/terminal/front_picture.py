"""A front in the picture of `taskqueue status`: a line or two at its head, and a short table of queues."""

from __future__ import annotations

from taskqueue.cli.terminal.columns import Column
from taskqueue.cli.terminal.show import Show
from taskqueue.operations.front_overview import STATES, FrontSeen

_COLUMNS = (
    Column("task_queue"),
    *(Column(state, right=True, whole=True) for state in STATES[:-1]),
    Column("dead", right=True, styles={0: ""}, style="red"),
    Column("paused", styles={"paused": "bold yellow"}),
)
_LIMIT = 20
"""Queues that are shown; `taskqueue queues list` has all."""


def head(seen: FrontSeen) -> dict[str, str]:
    """The lines of the head."""
    lines = {}
    if seen.book is not None:
        lines["front"] = f"{seen.url}, book {seen.book}, broker {seen.broker}"
    if seen.trouble is not None or seen.reasons:
        lines["front trouble"] = "; ".join([*seen.reasons, *([seen.trouble] if seen.trouble else [])])
    return lines


def show_queues(show: Show, seen: FrontSeen) -> None:
    """The queues of which there is something to say, those with the most tasks first."""
    busy = sorted((queue for queue in seen.queues if not queue.is_quiet), key=lambda queue: -sum(queue.counts.values()))
    if not busy:
        return
    show.line("")
    show.table(
        _COLUMNS,
        ([queue.name, *queue.counts.values(), "paused" if queue.paused else None] for queue in busy[:_LIMIT]),
    )
    if len(busy) > _LIMIT:
        show.line(f"and {len(busy) - _LIMIT} more: taskqueue queues list")
