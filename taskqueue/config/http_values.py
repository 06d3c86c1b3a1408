"""The kinds of value that only the HTTP half has: rates, addresses to listen on, the book, networks, schedules.

`rate("600/m")` gives 10.0 requests a second; `rate("fast")` raises `BadValue`: `'fast' is wrong; expected a rate such
as 10/s, …`. As in `config.values`, a message never holds a value that may have a password in it. What a target, and a
header for one, may be, says the wing `targets`: here, to the front and to the webhook plugin alike.
"""

from __future__ import annotations

import ipaddress
import json
import re
from zoneinfo import ZoneInfo, available_timezones

from taskqueue.config import book_url
from taskqueue.config.values import NAME, NAME_IS, BadValue, Raw, bad, items, one
from taskqueue.errors import TargetRefused
from taskqueue.targets.addresses import parse_address
from taskqueue.targets.headers import check_headers
from taskqueue.targets.urls import check_url

QUEUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
QUEUE_NAME_IS = "letters, digits, '_', '.' and '-', the first a letter or digit, at most 100"
RESERVED_QUEUES = frozenset(
    {"v1", "v2", "v2beta3", "ui", "metrics", "health", "openapi.json", "problems", "static", ".well-known",
     "favicon.ico", "robots.txt"}
)  # fmt: skip
"""First segments of the front's own paths: no queue may have such a name, for `POST /{queue}` is Miyamoto's."""

