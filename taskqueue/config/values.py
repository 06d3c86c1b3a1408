"""The kinds of value in config.ini (durations, sizes, hosts …): each a function that checks and converts one value.

A check gets the text of a value, or a list of texts where the value has commas, and the limits from the table in
`config.keys`. `duration("5m", "10ms", "365d")` gives 300.0; `duration("soon", "10ms", "365d")` raises `BadValue`, whose
text ends the line of a fault: `'soon' is wrong; expected a duration such as 30, …, from 10ms to 365d`.

The only user of configobj: `validate` has its validator check all the values of a section. This module must never know
a key by its name, and never put a host or any other value that may hold a password into a message.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import os
import pwd
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any

from configobj import ConfigObj  # type: ignore[import-untyped,unused-ignore]
from configobj.validate import Validator  # type: ignore[import-untyped,unused-ignore]

_SHOWN_CHARACTERS = 60
"""Characters of a bad value that a message repeats; the rest of a longer value is cut off."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")
"""A worker type, and so the name of a section, as in the AMQP contract."""

NAME_IS = "letters, digits, '_', '.' and '-', the first a letter or digit, at most 201"

Raw = str | list[str]
"""A value as the file has it: a list where commas separate items."""
Checks = Mapping[str, Callable[..., object]]
"""The functions that check a value, by the kind of value that a configspec names."""


class BadValue(Exception):
    """A value breaks a rule. Its text is the end of a fault's line: the error, and the expected value."""


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that `word` was most likely meant to be (case and transposed letters forgiven), or None."""
    by_lower = {name.lower(): name for name in known}
    lower = word.lower()
    twisted = [name for name in by_lower if sorted(name) == sorted(lower)]
    found = twisted or difflib.get_close_matches(lower, by_lower, n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a fault's line: `; did you mean 'x'?`, or nothing where no known word is near."""
    near = nearest(word, known)
    return f"; did you mean {near!r}?" if near else ""


def bad(value: str, expected: str, known: Iterable[str] = ()) -> BadValue:
    """The error for a `value` that may be shown; `known` are the words that it may have been meant to be."""
    return BadValue(f"{_shown(value)} is wrong; expected {expected}{did_you_mean(value, known)}")


def _shown(value: str) -> str:
    """`value` for a message: in quotes, unprintable characters escaped, cut to `_SHOWN_CHARACTERS`."""
    return repr(value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "...")


def one(value: Raw) -> str:
    """`value` where it is not a list. Raises `BadValue` without the value, which may be a password."""
    if isinstance(value, list):
        raise BadValue("a list; expected one value, in quotes where it has a comma in it")
    return value


def items(value: Raw) -> list[str]:
    """The items of `value`, one where it is no list."""
    return [value] if isinstance(value, str) else value


# --- kinds that any program has ---------------------------------------------------------------------------------------

_BOOLEANS = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    prefix + suffix: 1024.0**power
    for power, prefixes in enumerate(([""], "kK", "mM", "gG"))
    for prefix in prefixes
    for suffix in ("", "b", "B", "ib", "iB")
}


def _within(given: str, low: str, high: str, units: Mapping[str, float], expected: str) -> float:
    """`given`, a number and perhaps a unit, in seconds or bytes. Raises `BadValue` if not from `low` to `high`."""

    def amount(text: str) -> float:
        match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)", text)
        return float(match[1]) * units[match[2]] if match and match[2] in units else math.nan

    if not amount(low) <= amount(given) <= amount(high):  # never true of NaN
        raise bad(given, f"{expected}, from {low} to {high}")
    return amount(given)


def boolean(value: Raw) -> bool:
    """Whether `value` is yes, true, on or 1; no, false, off and 0 are its opposites. Raises `BadValue`."""
    given = one(value)
    if given.lower() not in _BOOLEANS:
        raise bad(given, "yes or no", _BOOLEANS)
    return _BOOLEANS[given.lower()]


def integer(value: Raw, low: str, high: str) -> int:
    """A whole number from `low` to `high`. Raises `BadValue`."""
    given = one(value)
    if not re.fullmatch(r"[0-9]{1,15}", given) or not int(low) <= int(given) <= int(high):
        raise bad(given, f"a whole number from {low} to {high}")
    return int(given)


def duration(value: Raw, low: str, high: str) -> float:
    """Seconds, from `low` to `high`, which are written as durations, too. Raises `BadValue`."""
    return _within(one(value), low, high, _SECONDS, "a duration such as 30, 1.5s, 5m, 2h or 7d")


def seconds(value: Raw, low: str, high: str) -> int:
    """A duration that must be whole seconds. Raises `BadValue`."""
    found = duration(value, low, high)
    if found != int(found):
        raise bad(one(value), f"whole seconds, from {low} to {high}")
    return int(found)


def size(value: Raw, low: str, high: str) -> int:
    """Bytes, from `low` to `high`, which are written as sizes, too; units are powers of 1024. Raises `BadValue`."""
    return int(_within(one(value), low, high, _BYTES, "a size such as 65536, 512k, 16M or 1 GiB"))


