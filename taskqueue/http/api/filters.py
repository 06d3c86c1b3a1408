"""Reads which tasks a list, or a bulk operation, is about: the query of `GET /v1/tasks`, the body of `/v1/tasks:retry`.

`read_filter("state=dead,expired&queue=emails&since=1h", now_ms)` gives `TaskFilter(states={DEAD, EXPIRED},
queue="emails", since_ms=…)`. Every fault is told at once, with the parameter or the pointer where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from taskqueue.config.http_values import QUEUE_NAME
from taskqueue.http.api.cursors import Place, read_cursor
from taskqueue.http.api.problems import BadField, Fault, Problem, fault_at, fault_of_field
from taskqueue.http.api.queue_fields import rate
from taskqueue.http.api.task_fields import NAME_LIMIT, kind_of, text, unknown_keys
from taskqueue.http.api.times import read_duration, read_time
from taskqueue.http.states import TaskState

LIMIT = 50
"""Tasks of a page, unless the client says."""
MOST = 1000
_AGO_LIMIT_S = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks are meant: those that meet every condition that is not None or empty. Times are Unix time in ms."""

    states: frozenset[TaskState] = frozenset()
    """As `states.shown` gives them."""
    queue: str | None = None
    name: str | None = None
    id_prefix: str | None = None
    url_prefix: str | None = None
    status_code: int | None = None
    """Of the last answer."""
    tag: str | None = None
    text: str | None = None
    """Somewhere in the name, the URL or the error."""
    since_ms: int | None = None
    """Created then or later."""
    until_ms: int | None = None
    """Created before."""
    limit: int = LIMIT
    after: Place | None = None
    """Only what follows this place of the list."""


@dataclass(frozen=True, slots=True)
class BulkRequest:
    """What `POST /v1/tasks:retry` or `:cancel` asks for."""

    filter: TaskFilter
    dry_run: bool = False
    """Only count."""
    rate: float | None = None
    """Tasks per second; None for all at once."""


def _states(value: Any, now_ms: int) -> frozenset[TaskState]:
    found = set()
    for each in value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]:
        try:
            found.add(TaskState(each.strip() if isinstance(each, str) else each))
        except ValueError:
            raise BadField(f"must be of {', '.join(TaskState)}") from None
    return frozenset(found)


def _queue(value: Any, now_ms: int) -> str:
    if not isinstance(value, str) or not QUEUE_NAME.fullmatch(value):
        raise BadField("must be the name of a queue")
    return value


def _time(value: Any, now_ms: int) -> int:
    """A time, or a duration before now: `1h` is an hour ago."""
    if isinstance(value, str) and len(value) > 15:
        return read_time(value)
    try:
        return now_ms - round(read_duration(value, _AGO_LIMIT_S) * 1000)
    except BadField:
        raise BadField('must be a time such as "2026-12-24T18:00:00Z", or how long ago, such as 1h') from None


