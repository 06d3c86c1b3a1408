"""The rules between the keys of [http], [http_QUEUE] and [schedule_NAME], and in the names of these sections.

`tls_cert` needs `tls_key`; a schedule has `cron` or `every`, and not both. A key whose value is wrong has had its fault
from `config.values`: no rule here may make a second one of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from taskqueue.config.http_keys import HTTP, HTTP_QUEUE, SCHEDULE, http_kind_of, queue_of, schedule_of
from taskqueue.config.http_settings import QueueSettings
from taskqueue.config.http_values import QUEUE_NAME, QUEUE_NAME_IS, queue_fault
from taskqueue.config.inifile import Fault
from taskqueue.config.sections import Section, Sections

QUEUE_LIMIT = 1_000
_BURST = QueueSettings("").burst

Values = Mapping[str, Mapping[str, Any]]
"""The values in force by the name of a section, and by key."""


def http_faults(sections: Sections, values: Values) -> Iterator[Fault]:
    """Every fault between the keys of the HTTP half, and in the names of its sections."""
    yield from _front_faults(sections.get(HTTP, Section(HTTP)), values[HTTP])
    queues = {queue_of(name): section for name, section in sections.items() if http_kind_of(name) == HTTP_QUEUE}
    every = {*queues, *values[HTTP]["queues"]}
    if len(every) > QUEUE_LIMIT:
        where = sections[HTTP] if HTTP in sections else next(iter(queues.values()))
        yield where.fault(f"there are {len(every)} queues; expected at most {QUEUE_LIMIT}")
    for name, section in queues.items():
        yield from _queue_faults(name, section, values[section.name])
    for name, section in sections.items():
        if http_kind_of(name) == SCHEDULE:
            yield from _schedule_faults(section, values, queues)


def http_warnings(sections: Sections) -> Iterator[Fault]:
    """What is there without effect."""
    for name, section in sections.items():
        kind = http_kind_of(name)
        if kind == HTTP_QUEUE and section.values.get("burst", _BURST) != _BURST and not _is_set(section, "rate_limit"):
            yield section.fault("without rate_limit it has no effect", "burst")
        if kind == SCHEDULE:
            yield section.fault("is checked, and not run: fronts of this version have no scheduler yet")


def _is_set(section: Section, key: str) -> bool:
    """Whether the file has a value for the key, other than `none`; a wrong one counts."""
    return key in section.origins and section.values.get(key, "") is not None


def _is_wrong(section: Section, *keys: str) -> bool:
    return any(key in section.origins and key not in section.values for key in keys)


def _front_faults(http: Section, given: Mapping[str, Any]) -> Iterator[Fault]:
    for key, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if _is_set(http, key) and not _is_set(http, other):
            yield http.fault(f"given without {other}; expected both or none", key)
    if _is_set(http, "client_ca") and not (_is_set(http, "tls_cert") or _is_set(http, "tls_key")):
        yield http.fault("given without tls_cert and tls_key; expected all three", "client_ca")
    if given["processes"] != 1 and given["book"].startswith("sqlite:") and not _is_wrong(http, "book"):
        why = "more than one process cannot share an SQLite book"
        yield http.fault(f"{why}; expected 1, or a book in PostgreSQL", "processes")


def _queue_faults(queue: str, section: Section, given: Mapping[str, Any]) -> Iterator[Fault]:
    if (wrong := queue_fault(queue)) is not None:
        yield section.fault(wrong)
    low, high = "min_backoff", "max_backoff"
    if given[low] > given[high] and not _is_wrong(section, low, high):
        key = low if low in section.origins else high
        yield section.fault(
            f"min_backoff is {given[low]:g} s, max_backoff {given[high]:g} s; expected it to be no more", key
        )


def _schedule_faults(section: Section, values: Values, queues: Sections) -> Iterator[Fault]:
    given, name = values[section.name], schedule_of(section.name)
    if not QUEUE_NAME.fullmatch(name):
        yield section.fault(f"{name[:60]!r} is no name of a schedule; expected {QUEUE_NAME_IS}")
    for key, other in (("every", "cron"), ("worker_type", "url"), ("json", "body"), ("method", "worker_type")):
        if _is_set(section, key) and _is_set(section, other):
            yield section.fault(f"given beside {other}; expected one of them", key)
    if not _is_set(section, "cron") and not _is_set(section, "every"):
        yield section.fault("neither cron nor every; expected one of them")
    queue = given["queue"]
    known = queue in queues or queue in values[HTTP]["queues"]
    of_queue = queues[queue] if queue in queues else Section(queue)
    if _is_wrong(section, "queue") or _is_wrong(of_queue, "target"):
        return
    if not _is_set(section, "url") and not _is_set(section, "worker_type"):
        if not _is_set(of_queue, "target"):
            yield section.fault(f"neither url nor worker_type, and queue {queue!r} has no target; expected one of them")
    elif (
        given["url"] is not None and known and "://" in given["url"] and "://" in (of_queue.values.get("target") or "")
    ):
        yield section.fault(
            f"an absolute URL, and queue {queue!r} has a target; expected what is joined to that", "url"
        )
    elif given["url"] is not None and known and "://" not in given["url"] and not _is_set(of_queue, "target"):
        yield section.fault(f"queue {queue!r} has no target to join it to; expected http://… or https://…", "url")
