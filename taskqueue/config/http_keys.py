"""The keys of the HTTP half's sections, for the one table in `config.keys`: [http], [http_QUEUE], [schedule_NAME]."""

from __future__ import annotations

HTTP, HTTP_QUEUE, SCHEDULE = "http", "http_queue", "schedule"
"""Kinds of section. Of the last two there can be many: their names begin so, and go on with `_`."""

HTTP_SPECS = {
    HTTP: """
        listen = listen(default="127.0.0.1:8088")
        book = book(default="sqlite:/var/lib/taskqueue/http.db")
        queues = queue_names(default=list())
        processes = processes(256, default="1")
        max_body = size(1k, 16M, default="1M")
        idempotency_ttl = duration(1s, 365d, default="24h")
        name_ttl = duration(0, 365d, default="1h")
        keep_finished = duration(0, 3650d, default="3d")
        keep_dead = duration(0, 3650d, default="30d")
        keep_body = duration(0, 3650d, default="24h")
        keep_body_size = size(0, 16M, default="64k")
        keep_response = size(0, 64k, default="4k")
        max_task_age = duration(1m, 366d, default="31d")
        tls_cert = text(1, 4096, default=None)
        tls_key = text(1, 4096, default=None)
        client_ca = text(1, 4096, default=None)
        trusted_proxies = networks(default=list())
        base_path = base_path(default="")
        targets = choice("auto", "public", "private", "any", default="auto")
        """,
    HTTP_QUEUE: """
        rate_limit = rate(default=None)
        burst = integer(1, 1000000, default="100")
        concurrency = integer(1, 100000, default="1000")
        timeout = duration(100ms, 1d, default="30s")
        target = http_target(default=None)
        permanent_statuses = statuses(default=list("410"))
        follow_redirects = integer(0, 3, default="0")
        sign = boolean(default="no")
        headers = http_headers(default=list())
        max_attempts = attempts(1000000, default=None)
        max_age = duration(0, 366d, default=None)
        min_backoff = duration(0, 31d, default="100ms")
        max_backoff = duration(0, 31d, default="1h")
        max_doublings = integer(0, 64, default="16")
        """,
    SCHEDULE: """
        cron = cron(default=None)
        every = duration(1s, 366d, default=None)
        timezone = timezone(default="UTC")
        queue = queue_name(default="default")
        url = url_or_path(default=None)
        method = choice("POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", default="POST")
        headers = http_headers(default=list())
        body = text(0, 1048576, default=None)
        json = json_text(default=None)
        worker_type = worker_type(default=None)
        catch_up = choice("latest", "all", "none", default="latest")
        overlap = choice("allow", "skip", default="allow")
        jitter = duration(0, 1d, default="0")
        """,
}
"""As `keys.CONFIGSPEC`."""


def http_kind_of(section: str) -> str | None:
    """The kind of the section, where it is one of the HTTP half; None where it is not."""
    if section == HTTP:
        return HTTP
    if section.startswith("http_"):
        return HTTP_QUEUE
    return SCHEDULE if section.startswith("schedule_") else None


def queue_of(section: str) -> str:
    """The queue whose rules the section `http_…` has."""
    return section.removeprefix("http_")


def schedule_of(section: str) -> str:
    """The schedule that the section `schedule_…` is."""
    return section.removeprefix("schedule_")