def text(value: Raw, low: str, high: str) -> str:
    """Any text of `low` to `high` bytes in UTF-8. Raises `BadValue` without the text, which may be a password."""
    given = one(value)
    length = len(given.encode())
    if not int(low) <= length <= int(high):
        raise BadValue(f"{length} bytes long; expected {low} to {high}")
    return given


def choice(value: Raw, *words: str) -> str:
    """One of `words`, in the configspec's spelling, whatever the case in the file. Raises `BadValue`."""
    given = one(value)
    found = next((word for word in words if word.lower() == given.lower()), None)
    if found is None:
        raise bad(given, f"one of {', '.join(words)}", words)
    return found


# --- kinds that only taskqueue has ------------------------------------------------------------------------------------

_PORTS = range(1, 65536)


def hosts(value: Raw) -> tuple[tuple[str, int | None], ...]:
    """(host, port or None) of `name`, `name:port` or `[IPv6]:port`, or of each in a list. Raises `BadValue` without
    the value, which may be a URL with a password."""
    found = tuple(_host(each) for each in items(value))
    if not found or None in found:
        wrong = f"host {found.index(None) + 1} of {len(found)} is wrong" if found else "no host"
        raise BadValue(f"{wrong}; expected name, name:port or [IPv6 address]:port, or a list of them")
    return tuple(host for host in found if host)


def _host(given: str) -> tuple[str, int | None] | None:
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?", given)
    if match is None or (match[3] and int(match[3]) not in _PORTS):
        return None
    try:
        host = match[2] or str(ipaddress.IPv6Address(match[1]))
    except ValueError:
        return None
    return host, int(match[3]) if match[3] else None


def plugins(value: Raw) -> tuple[str, ...] | None:
    """Worker types; None for `*`, all of them. Raises `BadValue`."""
    if value == "*":
        return None
    names = items(value)
    if not names or not all(NAME.fullmatch(name) for name in names):
        raise bad(", ".join(names), "* or a list of worker types")
    return tuple(names)


def workers(value: Raw, low: str, high: str) -> int | tuple[str, ...]:
    """A number of processes, or the names of instances; `auto` is one process for each CPU that this process may use.
    Raises `BadValue`."""
    expected = f"a whole number from {low} to {high}, auto, or names of instances"
    names = items(value)
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


def user_exists(name: str) -> bool:
    """Whether this host has a unix user of that name."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def unix_user(value: Raw, exists: Callable[[str], bool]) -> str:
    """The name of a user for whom `exists` is true. Raises `BadValue`."""
    name = one(value)
    if not exists(name):
        raise BadValue(f"no such unix user: {_shown(name)}; expected one of this host's, or none")
    return name


def routing_key(value: Raw) -> str:
    """A queue that results may go to, 1 to 255 bytes (AMQP's shortstr). Raises `BadValue`."""
    key = text(value, "1", "255")
    if re.fullmatch(r"taskqueue|(taskqueue|worker)_.*", key):
        raise bad(key, "any but taskqueue, taskqueue_* and worker_*, or results would be dispatched for ever")
    return key


def prefetch(value: Raw, low: str, high: str) -> int | None:
    """A number of deliveries; None for `auto`. Raises `BadValue`."""
    if isinstance(value, str) and value.lower() == "auto":
        return None
    try:
        return integer(value, low, high)
    except BadValue as error:
        raise BadValue(f"{error}, or auto") from None


def checks(exists: Callable[[str], bool] = user_exists) -> Checks:
    """All kinds of value by their name in a configspec; `exists` says which unix users this host has."""
    kinds: tuple[Callable[..., object], ...] = (
        boolean, integer, duration, seconds, size, text, choice, hosts, plugins, workers, routing_key, prefetch,
    )  # fmt: skip
    return {**{kind.__name__: kind for kind in kinds}, "unix_user": partial(unix_user, exists=exists)}


# --- all values of a section ------------------------------------------------------------------------------------------


def validate(values: Mapping[str, Raw], spec: str, kinds: Checks) -> tuple[dict[str, Any], dict[str, str]]:
    """`values` checked and converted by the configspec `spec`, and the errors of the bad ones, both by key.

    The first has an entry for each key of `spec`, the default where no value was given; a key whose default is None
    also takes `none` and an empty value. Keys that `spec` does not have are left out.
    """
    validator = Validator(kinds)
    validator.baseErrorClass = BadValue
    rules = _rules(spec)
    section = ConfigObj(configspec=rules, interpolation=False)
    for key in rules.scalars:
        if key in values:
            unset = rules[key].endswith("default=None)") and _is_none(values[key])
            section[key] = None if unset else values[key]
    passed = section.validate(validator, preserve_errors=True)
    wrong = {key: str(error) for key, error in passed.items() if error is not True} if passed is not True else {}
    return {key: _plain(section[key]) for key in rules.scalars if key not in wrong}, wrong


def _plain(value: Any) -> Any:
    """A dict that a check gave: configobj has made a section of it, which nobody else can copy."""
    return dict(value) if isinstance(value, dict) else value


@lru_cache
def _rules(spec: str) -> ConfigObj:
    return ConfigObj(spec.splitlines(), list_values=False, interpolation=False, _inspec=True)


def _is_none(value: Raw) -> bool:
    return isinstance(value, str) and value.lower() in ("", "none")
