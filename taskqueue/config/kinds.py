"""The kinds of configured value that only taskqueue has: hosts, workers, users, routing keys, and the broker's URL.

This module must never put a host or a URL into a message: either may hold a password.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, unquote

from taskqueue.config import inifile
from taskqueue.config.inifile import NAME, BadValue, Raw, bad


def _list(value: Raw) -> list[str]:
    return [value] if isinstance(value, str) else value


_PORTS = range(1, 65536)


def _hosts(value: Raw) -> tuple[tuple[str, int | None], ...]:
    """`name`, `name:port` or `[IPv6]:port`, or a list of them. Never shown: it may be a URL with a password."""
    hosts = tuple(_host(each) for each in _list(value))
    if not hosts or None in hosts:
        which = f"host {hosts.index(None) + 1} of {len(hosts)} is wrong" if hosts else "no host"
        raise BadValue(f"{which}; expected name, name:port or [IPv6 address]:port, or a list of them")
    return tuple(host for host in hosts if host)


def _host(given: str) -> tuple[str, int | None] | None:
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?", given)
    if match is None or (match[3] and int(match[3]) not in _PORTS):
        return None
    try:
        host = match[2] or str(ipaddress.IPv6Address(match[1]))
    except ValueError:
        return None
    return host, int(match[3]) if match[3] else None


def _plugins(value: Raw) -> tuple[str, ...] | None:
    if value == "*":
        return None
    names = _list(value)
    if not names or not all(NAME.fullmatch(name) for name in names):
        raise bad(", ".join(names), "* or a list of worker types")
    return tuple(names)


def _workers(value: Raw, low: str, high: str) -> int | tuple[str, ...]:
    """A number of processes, or the names of instances; `auto` is one for each CPU that this process may use."""
    expected = f"a whole number from {low} to {high}, auto, or names of instances"
    names = _list(value)
    if isinstance(value, str) and value.lower() == "auto":
        return len(os.sched_getaffinity(0))
    if isinstance(value, str) and re.fullmatch("[0-9]{1,5}", value) and int(low) <= int(value) <= int(high):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]*)?", value):
        raise bad(value, expected)
    if not names or not all(NAME.fullmatch(name) for name in names):
        raise bad(", ".join(names), expected)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadValue(f"names instance {twice!r} more than once; expected each name once")
    return tuple(names)


def unix_user(value: Raw, exists: Callable[[str], bool]) -> str:
    """The name of a user for whom `exists` is true."""
    name = inifile.one(value)
    if not exists(name):
        raise BadValue(f"no such unix user: {inifile.shown(name)}; expected one of this host's, or none")
    return name


def user_exists(name: str) -> bool:
    """Whether this host has a unix user of that name."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _routing_key(value: Raw) -> str:
    key = inifile.text(value, "1", "255")
    if re.fullmatch(r"taskqueue|(taskqueue|worker)_.*", key):
        raise bad(key, "any but taskqueue, taskqueue_* and worker_*, or results would be dispatched for ever")
    return key


def _prefetch(value: Raw, low: str, high: str) -> int | None:
    if isinstance(value, str) and value.lower() == "auto":
        return None
    try:
        return inifile.integer(value, low, high)
    except BadValue as error:
        raise BadValue(f"{error}, or auto") from None


CHECKS: inifile.Checks = {
    "hosts": _hosts,
    "plugins": _plugins,
    "workers": _workers,
    "routing_key": _routing_key,
    "prefetch": _prefetch,
    "unix_user": partial(unix_user, exists=user_exists),
}


def amqp_url(url: str) -> dict[str, Any]:
    """The keys of [amqp] that a URL gives; it always gives host, port, vhost and ssl. Raises BadValue, without the URL.

    https://www.rabbitmq.com/docs/uri-spec, but an empty path is the vhost `/`, and there can be several hosts.
    """
    if not url:
        return {}
    match = re.fullmatch(r"(amqps?)://(?:([^/?#@\s]*)@)?([^/?#@\s]*)(?:/([^?#@\s]*))?(?:\?([^#@\s]*))?", url, re.I)
    if match is None:
        raise BadValue("not a URL; expected amqp[s]://user:password@host:port/vhost, special characters as %XX")
    scheme, login, hosts, vhost, query = match.groups(default="")
    values: dict[str, Any] = {"ssl": scheme.lower() == "amqps", "port": None}
    try:
        values["host"] = _hosts(hosts.split(",") if hosts else "localhost")
        values["vhost"] = unquote(vhost, errors="strict") or "/"
        user, *passwd = (unquote(part, errors="strict") for part in login.split(":", 1))
        values |= {"user": user} if user else {}
        values |= {"passwd": passwd[0]} if passwd else {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name != "heartbeat":
                raise BadValue("unknown parameter after '?'; expected no other than heartbeat")
            values["heartbeat"] = inifile.seconds(value, "0", "65535")
    except UnicodeDecodeError:
        raise BadValue("bad encoding; expected UTF-8 as %XX") from None
    return values
