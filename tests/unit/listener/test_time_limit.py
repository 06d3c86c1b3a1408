"""Which workers exceed the time limit, each found once, with one timer for all."""

from __future__ import annotations

import time

import pytest

from listening import HandTurnedLoop, Source
from taskqueue.link.packets import Link
from taskqueue.listener.time_limit import TimeLimit
from taskqueue.listener.worker_process import Worker

LIMIT_S = 10.0


def worker(*ages_s: float | None, concurrency: int = 1) -> Worker:
    """A worker whose runs began that many seconds ago; None for one that has not begun."""
    no_link = Link.__new__(Link)
    made = Worker(1, no_link, no_link, concurrency)
    for age_s in ages_s:
        run = Source().run()
        run.started = None if age_s is None else time.monotonic() - age_s
        made.given[run.number] = run
    return made


def limit(*workers: Worker, limit_s: float | None = LIMIT_S) -> tuple[TimeLimit, HandTurnedLoop, list[Worker]]:
    loop, overdue = HandTurnedLoop(), list[Worker]()
    return TimeLimit(loop, limit_s, workers, overdue.append), loop, overdue


@pytest.mark.parametrize(
    ("ages_s", "concurrency", "expected"),
    [
        ([], 1, False),
        ([None], 1, False),
        ([9.0], 1, False),
        ([10.0], 1, True),
        ([9.0, 11.0], 1, False),
        ([9.0, 11.0], 2, True),
        ([None, 11.0], 2, True),
    ],
)
def test_who_is_overdue(ages_s: list[float | None], concurrency: int, expected: bool) -> None:
    each = worker(*ages_s, concurrency=concurrency)
    time_limit, _, overdue = limit(each)
    time_limit.watch()
    assert overdue == [each] * expected


def test_the_timer_is_set_for_the_earliest_deadline() -> None:
    time_limit, loop, overdue = limit(worker(2.0), worker(7.0), worker(None))
    time_limit.watch()
    time_limit.watch()
    (timer,) = loop.timers
    assert 2.5 < timer.delay <= 3.0 and not overdue


def test_an_overdue_worker_is_found_once_and_the_others_later() -> None:
    late, other = worker(11.0), worker(5.0)
    time_limit, loop, overdue = limit(late, other)
    time_limit.watch()
    loop.fire()
    assert overdue == [late], "it is being killed"
    next(iter(other.given.values())).started = 0.0
    loop.fire()
    assert overdue == [late, other] and not loop.timers


def test_without_a_limit_nothing_is_looked_at() -> None:
    time_limit, loop, overdue = limit(worker(1e6), limit_s=None)
    time_limit.watch()
    assert not overdue and not loop.timers
