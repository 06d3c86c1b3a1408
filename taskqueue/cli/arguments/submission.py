"""The options of `taskqueue submit` that hold for every workitem of one run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskqueue.cli.arguments import workitem_body


@dataclass(frozen=True, slots=True)
class Submission:
    """The options that all workitems of one run share: the type they are for, and the options of `Client.submit`."""

    worker_type: str
    kind: str | None
    """The content type that was asked for; None: it is guessed from the body."""
    headers: dict[str, str]
    delay_s: float
    """Seconds; counts where there is no `at`."""
    at: datetime | None
    message_id: str | None

    def options(self, body: bytes) -> dict[str, Any]:
        """The keywords of `Client.submit` for a workitem that is submitted now; raises `MalformedWorkitem` for a body
        that a worker could not read as what it is."""
        return {
            "content_type": workitem_body.content_type(body, self.kind),
            "headers": self.headers,
            "delay_s": self.delay_s if self.at is None else max(0.0, self.at.timestamp() - time.time()),
            "message_id": self.message_id,
        }
