"""The HTTP half's part of the config: its settings of checked sections, and the rules between its keys.

`[http]` with `queues: emails, reports` and `[http_emails]` with `rate_limit: 10/s` give two `QueueSettings`: `emails`
with that rate, and `reports` with the defaults. This module must never read a file.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from taskqueue.config.http_keys import HTTP, HTTP_QUEUE, SCHEDULE, http_kind_of, queue_of
from taskqueue.config.http_settings import HttpSettings, QueueSettings, RetrySettings, ScheduleSettings
from taskqueue.config.http_values import queue_fault
from taskqueue.config.inifile import Fault
from taskqueue.config.sections import Section, Sections
from taskqueue.config.settings import FIELD_OF_KEY
from taskqueue.config.values import Raw

WEBHOOK = "webhook"
"""The worker type of our own plugin, whose group has defaults of its own."""
QUEUE_LIMIT = 1_000
DEFAULT_BURST = QueueSettings("").burst
_RETRY = ("max_attempts", "max_age", "min_backoff", "max_backoff", "max_doublings")
_ENTRY = re.compile(r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")
"""A host, or `*.suffix`."""

Values = Mapping[str, Mapping[str, Any]]
"""The values in force by the name of a section, and by key."""


def http_settings(values: Values) -> HttpSettings:
    """The settings of [http], and of all queues and schedules."""
    fields = _fields(values[HTTP])
    named = fields.pop("queues")
    sections = [name for name in values if http_kind_of(name) == HTTP_QUEUE]
    queues = {name: QueueSettings(name) for name in named}
    queues |= {queue_of(name): _queue(queue_of(name), values[name]) for name in sections}
    schedules = tuple(
        _schedule(name.removeprefix("schedule_"), values[name])
        for name in sorted(values)
        if http_kind_of(name) == SCHEDULE
    )
    targets = fields.pop("targets")
    return HttpSettings(
        **fields,
        targets=None if targets == "auto" else targets,
        queues=tuple(queues[name] for name in sorted(queues)),
        schedules=schedules,
    )


def _queue(name: str, values: Mapping[str, Any]) -> QueueSettings:
    fields = _fields(values)
    retry = {FIELD_OF_KEY.get(key, key): fields.pop(FIELD_OF_KEY.get(key, key)) for key in _RETRY}
    fields["permanent_statuses"] = tuple(int(each) for each in fields["permanent_statuses"])
    fields["headers"] = dict(fields["headers"])
    return QueueSettings(name, retry=RetrySettings(**retry), **fields)


def _schedule(name: str, values: Mapping[str, Any]) -> ScheduleSettings:
    fields = _fields(values)
    (queue,) = fields.pop("queue")
    return ScheduleSettings(name, queue=queue, **{**fields, "headers": dict(fields["headers"])})


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    fields = {FIELD_OF_KEY.get(key, key): value for key, value in values.items()}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def http_faults(sections: Sections, values: Values) -> Iterator[Fault]:
    """Every fault between the keys of the HTTP half, and in the names of its sections."""
    http = sections.get(HTTP, Section(HTTP))
    given = values[HTTP]
    for key, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("client_ca", "tls_cert")):
        if given[key] and not given[other]:
            yield http.fault(f"given without {other}; expected both", key)
    if given["processes"] != 1 and given["book"].startswith("sqlite:"):
        yield http.fault("more than one process cannot share an SQLite book; expected 1, or a book in PostgreSQL",
                         "processes")  # fmt: skip
    queues = {name: section for name, section in sections.items() if http_kind_of(name) == HTTP_QUEUE}
    if len({*map(queue_of, queues), *given["queues"]}) > QUEUE_LIMIT:
        yield http.fault(f"more than {QUEUE_LIMIT} queues; expected fewer")
    for name, section in queues.items():
        if (wrong := queue_fault(queue_of(name))) is not None:
            yield section.fault(wrong)
        if values[name]["min_backoff"] > values[name]["max_backoff"]:
            key = "min_backoff" if "min_backoff" in section.origins else "max_backoff"
            yield section.fault("min_backoff is longer than max_backoff; expected it to be at most that", key)
    for name, section in sections.items():
        if http_kind_of(name) == SCHEDULE:
            yield from _schedule_faults(section, values[name])
        elif name == WEBHOOK:
            yield from _webhook_faults(section)


def http_warnings(sections: Sections) -> Iterator[Fault]:
    """What is there without effect."""
    for name, section in sections.items():
        burst = section.values.get("burst")
        if http_kind_of(name) == HTTP_QUEUE and burst not in {None, DEFAULT_BURST} and not _limited(section):
            yield section.fault("without rate_limit it has no effect", "burst")
        if http_kind_of(name) == SCHEDULE:
            yield section.fault("is checked, and not run: fronts of this version have no scheduler yet")


def _limited(section: Section) -> bool:
    return section.values.get("rate_limit") is not None


def _schedule_faults(section: Section, values: Mapping[str, Any]) -> Iterator[Fault]:
    if (values["cron"] is None) == (values["every"] is None):
        yield section.fault("expected exactly one of cron and every")
    if (values["url"] is None) == (values["worker_type"] is None):
        yield section.fault("expected exactly one of url and worker_type")
    if values["body"] is not None and values["json"] is not None:
        yield section.fault("given beside body; expected one of them", "json")
    if len(values["queue"]) != 1:
        yield section.fault("expected the name of one queue", "queue")


def _webhook_faults(section: Section) -> Iterator[Fault]:
    """The keys that the webhook plugin knows: a mistake in them would stop all workers of it."""
    targets = section.own.get("targets", "auto")
    if targets not in {"auto", "public", "private", "any"}:
        yield section.fault(f"{str(targets)[:60]!r} is wrong; expected one of auto, public, private, any", "targets")
    for key in ("targets_allow", "targets_deny"):
        value: Raw = section.own.get(key, [])
        for each in [value] if isinstance(value, str) else value:
            if not _is_entry(each):
                expected = "an address, a network such as 10.0.0.0/8, a name or *.name, each with or without :port"
                yield section.fault(f"{each[:60]!r} is wrong; expected {expected}, or a list of them", key)


def _is_entry(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    if colon and (":" not in host or host.endswith("]")):
        if not (port.isdigit() and int(port) < 65536):
            return False
    else:
        host = text
    try:
        ipaddress.ip_network(host.strip("[]"))
    except ValueError:
        return _ENTRY.fullmatch(host) is not None
    return True


def webhook_own(own: Mapping[str, Raw], http: HttpSettings, *, has_section: bool) -> dict[str, Raw]:
    """The own keys of a webhook group, and two that this host's front decides: how far `targets: auto` reaches, and
    where we listen ourselves.

    `has_section`: whether the config has a section of the front. Without one, a front with defaults may run here, if
    its package is installed; it is then not exposed.
    """
    front = has_section or find_spec("aiohttp") is not None
    reach = "private" if front and not http.exposed else "public"
    listening = [each for each in http.listen if not each.startswith("unix:")] if front else []
    return {**own, "auto_targets": reach, "own_listeners": listening}
