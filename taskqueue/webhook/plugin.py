"""The plugin `webhook`: it makes the HTTP request that a workitem describes.

1. A front hands out an attempt (AMQP header `x-handout`): the result is always an outcome, a dict that the front reads:
   `{"outcome": "answered", "status": 503, "retry_after_s": 120.0, …}`. What becomes of the task is the front's matter.
2. An AMQP client publishes a workitem: an answer 2xx is the result; everything else is an exception, so that the
   group's `max_retries`, `retry_delay` and dead letters apply. `Retry-After` is honoured.

This worker faces targets, hostile or not: it must never have a broker's or a book's credentials, nor log a body.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import Any

from taskqueue import __version__
from taskqueue.targets.addresses import Address
from taskqueue.targets.headers import check_header_value
from taskqueue.targets.policy import Policy, Reach, Verdict, judge, make_policy
from taskqueue.targets.urls import TargetRefused
from taskqueue.webhook.answers import kept_body, kept_headers, no_retry, retry_after_s
from taskqueue.webhook.delivery import Delivered, deliver
from taskqueue.webhook.request import Malformed, WebRequest, parse_request
from taskqueue.webhook.signing import Secrets, Unsigned
from taskqueue.webhook.slots import Slots
from taskqueue.webhook.transfers import Transfers
from taskqueue.worker import BaseWorker, Reject, Retry, SoftTimeLimitExceeded

HANDOUT = "x-handout"
"""The AMQP header of a front's hand-out."""
HANDOUT_UNTIL = "x-handout-until"
"""When a hand-out ends to be valid: Unix time in ms."""
TASK_ATTEMPT = "x-task-attempt"
"""The number of the attempt, as the front counts."""
DEFER_S = 0.5
"""Seconds after which a deferred hand-out may come again."""
RETRY_AFTER_LIMIT_S = 3600.0
"""Seconds of a `Retry-After` that an AMQP client's workitem waits, at most."""
_OURS = frozenset({"user-agent", "accept-encoding", "x-queue"})
"""Headers that a task may have and that this worker sets itself."""


class DeliveryFailed(Exception):
    """A request of an AMQP client's workitem failed; the group's `max_retries` decide."""


class Webhook(BaseWorker):
    """One worker; it makes up to `concurrency` requests at a time."""

    async def setup(self) -> None:
        """Read the own settings and make what needs the event loop. Raises `ConfigError` for wrong settings."""
        self._policy = policy_of(self.settings)
        self._secrets = Secrets(_text(self.settings.get("secrets")))
        self._slots = Slots(int(self.settings.get("concurrency") or 1))
        self._transfers: dict[Reach, Transfers] = {}

    async def teardown(self) -> None:
        """Leave the event loop."""
        for transfers in self._transfers.values():
            transfers.close()

    async def handle_task(self, body: Any) -> Any:
        """Make the request; the result is described at the top of this module."""
        if HANDOUT in self.task.headers:
            return await self._handed_out(body)
        try:
            request = parse_request(body, handed_out=False)
            headers = self._headers(request, time.time())
        except (Malformed, TargetRefused) as error:
            raise Reject(f"no request: {error}") from error
        with self._slots.taken(request.target.origin):
            return answer_or_raise(await self._deliver(request, headers))

    async def _handed_out(self, body: Any) -> dict[str, Any]:
        """The outcome of a hand-out. It never raises, but for a cancellation."""
        started = time.time()
        try:
            return await self._attempt(body, started)
        except (Malformed, TargetRefused) as error:
            return outcome(Delivered("error", f"no request: {error}"), started, permanent=True)
        except Unsigned as error:
            return outcome(Delivered("error", str(error)), started)
        except SoftTimeLimitExceeded as error:
            return outcome(Delivered("timeout", str(error)), started)
        except Exception as error:
            self.log.exception("request failed in the worker:")
            return outcome(Delivered("error", f"the webhook worker failed: {type(error).__name__}"), started)

    async def _attempt(self, body: Any, started: float) -> dict[str, Any]:
        until_ms = self.task.headers.get(HANDOUT_UNTIL)
        if isinstance(until_ms, int) and until_ms < started * 1000:
            return outcome(Delivered("late", "the hand-out came after its time; nothing was sent"), started)
        request = parse_request(body, handed_out=True)
        headers = self._headers(request, started)
        origin = request.target.origin
        if not self._slots.has_room(origin):
            full = Delivered("deferred", f"{origin} has a quarter of this worker's slots; nothing was sent")
            return outcome(full, started, wait_s=DEFER_S)
        with self._slots.taken(origin):
            return outcome(await self._deliver(request, headers), started)

    async def _deliver(self, request: WebRequest, headers: list[tuple[str, str]]) -> Delivered:
        policy = self._policy.narrowed(request.reach)
        transfers = self._transfers.get(policy.reach)
        if transfers is None:
            transfers = Transfers(_judge_by(policy), ca_file=_text(self.settings.get("ca_file")))
            self._transfers[policy.reach] = transfers
        return await deliver(transfers, request, headers)

    def _headers(self, request: WebRequest, now: float) -> list[tuple[str, str]]:
        """All headers of this attempt: ours, then the task's in their order and case. Raises `TargetRefused` for a
        message id that is no header value, and `Unsigned`."""
        task_id = check_header_value("webhook-id", self.task.id)
        attempt = self.task.headers.get(TASK_ATTEMPT)
        if not isinstance(attempt, int) or isinstance(attempt, bool):
            attempt = self.task.attempt
        timestamp = int(now)
        ours = [
            ("webhook-id", task_id),
            ("webhook-timestamp", str(timestamp)),
            ("X-Task-Id", task_id),
            ("X-Task", task_id),
            ("X-Task-Attempt", str(attempt)),
        ]
        if request.queue is not None:
            ours.append(("X-Queue", request.queue))
        if request.sign:
            ours.append(("webhook-signature", self._secrets.signature(request.queue, task_id, timestamp, request.body)))
        ours += [("User-Agent", f"taskqueue/{__version__}"), ("Accept-Encoding", "identity")]
        return ours + [pair for pair in request.headers if pair[0].lower() not in _OURS]


