"""Judges a worker's death: which of the runs that it leaves behind is blamed, and which just wait again.

1. Worker 4711 had read run 7 and dies of SIGSEGV: run 7 is the only suspect, and its attempt has crashed.
2. Worker 4712 ran coroutines 8 and 9 side by side and dies: either may be guilty. Each is run again, alone, and none is
   counted as a crash. But hand-outs among them all have crashed: their fronts hand them out again, and run none alone.
3. Worker 4713 was killed for `time_limit`: of its runs, those that took longer have timed out, the others wait again.
4. Worker 4714 was killed since the listener stops: its runs wait again, and nobody is blamed.
5. Worker 4715 dies before it was ready: no run is to blame, and the pool learns of it.

Runs that a worker had not read always wait again, before all others. This module must never restart a worker.
"""

from __future__ import annotations

import logging
import time

from taskqueue.config.settings import GroupSettings
from taskqueue.host import kernel
from taskqueue.link import orders
from taskqueue.link.exits import EXITS, FAILED
from taskqueue.listener.attempts import Attempts
from taskqueue.listener.peers import Peers
from taskqueue.listener.run import Run
from taskqueue.listener.runs import Runs
from taskqueue.listener.worker_process import Death
from taskqueue.listener.workers import Workers

log = logging.getLogger(__name__)

TIME_LIMIT = "time_limit"
"""`KillWorker.why` for a worker that exceeded the time limit."""


class Deaths:
    """Judges the deaths of the group's workers, and counts them."""

    def __init__(self, settings: GroupSettings, runs: Runs, attempts: Attempts, workers: Workers, peers: Peers) -> None:
        self.count = 0
        """Deaths since the listener began; the template replaces each worker, so these are restarts."""
        self._settings = settings
        self._runs = runs
        self._attempts = attempts
        self._workers = workers
        self._peers = peers

    def judge(self, death: Death, *, ordered: bool) -> None:
        """Blame what is to blame, let the rest wait; `ordered`: the listener has all of its workers killed."""
        self.count += 1
        self._runs.wait_first(death.unread)
        if death.why == TIME_LIMIT:
            self._timed_out(death.suspects)
        elif ordered:
            self._runs.wait_first(death.suspects)
        else:
            self._died(death)

    def _timed_out(self, suspects: list[Run]) -> None:
        limit_s, now = self._settings.time_limit_s or 0.0, time.monotonic()
        overdue = [run for run in suspects if run.started is not None and now - run.started >= limit_s]
        for run in overdue:
            self._attempts.timed_out(run)
        self._attempts.interrupted([run for run in suspects if run not in overdue])

    def _died(self, death: Death) -> None:
        how = death.why or kernel.exit_text(death.exit_code) + EXITS.get(death.exit_code, "")
        if death.suspects or death.exit_code != 0:
            log.warning(
                "worker died: group=%s pid=%d %s tasks=%s",
                self._settings.name, death.pid, how, ",".join(run.message_id for run in death.suspects) or "none",
            )  # fmt: skip
        doubtful = [run for run in death.suspects if run.handout is None] if len(death.suspects) > 1 else []
        for run in death.suspects:
            if run not in doubtful:
                self._attempts.crashed(run, f"the worker died: {how}")
        for run in doubtful:
            run.alone = True
        self._runs.wait_first(doubtful)
        if not death.ready and death.exit_code not in {0, FAILED}:
            self._peers.to_pool(orders.Failed(f"worker died before it was ready: {how}", self._workers.ready))