def _integer(value: Any, least: int, most: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if type(value) is not int or not least <= value <= most:
        raise BadField(f"must be a whole number from {least} to {most}")
    return value


def _text(most: int) -> Callable[[Any, int], str]:
    return lambda value, now_ms: text(value, most)


_CONDITIONS: Mapping[str, tuple[str, Callable[[Any, int], Any]]] = {
    "state": ("states", _states),
    "queue": ("queue", _queue),
    "name": ("name", _text(NAME_LIMIT)),
    "id_prefix": ("id_prefix", lambda value, now_ms: text(value, 36).lower()),
    "url_prefix": ("url_prefix", _text(8192)),
    "status_code": ("status_code", lambda value, now_ms: _integer(value, 100, 599)),
    "tag": ("tag", _text(100)),
    "text": ("text", _text(200)),
    "since": ("since_ms", _time),
    "until": ("until_ms", _time),
}
_PAGING: Mapping[str, tuple[str, Callable[[Any, int], Any]]] = {
    "limit": ("limit", lambda value, now_ms: _integer(value, 1, MOST)),
    "cursor": ("after", lambda value, now_ms: read_cursor(value)),
}


def read_filter(query: str, now_ms: int, queue: str | None = None) -> TaskFilter:
    """The tasks that the query of a list means; `queue` is the one that the path names. Raises `Problem`."""
    faults: list[Fault] = []
    fields = _read(_of_query(query, faults), {**_CONDITIONS, **_PAGING}, now_ms, faults, fault_of_field)
    return _made(fields, queue, faults, fault_of_field)


def read_bulk(query: str, document: Any, now_ms: int) -> BulkRequest:
    """What a bulk operation is about: conditions in the query, or in the body as keys or in `filter`. Raises `Problem`:
    validation, too for none at all, which could only be meant as `{"all": true}`."""
    if document is not None and type(document) is not dict:
        raise Problem("validation", errors=[fault_at("#", f"must be an object, and is {kind_of(document)}")])
    faults: list[Fault] = []
    given = dict(document or {})
    inner = given.pop("filter", None)
    options = {key: given.pop(key, None) for key in ("dry_run", "rate", "all")}
    fields = _read(given, _CONDITIONS, now_ms, faults, lambda key, detail: fault_at(f"#/{key}", detail),
                   ("filter", *options))  # fmt: skip
    if type(inner) is dict:
        fields |= _read(inner, _CONDITIONS, now_ms, faults, lambda key, detail: fault_at(f"#/filter/{key}", detail))
    elif inner is not None:
        faults.append(fault_at("#/filter", f"must be an object, and is {kind_of(inner)}"))
    in_query = _of_query(query, faults)
    dry_run = in_query.pop("dry_run", None)
    if dry_run is not None:
        options["dry_run"] = {"true": True, "1": True, "false": False, "0": False}.get(str(dry_run), dry_run)
    fields |= _read(in_query, _CONDITIONS, now_ms, faults, fault_of_field, ("dry_run",))
    for key in ("dry_run", "all"):
        if options[key] is not None and type(options[key]) is not bool:
            faults.append(fault_at(f"#/{key}", f"must be true or false, and is {kind_of(options[key])}"))
    per_second = None
    try:
        per_second = rate(options["rate"]) if options["rate"] is not None else None
    except BadField as error:
        faults.append(fault_at("#/rate", str(error)))
    if not fields and not faults and options["all"] is not True:
        faults.append(fault_at("#", f'must have a condition ({", ".join(_CONDITIONS)}), or "all": true'))
    return BulkRequest(_made(fields, None, faults, fault_of_field), options["dry_run"] is True, per_second)


def _of_query(query: str, faults: list[Fault]) -> dict[str, Any]:
    """The parameters by name; blank ones are left out; `state` may be there more than once."""
    found: dict[str, Any] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if value == "":
            continue
        if key == "state" and key in found:
            found[key] = f"{found[key]},{value}"
        elif key in found:
            faults.append(fault_of_field(key[:100], "must be there once"))
        else:
            found[key] = value
    return found


def _read(
    given: Mapping[str, Any],
    table: Mapping[str, tuple[str, Callable[[Any, int], Any]]],
    now_ms: int,
    faults: list[Fault],
    fault: Callable[[str, str], Fault],
    others: Iterable[str] = (),
) -> dict[str, Any]:
    near: list[Fault] = []
    unknown_keys(near, "#", given, (*table, *others))
    faults.extend(fault(each["pointer"][2:], each["detail"]) for each in near)
    found: dict[str, Any] = {}
    for key, (name, reader) in table.items():
        if given.get(key) is not None:
            try:
                found[name] = reader(given[key], now_ms)
            except BadField as error:
                faults.append(fault(key, str(error)))
    return found


def _made(
    fields: Mapping[str, Any], queue: str | None, faults: list[Fault], fault: Callable[[str, str], Fault]
) -> TaskFilter:
    since, until = fields.get("since_ms"), fields.get("until_ms")
    if since is not None and until is not None and since >= until:
        faults.append(fault("since", "must be before until"))
    if queue is not None and fields.get("queue", queue) != queue:
        faults.append(fault("queue", "must be the queue of the path, or absent"))
    if faults:
        raise Problem("validation", errors=faults)
    found = TaskFilter(**fields)
    return found if queue is None else replace(found, queue=queue)
