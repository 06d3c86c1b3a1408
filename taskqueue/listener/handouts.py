"""Hand-outs of the HTTP half in a listener: late ones go back, and what lasts is told (design-http, section 3).

1. A hand-out arrives that was delivered before, here or on a host that is gone: it goes back at once. Its front knows
   whether it may start again, and when.
2. It waits for a worker until after `x-handout-until`: it goes back, late. What its plugin retries is never late.
3. A worker has run it for a second: `begun` is reported; then `alive` each minute. Nothing waits for these reports.

Ordinary workitems do not pass here. This module must never decide how an attempt ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from taskqueue.amqp import Published, Publisher
from taskqueue.foundation.loop import Loop, Timer
from taskqueue.listener.reports import Reports
from taskqueue.listener.run import Run
from taskqueue.listener.runs import Runs, comes_again
from taskqueue.listener.settler import Settler
from taskqueue.listener.states import RunState
from taskqueue.protocol.handouts import LATE, REDELIVERED

_CHECK_S = 0.5
"""Seconds between two looks at the hand-outs in hand."""
BEGUN_S = 1.0
"""Seconds after which a hand-out is reported as begun. Most have ended by then."""
ALIVE_S = 60.0
"""Seconds between two reports of a hand-out that lasts."""


class Handouts:
    """Watches the hand-outs among `runs`. `clock()` is Unix time in seconds."""

    def __init__(
        self,
        loop: Loop,
        publisher: Publisher,
        runs: Runs,
        reports: Reports,
        settler: Settler,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._loop = loop
        self._publisher = publisher
        self._runs = runs
        self._reports = reports
        self._settler = settler
        self._clock = clock
        self._told: dict[int, float] = {}
        """When a run was last told of, on the monotonic clock, by its number."""
        self._timer: Timer | None = None

    def refuses(self, run: Run) -> bool:
        """A hand-out was delivered: whether it goes back at once. Otherwise it is watched from now on."""
        if comes_again(run.delivery):
            self._settler.give_back(run, REDELIVERED)
            return True
        if self._timer is None:
            self._timer = self._loop.call_later(_CHECK_S, self._check)
        return False

    def is_late(self, run: Run) -> bool:
        """Whether it may not be begun any more."""
        assert run.handout is not None
        return run.attempt == 1 and self._clock() * 1000 >= run.handout.valid_until_ms

    def return_late(self, run: Run) -> None:
        """Give it back, late."""
        self._settler.give_back(run, LATE)

    def _check(self) -> None:
        self._timer = None
        now = time.monotonic()
        lasting: dict[int, float] = {}
        any_left = False
        for run in list(self._runs):
            if run.handout is None:
                continue
            any_left = True
            if run.life.state is RunState.WAITING and self.is_late(run):
                self._runs.waiting.remove(run)
                self.return_late(run)
            elif run.life.state is RunState.ASSIGNED and run.started is not None:
                told = self._told.get(run.number)
                if told is None and now - run.started >= BEGUN_S:
                    self._tell(run, "begun")
                    lasting[run.number] = now
                elif told is not None and now - told >= ALIVE_S:
                    self._tell(run, "alive")
                    lasting[run.number] = now
                elif told is not None:
                    lasting[run.number] = told
        self._told = lasting
        if any_left:
            self._timer = self._loop.call_later(_CHECK_S, self._check)

    def _tell(self, run: Run, event: str) -> None:
        report = self._reports.lasting(run, event)
        self._publisher.publish(report.queue.name, report.properties, report.body, _nobody_waits)


def _nobody_waits(published: Published) -> None:
    """A report that was lost is made up for by the next one."""
