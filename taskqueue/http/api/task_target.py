"""Finds where a task goes: what it says itself, joined with what its queue's `target` says.

A queue with `target: https://mail.example/hooks/` makes of `welcome?x=1` the URL `https://mail.example/hooks/welcome?x=1`,
and refuses absolute URLs, so that who may enqueue there can't choose the host. A queue whose target is a worker type
makes worker tasks of all that it gets. Without a target a task names its own.
"""

from __future__ import annotations

import re
from typing import Any

from taskqueue.config.http_settings import QueueSettings
from taskqueue.http.api.problems import BadField, Fault, fault_at
from taskqueue.http.api.task_fields import ReadingRules, kind_of, read_field, url, worker_type

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|[/\\]{2}")
_DOTS = re.compile(r"(?:^|[/\\])(?:\.|%2e){1,2}(?:[/\\?#]|$)", re.IGNORECASE)
_BARE_ORIGIN = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


def is_url(target: str) -> bool:
    """Whether a queue's target is a URL; else it is a worker type."""
    return target[:8].lower().startswith(("http://", "https://"))


def read_target(
    document: dict[str, Any], queue: QueueSettings, rules: ReadingRules, faults: list[Fault]
) -> tuple[str | None, str | None]:
    """(url, worker type) of a task, one of them None; both are None after a fault, which is added."""
    given_url, given_type = document.get("url"), document.get("worker_type")
    fixed = queue.target
    if given_url is not None and given_type is not None:
        faults.append(fault_at("#/url", "must not be there together with worker_type"))
        return None, None
    if fixed is not None and not is_url(fixed):
        if given_url is not None:
            faults.append(fault_at("#/url", f"must not be there: all tasks of this queue are for worker type {fixed}"))
        elif given_type not in (None, fixed):
            faults.append(fault_at("#/worker_type", f"must be {fixed}, the target of this queue, or absent"))
        return None, fixed
    if given_type is not None:
        if fixed is not None:
            faults.append(fault_at("#/worker_type", "must not be there: all tasks of this queue go to its target URL"))
            return None, None
        return None, read_field(faults, "#/worker_type", given_type, worker_type)
    if fixed is not None:
        return read_field(faults, "#/url", "" if given_url is None else given_url, joined, fixed, rules), None
    if given_url is None:
        faults.append(fault_at("#/url", "is missing; say url, or worker_type for a plugin"))
        return None, None
    return read_field(faults, "#/url", given_url, url, rules), None


def joined(path: Any, target: str, rules: ReadingRules) -> str:
    """The URL of a task's `path` behind a queue's `target`: as text, with one slash where both or neither has one at
    the end of a bare origin. Raises `BadField`."""
    if not isinstance(path, str):
        raise BadField(f"must be a path, and is {kind_of(path)}")
    if _ABSOLUTE.match(path):
        raise BadField("must be a path: it is joined to the target URL of this queue")
    if _DOTS.search(path.partition("?")[0]):
        raise BadField("must not have '.' or '..' as a segment: it would leave the target URL of this queue")
    if not path:
        return url(target, rules)
    if _BARE_ORIGIN.fullmatch(target) and not path.startswith("/"):
        path = f"/{path}"  # or `https://a.example` and `.evil.example` would be another host
    elif target.endswith("/") and path.startswith("/"):
        path = path[1:]
    return url(target + path, rules)