PER = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""The units of a rate, in seconds."""
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*/\s*(s|m|h|d)")
_LEAST_RATE, _MOST_RATE = 1 / 86400, 100_000.0
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})")
_SOCKET_PATH_LIMIT = 107
"""Bytes of the path of a unix socket, unix(7)."""
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_FIELD = re.compile(r"[0-9A-Za-z*/,#?-]+")
"""A field of a cron line, as far as its letters tell."""
_WORDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


def rate(value: Raw) -> float:
    """Requests a second, of `10/s`, `600/m` or `5000/h`. Raises `BadValue`."""
    given = one(value)
    found = _RATE.fullmatch(given)
    per_second = float(found[1]) / PER[found[2]] if found else 0.0
    if not _LEAST_RATE <= per_second <= _MOST_RATE:
        raise bad(given, "a rate such as 10/s, 600/m or 5000/h, from 1/d to 100000/s, or none")
    return per_second


def listen(value: Raw) -> tuple[str, ...]:
    """Addresses to listen on. Raises `BadValue`."""
    expected = "host:port, [IPv6 address]:port or unix:/path, or a list of them"
    found = tuple(items(value))
    for each in found:
        if not _is_listener(each):
            raise bad(each, expected)
        if found.count(each) > 1:
            raise BadValue(f"names {each!r} more than once; expected each address once")
    if not found:
        raise BadValue(f"nothing; expected {expected}")
    return found


def _is_listener(given: str) -> bool:
    if given.startswith("unix:"):
        path = given.removeprefix("unix:")
        return path.startswith("/") and not path.endswith("/") and len(path.encode()) <= _SOCKET_PATH_LIMIT
    found = _LISTEN.fullmatch(given)
    if found is None or not 0 < int(found[2]) < 65536:
        return False
    try:
        parse_address(found[1])
    except ValueError:
        return False
    return True


def book(value: Raw) -> str:
    """Where the book is. Raises `BadValue` without the value, which may have a password."""
    return book_url.parse(",".join(items(value)))


def processes(value: Raw, high: str) -> int | None:
    """A number of processes; None for `auto`. Raises `BadValue`."""
    given = one(value)
    if given.lower() == "auto":
        return None
    if not re.fullmatch("[0-9]{1,4}", given) or not 1 <= int(given) <= int(high):
        raise bad(given, f"a whole number from 1 to {high}, or auto")
    return int(given)


def attempts(value: Raw, high: str) -> int:
    """A number of attempts; -1 for `unlimited`, any number. Raises `BadValue`."""
    given = one(value)
    if given.lower() in {"unlimited", "-1"}:
        return -1
    if not re.fullmatch("[0-9]{1,7}", given) or not 1 <= int(given) <= int(high):
        raise bad(given, f"a whole number from 1 to {high}, unlimited, or none for the default", ("unlimited",))
    return int(given)


def queue_names(value: Raw) -> tuple[str, ...]:
    """Names of queues of tasks. Raises `BadValue`."""
    for name in _any(value):
        if (wrong := queue_fault(name)) is not None:
            raise BadValue(wrong)
    return tuple(_any(value))


def queue_name(value: Raw) -> str:
    """The name of one queue of tasks. Raises `BadValue`."""
    name = one(value)
    if (wrong := queue_fault(name)) is not None:
        raise BadValue(wrong)
    return name


def queue_fault(name: str) -> str | None:
    """What is wrong with the name of a queue; None: nothing."""
    if not QUEUE_NAME.fullmatch(name):
        return f"{name[:60]!r} is no name of a queue; expected {QUEUE_NAME_IS}"
    if name in RESERVED_QUEUES:
        return f"the name {name!r} is one that the API keeps for itself; expected another name"
    return None


def statuses(value: Raw) -> tuple[int, ...]:
    """HTTP statuses, 300 to 599. Raises `BadValue`."""
    for each in _any(value):
        if not re.fullmatch("[345][0-9]{2}", each):
            raise bad(each, "HTTP statuses from 300 to 599, such as 404, 410")
    return tuple(dict.fromkeys(int(each) for each in _any(value)))


def http_headers(value: Raw) -> dict[str, str]:
    """Headers, each as `Name: value`. Raises `BadValue` without the value, which may be a secret."""
    found: dict[str, str] = {}
    for number, each in enumerate(_any(value), 1):
        name, colon, text = each.partition(":")
        name = name.strip()
        if not colon or not name:
            raise BadValue(f"header {number} is wrong; expected 'Name: value', or a list of them")
        if name.lower() in map(str.lower, found):
            raise BadValue(f"names the header {name[:60]!r} more than once; expected each name once")
        found[name] = text.strip()
    try:
        check_headers(found.items())
    except TargetRefused as error:
        raise BadValue(str(error)) from None
    return found


def http_target(value: Raw) -> str:
    """A URL to which paths are joined, or a worker type. Raises `BadValue`."""
    given = ",".join(items(value))
    return _url(given) if "://" in given else _worker_type(given, "http://… or https://…, or a worker type")


def worker_type(value: Raw) -> str:
    """A worker type that a task may name itself. Raises `BadValue`."""
    return _worker_type(one(value), f"a worker type of {NAME_IS}")


def url_or_path(value: Raw) -> str:
    """An absolute URL, or what is to be joined to the target of a queue. Raises `BadValue`."""
    given = one(value)
    if "://" in given:
        return _url(given)
    if not given or not given.isprintable() or " " in given:
        raise bad(given, "http://… or https://…, or, for a queue with a target, the path behind it")
    return given


def _url(given: str) -> str:
    """Raises `BadValue` without the URL, which may have a password."""
    try:
        check_url(given)
    except TargetRefused as error:
        raise BadValue(f"{error}; expected http://host/path or https://host/path") from None
    if "#" in given:
        raise BadValue("the URL has a fragment, which no request has; expected it without '#'")
    return given


def _worker_type(given: str, expected: str) -> str:
    if given == "webhook":
        raise BadValue("the worker type 'webhook' is for URLs; expected a URL, or another worker type")
    if not NAME.fullmatch(given):
        raise bad(given, expected)
    return given


def networks(value: Raw) -> tuple[str, ...]:
    """Networks and addresses. Raises `BadValue`."""
    for each in _any(value):
        try:
            ipaddress.ip_network(each)
        except ValueError:
            raise bad(each, "an address, or a network such as 10.0.0.0/8 or fd00::/8, or a list of them") from None
    return tuple(_any(value))


def base_path(value: Raw) -> str:
    """What stands before every path, without a slash at its end; "" for nothing. Raises `BadValue`."""
    given = one(value)
    if given.lower() in {"", "/", "none"}:
        return ""
    if not _BASE_PATH.fullmatch(given) or {".", ".."} & set(given.split("/")):
        raise bad(given, "a path such as /tasks, without a slash at its end")
    return given


def cron(value: Raw) -> str:
    """A schedule of five fields, or a word such as @daily. Its commas are part of it. Raises `BadValue`."""
    given = " ".join(",".join(items(value)).split())
    if given.lower() in _WORDS:
        return given.lower()
    fields = given.split(" ")
    if len(fields) != 5 or not all(map(_FIELD.fullmatch, fields)):
        raise bad(given, f"five fields such as 0 3 * * *, or one of {', '.join(_WORDS)}", _WORDS)
    return given


def timezone(value: Raw) -> str:
    """The name of a time zone that this host knows. Raises `BadValue`."""
    given = one(value)
    try:
        ZoneInfo(given)
    except (ValueError, OSError, KeyError):
        raise bad(given, "a time zone such as UTC or Europe/Berlin", sorted(available_timezones())) from None
    return given


def json_text(value: Raw) -> str:
    """Text that is JSON. Raises `BadValue` without the text."""
    given = one(value)
    try:
        json.loads(given)
    except json.JSONDecodeError as error:
        raise BadValue(f"no JSON: {error.msg} at character {error.pos + 1}; expected JSON in single quotes") from None
    except (ValueError, RecursionError):
        raise BadValue("no JSON that can be read; expected JSON in single quotes") from None
    return given


def _any(value: Raw) -> list[str]:
    """The items of a value that may be empty, or `none`."""
    return [] if isinstance(value, str) and value.lower() in ("", "none") else items(value)


KINDS = (
    rate, listen, book, processes, attempts, queue_names, queue_name, statuses, http_headers, http_target, worker_type,
    url_or_path, networks, base_path, cron, timezone, json_text,
)  # fmt: skip
"""All of them: a line of `config.http_keys` names one."""
