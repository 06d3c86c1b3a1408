"""The settings of the HTTP half as frozen, typed data: [http], and the rules of one queue of tasks.

`[http_emails]` with `rate_limit: 10/s` gives `QueueSettings("emails", rate_limit=10.0, …)`. A queue that was made by
the API has the same class: the front knows no other. A key that the file does not have keeps the default here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from taskqueue.targets.addresses import parse_address, unwrapped


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """When a task that failed is tried again, by the rules of Google Cloud Tasks (design-http, section 5)."""

    max_attempts: int | None = None
    """Attempts in all, -1 for any number; None for the default: 100 for a URL, 1 for a worker type."""
    max_age_s: float | None = None
    """Seconds since the first attempt; None for no limit. A task is given up when both are over."""
    min_backoff_s: float = 0.1
    max_backoff_s: float = 3600.0
    max_doublings: int = 16


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The rules of one queue of tasks."""

    name: str
    rate_limit: float | None = None
    """Requests started per second, on average; None for no limit."""
    burst: int = 100
    """Requests that may be started at once, after a rest. It counts only with `rate_limit`."""
    concurrency: int = 1000
    """Attempts under way at once, in the whole cluster."""
    timeout_s: float = 30.0
    """Seconds of one request, from dispatch to the end of the answer."""
    target: str | None = None
    """A URL to which the path of a task is joined as text, or a worker type; None: each task names its own."""
    permanent_statuses: tuple[int, ...] = (410,)
    """Answers after which a task is dead at once."""
    follow_redirects: int = 0
    sign: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers that every request of the queue gets, where its task does not set them."""
    retry: RetrySettings = RetrySettings()


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """[schedule_NAME]. Either `cron` or `every_s` is set, and either `url` or `worker_type`."""

    name: str
    cron: str | None = None
    every_s: float | None = None
    timezone: str = "UTC"
    queue: str = "default"
    url: str | None = None
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: str | None = None
    json: str | None = None
    worker_type: str | None = None
    catch_up: str = "latest"
    overlap: str = "allow"
    jitter_s: float = 0.0


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """[http]. Times in seconds, sizes in bytes."""

    listen: tuple[str, ...] = ("127.0.0.1:8088",)
    """`host:port` (`[::1]:8088` for IPv6), or `unix:/path`."""
    book: str = field(default="sqlite:/var/lib/taskqueue/http.db", repr=False)
    """`sqlite:/path`, or a `postgresql://` URL, which may hold a password: never show it as it is."""
    processes: int | None = 1
    """Front processes; None for one per CPU (`auto`)."""
    max_body_bytes: int = 1024 * 1024
    idempotency_ttl_s: float = 86_400.0
    name_ttl_s: float = 3600.0
    keep_finished_s: float = 3 * 86_400.0
    keep_dead_s: float = 30 * 86_400.0
    keep_body_s: float = 86_400.0
    keep_body_size_bytes: int = 64 * 1024
    keep_response_bytes: int = 4096
    max_task_age_s: float = 31 * 86_400.0
    tls_cert: str | None = None
    tls_key: str | None = None
    client_ca: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks, as CIDR text."""
    base_path: str = ""
    """"" or `/path` without a slash at the end."""
    targets: str | None = None
    """`public`, `private` or `any`: narrows what webhook workers may connect to; None leaves it to them."""
    queues: tuple[QueueSettings, ...] = ()
    """The queues that config.ini defines: by `queues` of [http], and by a section [http_NAME] each."""
    schedules: tuple[ScheduleSettings, ...] = ()

    @property
    def loopback_only(self) -> bool:
        """Whether it listens on nothing but loopback addresses and unix sockets."""
        return all(_is_loopback(each) for each in self.listen)

    @property
    def exposed(self) -> bool:
        """Whether strangers may reach the front: it then refuses to start without tokens (design-http, section 7)."""
        return not self.loopback_only or bool(self.base_path) or bool(self.trusted_proxies)


def _is_loopback(listen: str) -> bool:
    if listen.startswith("unix:"):
        return True
    host = listen.rpartition(":")[0]
    try:
        address = parse_address(host)
    except ValueError:
        return False
    return host == "localhost" if address is None else unwrapped(address).is_loopback
