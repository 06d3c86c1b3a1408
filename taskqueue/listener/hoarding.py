"""Hands back what the listener hoards: work that waits behind long runs, while other hosts may be free.

1. Two workers run for minutes; short workitems were queued ahead to them, and more wait in the listener.
2. After 1 s the runs that stand behind a long one are recalled from their worker, for the other workers of the group.
3. All workers are busy, and none has reported for 1 s: all that waits is published to its queue again, as if it had
   never been delivered. Another host takes it.
4. The prefetch shrinks to what can run at a time, so that the same work does not come back at once.

Where the config pins `prefetch`, the operator has chosen how much is held, and nothing is handed back. This module
must never end a run that a worker has read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from taskqueue.amqp import Connection
from taskqueue.config.settings import GroupSettings
from taskqueue.foundation.loop import Loop, Timer
from taskqueue.listener.prefetch import Prefetch
from taskqueue.listener.runs import Runs
from taskqueue.listener.scheduler import Scheduler
from taskqueue.listener.settler import Settler
from taskqueue.protocol.handout_reports import Returned

log = logging.getLogger(__name__)

_HOARD_S = 1.0
"""Seconds that a workitem may wait while every worker is busy; then it is handed back, for other hosts to run it."""


class Hoarding:
    """Looks once in a second at what waits; `on_recalled()` is called when recalled runs wait for other workers."""

    def __init__(
        self,
        loop: Loop,
        settings: GroupSettings,
        connection: Connection,
        runs: Runs,
        scheduler: Scheduler,
        prefetch: Prefetch,
        settler: Settler,
        on_recalled: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._connection = connection
        self._runs = runs
        self._scheduler = scheduler
        self._prefetch = prefetch
        self._settler = settler
        self._on_recalled = on_recalled
        self._allowed = settings.prefetch is not None
        self._timer: Timer | None = None

    def watch(self) -> None:
        """Set the timer where none is set. Call this when there are runs."""
        if self._timer is None and not self._allowed:
            self._timer = self._loop.call_later(_HOARD_S, self._check)

    def end(self) -> None:
        """The listener drains: hand back all that waits; what workers have not read stays with them."""
        self._allowed = True
        self.hand_back_all(Returned.STOPPED)

    def hand_back_all(self, why: Returned) -> None:
        """Hand back all that waits; hand-outs go back to their fronts, which are told `why`."""
        for run in self._runs.take_waiting():
            self._settler.hand_back(run, why)

    def _check(self) -> None:
        self._timer = None
        if self._allowed or not (self._runs.waiting or self._scheduler.ahead):
            return
        self._runs.wait_first(self._scheduler.recall_from_slow(_HOARD_S))
        idle_s = time.monotonic() - self._scheduler.reported_at
        waiting = len(self._runs.waiting)
        if not waiting or idle_s < _HOARD_S or not self._connection.is_up or self._connection.blocked:
            self.watch()
            self._on_recalled()
            return
        self._scheduler.mean_s = max(self._scheduler.mean_s or 0.0, idle_s)
        self._prefetch.shrink()
        log.info("handed back for other hosts: group=%s workitems=%d", self._settings.name, waiting)
        self.hand_back_all(Returned.HANDED_BACK)
