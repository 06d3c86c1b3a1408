"""The hand-outs among the runs: which of them may not begin, and what their fronts hear while they run.

1. Hand-out 3 of task "0197…" is delivered, valid until 12:00:10. No worker is free: it waits, as run 7.
2. At 12:00:10 it still waits: it is given back as `late`, for its front may hand it out elsewhere.
3. A worker had begun with it in time. A second later `begun` is published, and each minute `alive`: as long as its
   front hears that, it hands out the task nowhere else. Nothing here waits for the answers.
4. The listener is killed. The broker delivers the hand-out to another one, which did not see it run: it is given back
   as `redelivered`, and not run again before its front has counted that.
5. The plugin's own retry comes off the delay ladder: it has begun already, and is never late.

One timer serves all, and there is none without a hand-out. This module must never end a run that has begun.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from taskqueue.amqp import Connection, Published, Publisher
from taskqueue.foundation.loop import Loop, Timer
from taskqueue.listener.answers import Answers
from taskqueue.listener.run import Run, unix_ms
from taskqueue.listener.runs import Runs, comes_again
from taskqueue.listener.settler import Settler
from taskqueue.listener.states import RunState
from taskqueue.protocol.handout_reports import Returned

BEGUN_AFTER_S = 1.0
"""Seconds that a hand-out runs before its front is told: most have ended by then."""
ALIVE_EACH_S = 60.0
"""Seconds between two reports that it still runs. A front gives it up after three minutes of silence."""
_CHECK_S = 0.25
"""Seconds between two looks at the hand-outs: what is to be said is said that much late at most."""


class HandOuts:
    """Watches over the hand-outs among `runs`. `now_ms()` is Unix time, `now_s()` the monotonic clock of the runs."""

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        publisher: Publisher,
        runs: Runs,
        settler: Settler,
        answers: Answers,
        now_ms: Callable[[], int] = unix_ms,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._publisher = publisher
        self._runs = runs
        self._settler = settler
        self._answers = answers
        self._now_ms = now_ms
        self._now_s = now_s
        self._timer: Timer | None = None

    def refuses(self, run: Run) -> bool:
        """A hand-out was delivered, and is none that this listener knows: whether it was given back at once."""
        if comes_again(run.delivery):
            self._settler.give_back(run, Returned.REDELIVERED)
            return True
        self._watch()
        return self.is_over(run)

    def is_over(self, run: Run) -> bool:
        """Whether the time of a hand-out that waits was over, and it was given back: it must not be assigned."""
        if not self._is_late(run):
            return False
        self._settler.give_back(run, Returned.LATE)
        return True

    def _is_late(self, run: Run) -> bool:
        return run.handout is not None and run.attempt == 1 and self._now_ms() >= run.handout.until_ms

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_CHECK_S, self._check)

    def _check(self) -> None:
        self._timer = None
        handouts = [run for run in self._runs if run.handout is not None]
        if not handouts:
            return
        self._watch()
        for run in self._runs.take_waiting(self._is_late):
            self._settler.give_back(run, Returned.LATE)
        if not self._connection.is_up or self._connection.blocked:
            return
        now = self._now_s()
        for run in handouts:
            if run.life.state is RunState.ASSIGNED and run.started is not None:
                due = run.started + BEGUN_AFTER_S if run.told is None else run.told + ALIVE_EACH_S
                if now >= due:
                    self._tell(run, now)

    def _tell(self, run: Run, now: float) -> None:
        report = self._answers.begun(run) if run.told is None else self._answers.alive(run)
        run.told = now
        self._publisher.publish(report.queue.name, report.properties, report.body, partial(self._told, run))

    def _told(self, run: Run, published: Published) -> None:
        """Where the connection took the report along, the front may not have heard of it: it is told anew."""
        if published is Published.LOST:
            run.told = None
