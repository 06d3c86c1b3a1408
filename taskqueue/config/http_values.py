"""The kinds of value that only the HTTP half has: rates, addresses to listen on, the book, networks, schedules.

`rate("600/m")` gives 10.0 requests a second; `rate("fast")` raises `BadValue`: `'fast' is wrong; expected a rate such
as 10/s, …`. As in `config.values`, a message never holds a value that may have a password in it.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from taskqueue.config.values import NAME, BadValue, Raw, bad, items, one

QUEUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
QUEUE_NAME_IS = "letters, digits, '_', '.' and '-', the first a letter or digit, at most 100"
RESERVED_QUEUES = frozenset(
    {"v1", "v2", "v2beta3", "ui", "metrics", "health", "openapi.json", "problems", "static", ".well-known",
     "favicon.ico", "robots.txt"}
)  # fmt: skip
"""First segments of the front's own paths: no queue may have such a name, for `POST /{queue}` is Miyamoto's."""

_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*/\s*(s|m|h|d)")
_PER = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LEAST_RATE, _MOST_RATE = 1 / 86400, 100_000.0
_LISTEN = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:\s*([^\x00-\x1f\x7f]*)")
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_WORDS = "@yearly @annually @monthly @weekly @daily @midnight @hourly"


def rate(value: Raw) -> float:
    """Requests a second, of `10/s`, `600/m` or `5000/h`. Raises `BadValue`."""
    given = one(value)
    found = _RATE.fullmatch(given)
    per_second = float(found[1]) / _PER[found[2]] if found else 0.0
    if not _LEAST_RATE <= per_second <= _MOST_RATE:
        raise bad(given, "a rate such as 10/s, 600/m or 5000/h, from 1/d to 100000/s, or none")
    return per_second


def listen(value: Raw) -> tuple[str, ...]:
    """Addresses to listen on. Raises `BadValue`."""
    found = tuple(items(value))
    for each in found:
        port = _LISTEN.fullmatch(each)
        if not (port and 0 < int(port[1]) < 65536) and not (each.startswith("unix:/") and len(each) < 108):
            raise bad(each, "host:port, [IPv6 address]:port or unix:/path, or a list of them")
    if not found:
        raise BadValue("nothing; expected host:port, [IPv6 address]:port or unix:/path, or a list of them")
    return found


def book(value: Raw) -> str:
    """Where the book is. Raises `BadValue` without the value, which may have a password."""
    given = ",".join(items(value))
    if given.startswith("sqlite:/"):
        return given
    parts = urlsplit(given)
    if parts.scheme in {"postgresql", "postgres"} and parts.path.strip("/"):
        return given
    raise BadValue("neither kind of book; expected sqlite:/path/of/a/file, or postgresql://user:password@host/database")


def processes(value: Raw, high: str) -> int | None:
    """A number of processes; None for `auto`. Raises `BadValue`."""
    given = one(value)
    if given.lower() == "auto":
        return None
    if not re.fullmatch("[0-9]{1,4}", given) or not 1 <= int(given) <= int(high):
        raise bad(given, f"a whole number from 1 to {high}, or auto")
    return int(given)


def queue_names(value: Raw) -> tuple[str, ...]:
    """Names of queues of tasks. Raises `BadValue`."""
    for name in _any(value):
        if (wrong := queue_fault(name)) is not None:
            raise BadValue(wrong)
    return tuple(_any(value))


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
    return tuple(int(each) for each in _any(value))


def http_headers(value: Raw) -> dict[str, str]:
    """Headers, each as `Name: value`. Raises `BadValue` without the value, which may be a secret."""
    found: dict[str, str] = {}
    for number, each in enumerate(_any(value), 1):
        header = _HEADER.fullmatch(each)
        if header is None:
            raise BadValue(f"header {number} is wrong; expected 'Name: value', or a list of them")
        found[header[1]] = header[2].strip()
    return found


def http_target(value: Raw) -> str:
    """A URL to which paths are joined, or a worker type. Raises `BadValue`."""
    given = ",".join(items(value))
    parts = urlsplit(given)
    if parts.scheme in {"http", "https"} and parts.hostname and not parts.fragment and parts.username is None:
        return given
    if "://" in given or not NAME.fullmatch(given) or given == "webhook":
        raise bad(given, "http://… or https://…, or a worker type other than webhook")
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
    if given in {"", "/", "none"}:
        return ""
    if not _BASE_PATH.fullmatch(given):
        raise bad(given, "a path such as /tasks, without a slash at its end")
    return given


def cron(value: Raw) -> str:
    """A schedule of five fields, or a word such as @daily. Its commas are part of it. Raises `BadValue`."""
    given = " ".join(",".join(items(value)).split())
    if given not in _WORDS.split() and len(given.split(" ")) != 5:
        raise bad(given, f"five fields such as '0 3 * * *', or one of {_WORDS.replace(' ', ', ')}")
    return given


def timezone(value: Raw) -> str:
    """The name of a time zone that this host knows. Raises `BadValue`."""
    given = one(value)
    try:
        ZoneInfo(given)
    except (ValueError, OSError, KeyError):
        raise bad(given, "a time zone such as UTC or Europe/Berlin") from None
    return given


def any_text(value: Raw) -> str:
    """Any text; its commas are part of it."""
    return ", ".join(items(value))


def _any(value: Raw) -> list[str]:
    """The items of a value that may be empty, or `none`."""
    return [] if value in ("", "none") else items(value)


KINDS = (
    rate, listen, book, processes, queue_names, statuses, http_headers, http_target, networks, base_path, cron,
    timezone, any_text,
)  # fmt: skip
