"""What a client asks for: one task, checked, before the book has it. The adapters make it, each of its own format.

`POST /v1/queues/emails/tasks` with `{"url": "https://example.com/x", "json": {"to": "a@b.c"}, "delay": "5s"}` gives
`TaskSpec("emails", url="https://example.com/x", headers=(("Content-Type", "application/json"),), body=b'{"to":…}',
delay_ms=5000)`. This module must never read a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Api(Enum):
    """Which adapter took a task: it decides a few defaults, and which headers the target gets."""

    NATIVE = "native"
    MIYAMOTO = "miyamoto"
    CLOUD_TASKS = "cloudtasks"


@dataclass(frozen=True, slots=True)
class RetryOverride:
    """The retry rules that a task sets for itself; None where its queue's hold."""

    max_attempts: int | None = None
    max_age_s: float | None = None
    min_backoff_s: float | None = None
    max_backoff_s: float | None = None
    max_doublings: int | None = None


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task that is wanted. Either `url` or `worker_type` is set."""

    queue: str
    url: str | None = None
    """Absolute, `http` or `https`."""
    worker_type: str | None = None
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    """For the target, in the client's order and case; `Content-Type` among them where the body has one."""
    body: bytes = b""
    delay_ms: int = 0
    """Milliseconds from now until it is due; `at_ms` wins."""
    at_ms: int | None = None
    """When it is due, Unix time in milliseconds."""
    expires_in_ms: int | None = None
    """Milliseconds from now after which it is not begun any more; `expires_at_ms` wins."""
    expires_at_ms: int | None = None
    timeout_s: float | None = None
    """Of one request; None for the queue's."""
    name: str | None = None
    """The client's name for it, unique in its queue."""
    retry: RetryOverride | None = None
    tags: tuple[str, ...] = ()
    callback_url: str | None = None
    dedup_key: str | None = None
    """Another task of the queue with this key, within the window, is a duplicate. Miyamoto's `last_id` is one."""
    dedup_window_s: float | None = None
    """None for `[http] name_ttl`."""
    api: Api = Api.NATIVE
    trace: tuple[tuple[str, str], ...] = ()
    """`traceparent` and `tracestate` of the request that enqueued it."""

    def expires_ms(self, now_ms: int) -> int | None:
        """When it is begun no more, if it is taken at `now_ms`: Unix time in milliseconds, or None."""
        if self.expires_at_ms is None and self.expires_in_ms is not None:
            return now_ms + self.expires_in_ms
        return self.expires_at_ms