def outcome(delivered: Delivered, started: float, **more: Any) -> dict[str, Any]:
    """What a front reads. `started`: Unix seconds. `more`: `permanent`, `wait_s`."""
    now, answered = time.time(), delivered.outcome == "answered"
    success = answered and 200 <= (delivered.status or 0) < 300
    return {
        "outcome": delivered.outcome,
        "status": delivered.status,
        "headers": kept_headers(delivered.headers),
        **kept_body(delivered.body, delivered.truncated),
        "truncated": delivered.truncated,
        "error": delivered.error,
        "duration_s": round(max(0.0, now - started), 6),
        "address": delivered.address,
        "retry_after_s": retry_after_s(delivered.headers, now) if answered and not success else None,
        "no_retry": no_retry(delivered.headers),
        "started_at": started,
        **more,
    }


def answer_or_raise(delivered: Delivered) -> dict[str, Any]:
    """The result for an AMQP client: of an answer 2xx. Raises `Reject`, `Retry` or `DeliveryFailed` for the rest."""
    status = delivered.status
    if status is None:
        raise (Reject if delivered.outcome == "denied" else DeliveryFailed)(delivered.error or delivered.outcome)
    if 200 <= status < 300:
        kept = kept_body(delivered.body, delivered.truncated)
        return {"status": status, "headers": kept_headers(delivered.headers), **kept}
    line = f"the target answered {status}" + (f": {delivered.error}" if delivered.error else "")
    if status == 410 or no_retry(delivered.headers):
        raise Reject(f"{line}; it wants no other attempt")
    wait_s = retry_after_s(delivered.headers, time.time())
    if wait_s is not None:
        raise Retry(line, delay_s=min(wait_s, RETRY_AFTER_LIMIT_S))
    raise DeliveryFailed(line)


def policy_of(settings: Mapping[str, Any]) -> Policy:
    """The policy that a group's own settings make. Raises `ConfigError` with every fault.

    `targets: auto`, the default, is what the pool has found out: `auto_targets`, else `public`.
    """
    reach = _text(settings.get("targets")) or "auto"
    if reach == "auto":
        reach = _text(settings.get("auto_targets")) or "public"
    own = [text.rpartition(":") for text in _texts(settings.get("own_listeners"))]
    return make_policy(
        reach,
        allow=_texts(settings.get("targets_allow")),
        deny=_texts(settings.get("targets_deny")),
        own_listeners=[(host, int(port)) for host, _, port in own if host and port.isdigit()],
    )


def _texts(value: Any) -> list[str]:
    """A setting that is a text or a list of texts."""
    texts = value if isinstance(value, list | tuple) else str(value or "").split(",")
    return [text.strip() for text in texts if text.strip()]


def _text(value: Any) -> str | None:
    return ", ".join(_texts(value)) or None


def _judge_by(policy: Policy) -> Any:
    def judged(address: str, port: int, host: str | None) -> Verdict:
        return judge(address, port, policy, host=host, is_own=is_of_this_host)

    return judged


def is_of_this_host(address: Address) -> bool:
    """Whether an address is one of this host's: only then a socket can be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
