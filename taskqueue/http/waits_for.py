"""What a task waits for, in words: the first question of whoever misses one. Pure.

    not due until 2026-11-26T20:00:00.000Z
    queue emails is paused
    no worker of type webhook consumes; rate limit 1/m of queue emails: the next one may start at …

`holding` has the figures of the book; the front itself knows the broker. Everything that holds it up is said, for an
operator who removes one reason should not find the next one then.
"""

from __future__ import annotations

from taskqueue.config.http_settings import QueueSettings
from taskqueue.http.api.queue_fields import shown_rate
from taskqueue.http.api.times import rfc3339
from taskqueue.http.book.holding import BEFORE_LIMIT, Holding
from taskqueue.http.book.rows import WEBHOOK
from taskqueue.http.states import WAITING, TaskState
from taskqueue.http.task import Task


def waits_for(
    task: Task, queue: QueueSettings, found: Holding | None, *, broker: str | None, served: bool | None, window: int
) -> str | None:
    """Why `task` does not run now; None where it runs or has ended. `found` is None for one that does not wait.

    `broker`: why this front cannot hand out, None while it can. `served`: whether workers of the task's type consume,
    None where that is not known yet. `window`: how many attempts of that type this front keeps under way.
    """
    if found is None or task.state not in WAITING:
        cancelled = task.state is TaskState.RUNNING and task.cancel_requested
        return "the end of its attempt: it was cancelled, and is not tried again" if cancelled else None
    reasons = [*_time(task, found)]
    if found.paused:
        reasons.append(f"queue {task.queue} is paused")
    if broker is not None:
        reasons.append(f"the front has no broker: {broker}")
    if reasons:
        return "; ".join(reasons)
    worker_type = WEBHOOK if task.worker_type is None else task.worker_type
    if served is False:
        return f"no worker of type {worker_type} consumes"
    if found.token_ms is not None and queue.rate_limit is not None:
        rate = shown_rate(queue.rate_limit)
        reasons.append(f"rate limit {rate} of queue {task.queue}: the next one may start at {rfc3339(found.token_ms)}")
    if found.running >= queue.concurrency:
        reasons.append(f"concurrency {queue.concurrency} of queue {task.queue}: {found.running} run")
    if found.running_of_type >= window:
        reasons.append(f"workers of type {worker_type} are busy: {found.running_of_type} attempts are under way")
    if found.before:
        more = " or more" if found.before == BEFORE_LIMIT else ""
        reasons.append(f"its turn: {found.before}{more} tasks of queue {task.queue} are due before it")
    return "; ".join(reasons) or "nothing: it is about to be handed out"


def _time(task: Task, found: Holding) -> list[str]:
    """What the time has to do with it."""
    reasons = []
    due_ms = task.next_attempt_ms
    if found.rests_until_ms is not None:
        why = f" after {found.failures} failures in a row" if found.failures else ", as it asked"
        reasons.append(f"origin {found.origin} rests until {rfc3339(found.rests_until_ms)}{why}")
    elif due_ms is not None and due_ms > found.now_ms:
        if task.state is TaskState.RETRYING:
            reasons.append(f"attempt {task.attempts + 1} is not due until {rfc3339(due_ms)}")
        else:
            reasons.append(f"not due until {rfc3339(due_ms)}")
    return reasons
