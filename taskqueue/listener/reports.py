"""Makes the reports of hand-outs for their front: as messages of an outcome, which the settler publishes. Pure.

Each report tells how many slots the workers of this listener have, and how many are free: fronts keep their hand-outs
within twice that. The queue of a front is never declared here: without it, the report is dropped, and the front hands
the task out again by itself.
"""

from __future__ import annotations

import json
import socket
from typing import Any, Protocol

from taskqueue.config.settings import GroupSettings
from taskqueue.listener.run import Publish, Run
from taskqueue.listener.runs import Runs
from taskqueue.protocol import queues
from taskqueue.protocol.dead_letters import DeadReason
from taskqueue.protocol.handouts import AGAIN, REASON, RETURNED, report_properties
from taskqueue.protocol.properties import shorten
from taskqueue.protocol.results import Outcome

_JSON = "application/json"


class HasSlots(Protocol):
    """What is known of the workers."""

    @property
    def slots(self) -> int:
        """How many workitems they can run at once."""


class Reports:
    """Makes the reports of one listener, which holds `runs` and has `workers`."""

    def __init__(self, settings: GroupSettings, runs: Runs, workers: HasSlots) -> None:
        self._worker_type = settings.worker_type
        self._runs = runs
        self._workers = workers
        self._host = socket.gethostname()

    def lasting(self, run: Run, event: str) -> Publish:
        """It was `begun`, or is still `alive`."""
        return self._report(run, event)

    def retrying(self, run: Run, again_ms: int) -> Publish:
        """Its plugin has it run again at `again_ms`, Unix time in milliseconds."""
        return self._report(run, "retrying", more={AGAIN: again_ms})

    def returned(self, run: Run, why: str) -> Publish:
        """It is given back, for one of `handouts.RETURNS`."""
        return self._report(run, "returned", more={RETURNED: why})

    def done(self, run: Run, outcome: Outcome, reason: DeadReason | None = None) -> Publish:
        """Its attempt has ended; `reason` is for an error."""
        more: dict[str, Any] = {
            "status": outcome.status,
            "attempt": outcome.attempt,
            "runtime_ms": round(outcome.runtime_ms),
        }
        if outcome.error_type is not None:
            more["error_type"] = outcome.error_type
        if reason is not None:
            more[REASON] = reason.value
        return self._report(run, "done", outcome.body, outcome.content_type, more, outcome.status)

    def failed(
        self, run: Run, reason: DeadReason, error_type: str, error: str, trace: str, runtime_ms: float
    ) -> Publish:
        """Its attempt has failed, and the plugin's own retries are used up. The front has the workitem itself."""
        body = json.dumps({"error": shorten(error), "trace": shorten(trace)}).encode()
        return self.done(run, Outcome("error", body, _JSON, run.attempt, runtime_ms, error_type), reason)

    def _report(
        self,
        run: Run,
        event: str,
        body: bytes = b"",
        content_type: str | None = None,
        more: dict[str, Any] | None = None,
        status: str = "",
    ) -> Publish:
        assert run.handout is not None and run.properties.reply_to is not None
        slots = self._workers.slots
        properties = report_properties(
            run.properties, run.handout, event, crashes=run.crashes, host=self._host, worker_type=self._worker_type,
            slots=slots, free=max(0, slots - len(self._runs)), content_type=content_type, more=more,
        )  # fmt: skip
        return Publish(queues.results(run.properties.reply_to), properties, body, declare=False, status=status)
