"""The ledger of a fault test: what was confirmed as submitted, against what came out. Lost is always 0.

It publishes numbered workitems with confirms, at a steady rate, from a thread of its own, past any proxy; what had no
answer is published again with the same id, so that the ledger itself loses nothing. It must never import taskqueue.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pika
import pika.exceptions

from plain_amqp import PlainAmqp

_QUIET_S = 8.0
"""Without a result for so long, nothing more comes."""
_ON_ITS_WAY_S = 2.0
"""From its confirm to the queue of its worker, at the most, where nothing is overloaded."""
_TROUBLE = (pika.exceptions.AMQPError, OSError, AssertionError)
"""What a broker that is being restarted does to a client."""


@dataclass
class Ledger:
    """Counts by `message_id`. `gap_s` is the longest time without a result."""

    submitted_at: dict[str, float] = field(default_factory=dict)
    """When each was confirmed, in monotonic seconds."""
    removed: set[str] = field(default_factory=set)
    """What an operator has removed from a queue: neither lost nor completed."""
    results: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    gap_s: float = 0.0
    last_at: float | None = None

    @property
    def submitted(self) -> set[str]:
        """Ids that the broker has confirmed."""
        return set(self.submitted_at)

    @property
    def completed(self) -> set[str]:
        """Ids with a result of success."""
        return set(self.results)

    @property
    def lost(self) -> set[str]:
        """Ids that were confirmed and are neither completed nor dead."""
        return self.submitted - self.completed - set(self.dead) - self.removed

    @property
    def duplicated(self) -> int:
        """Results beyond the first of each id."""
        return sum(self.results.values()) - len(self.results)

    @property
    def unexpected(self) -> set[str]:
        """Ids that came out and were never put in."""
        return (set(self.results) | set(self.dead)) - self.submitted

    def result(self, message_id: str, status: str) -> None:
        """A result came."""
        now = time.monotonic()
        if self.last_at is not None:
            self.gap_s = max(self.gap_s, now - self.last_at)
        self.last_at = now
        (self.results if status == "success" else self.errors)[message_id] += 1

    def line(self) -> str:
        """The ledger in one line."""
        gone = f"removed={len(self.removed)} " if self.removed else ""
        return (
            f"published={len(self.submitted)} completed={len(self.completed)} lost={len(self.lost)} {gone}"
            f"duplicated={self.duplicated} unexpected={len(self.unexpected)} dead={len(self.dead)} "
            f"longest_gap={self.gap_s:.1f}s"
        )


class Load:
    """Submits `bodies` to `taskqueue` at `rate` a second, and collects what comes out, until told to stop."""

    def __init__(self, url: str, bodies: list[tuple[str, str]], rate: float) -> None:
        self.ledger = Ledger()
        self._url = url
        self._bodies = bodies
        self._rate = rate
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.all_submitted = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._submit, self._collect)]

    def start(self) -> None:
        """Begin."""
        with PlainAmqp(self._url) as amqp:
            for queue in ("taskqueue", "results"):
                amqp.declare(queue)
        for thread in self._threads:
            thread.start()

    def wait(self, deadline_s: float, removals: Sequence[tuple[float, float]] = ()) -> bool:
        """Whether everything that was submitted has come out within `deadline_s`.

        `removals` are the times at which an operator removed what was in a queue. What was submitted just before the
        end of one, and never came out, was removed: the broker confirms what it takes for a queue that is being
        deleted, and counts it nowhere.
        """
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline:
            with self._lock:
                ledger = self.ledger
                if (
                    self.all_submitted.is_set()
                    and removals
                    and time.monotonic() - (ledger.last_at or math.inf) > _QUIET_S
                ):
                    ledger.removed = {
                        name
                        for name in ledger.lost
                        if any(began - _ON_ITS_WAY_S < ledger.submitted_at[name] < ended for began, ended in removals)
                    }
                if self.all_submitted.is_set() and not ledger.lost:
                    return True
            time.sleep(0.05)
        return False

    def stop(self) -> None:
        """End both threads; what comes within the next second is still counted, to see duplicates."""
        time.sleep(1.0)
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _submit(self) -> None:
        started = time.monotonic()
        with PlainAmqp(self._url) as amqp:
            for number, (message_id, body) in enumerate(self._bodies):
                self._stop.wait(max(0.0, started + number / self._rate - time.monotonic()))
                while not self._stop.is_set():
                    try:
                        amqp.submit(body, message_id=message_id)
                    except _TROUBLE:
                        amqp.close()
                        self._stop.wait(0.1)
                    else:
                        break
                with self._lock:
                    self.ledger.submitted_at[message_id] = time.monotonic()
        self.all_submitted.set()

    def _collect(self) -> None:
        with PlainAmqp(self._url) as amqp:
            while not self._stop.is_set():
                try:
                    came = self._drain(amqp)
                except _TROUBLE:
                    amqp.close()
                    came = False
                if not came:
                    self._stop.wait(0.02)
        with PlainAmqp(self._url) as amqp, contextlib.suppress(*_TROUBLE):
            self._drain(amqp)

    def _drain(self, amqp: PlainAmqp) -> bool:
        came = False
        for queue in ("results", "taskqueue_dead"):
            if queue == "taskqueue_dead" and not amqp.exists(queue):
                continue
            while (message := amqp.take_now(queue)) is not None:
                came = True
                headers = message.headers
                with self._lock:
                    if queue == "results":
                        self.ledger.result(str(headers.get("task_id")), str(headers.get("status")))
                    else:
                        reason = headers.get("x-dead-reason") or headers.get("x-first-death-reason")
                        self.ledger.dead[str(message.properties.message_id)] += 1
                        self.ledger.reasons[str(reason)] += 1
        return came
