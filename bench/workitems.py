"""The workitems that everybody gets: Ruote's JSON, of a fixed size, the same for taskqueue and its peers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

ID = "00000000-0000-4000-8000-000000000000"
"""The id of a template message. Its copies have their number in the last twelve digits: see native/publisher.c."""

BODY_BYTES = 540


@dataclass(frozen=True)
class Batch:
    """So many workitems that are alike.

    `task` is what runs them: `noop`, which does nothing and returns None; or `act`, which sleeps for `nap_s` seconds
    and returns when it began and ended; with `stamp`, it also says in that file that it begins.
    """

    count: int
    task: str = "noop"
    nap_s: float = 0.0
    stamp: str = ""
    body_bytes: int = BODY_BYTES
    worker_types: tuple[str, ...] = ()
    """By turns; where none is given, the task's name."""

    def bodies(self) -> list[bytes]:
        """The workitem for each worker type, padded to `body_bytes`."""
        return [self._body(worker_type) for worker_type in self.worker_types or (self.task,)]

    def _body(self, worker_type: str) -> bytes:
        bare = len(_json(self._workitem(worker_type, "")))
        return _json(self._workitem(worker_type, "x" * (self.body_bytes - bare)))

    def _workitem(self, worker_type: str, padding: str) -> dict[str, Any]:
        work = {"nap_s": self.nap_s, "stamp": self.stamp} if self.task == "act" else {}
        params = {"ref": "worker", "worker_type": worker_type, "timeout": "2d"}
        return {
            "fei": {"engine_id": "engine", "wfid": "20121122-bijuhagona", "subid": "9c0d2ecd0d0e", "expid": "0_1_0"},
            "participant_name": "worker",
            "fields": {"params": params, "work": work, "customer": {"id": 4711, "name": "Ada"}, "note": padding},
            "dispatched_at": "2012-11-22 04:07:12.271828 UTC",
            "wf_name": "benchmark",
            "wf_revision": "1",
            "re_dispatch_count": 0,
        }


def numbered(number: int) -> str:
    """The id of a copy."""
    return f"{ID[:-12]}{number:012d}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
