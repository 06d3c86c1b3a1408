"""The values of the config that are in force, as rows for people and as JSON, each with its origin.

It must never let a password through: neither taskqueue's own nor what looks like one among a plugin's keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from taskqueue.cli.terminal.columns import Column
from taskqueue.cli.terminal.show import Show
from taskqueue.config.book_url import shown as book_shown
from taskqueue.config.http_values import PER
from taskqueue.config.sections import EffectiveValue

HIDDEN = "********"
_SECRET = re.compile(r"pass(wd|word|phrase|code)?$|passw|secret|token|credential|(api|private|secret|access)_?key|_pw$")
_LOGIN = re.compile(r"(?<=://)([^/@\s]*?):[^/@\s]*@")
"""The password of a URL."""

DEFAULT = "default"
_COLUMNS = (
    Column("section"),
    Column("key", style="bold"),
    Column("value"),
    Column("from", styles={DEFAULT: "dim"}),
)

Row = tuple[str, EffectiveValue]
"""A section, or a group by its name, and a value in force there."""


def show_values(show: Show, rows: Iterable[Row]) -> None:
    """A table, or with JSON a list, of `rows`."""
    if show.as_json:
        show.document(as_json(rows))
    else:
        show.table(_COLUMNS, ((section, value.key, _text(value), value.origin or DEFAULT) for section, value in rows))


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Values as numbers in seconds and bytes, true and false, lists and texts; null for none."""
    return [
        {"section": section, "key": value.key, "value": _plain(value), "from": value.origin or DEFAULT}
        for section, value in rows
    ]


def _plain(effective: EffectiveValue) -> Any:
    if effective.kind == "hosts":
        return _hosts(effective.value)
    return _shown(effective)


def _text(effective: EffectiveValue) -> str:
    """As it would be written in the file."""
    shown, kind = _shown(effective), effective.kind
    return "none" if shown is None and kind not in _WRITTEN else _WRITTEN.get(kind, _words)(shown)


def _shown(effective: EffectiveValue) -> Any:
    """The value without passwords."""
    key, kind, value, _origin = effective
    if key == "passwd" or (not kind and _SECRET.search(key.lower())):
        return HIDDEN
    if kind == "book":
        return book_shown(value)
    if isinstance(value, str):
        return _LOGIN.sub(rf"\1:{HIDDEN}@", value)
    if kind == "http_headers":
        return dict.fromkeys(value, HIDDEN)
    if isinstance(value, list):
        return [_LOGIN.sub(rf"\1:{HIDDEN}@", each) for each in value]
    return value


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list | tuple) else str(value)


def _hosts(hosts: Iterable[tuple[str, int | None]]) -> list[str]:
    bracketed = ((f"[{host}]" if ":" in host else host, port) for host, port in hosts)
    return [f"{host}:{port}" if port else host for host, port in bracketed]


def _duration(value: float | None) -> str:
    if value is None:
        return "none"
    for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60)):
        if value and value % seconds == 0:
            return f"{value // seconds:.0f}{unit}"
    return f"{value * 1000:g}ms" if 0 < value < 1 else f"{value:.3f}".rstrip("0").rstrip(".") + "s"


def _size(value: int | None) -> str:
    if value is None:
        return "none"
    for unit, power in (("G", 30), ("M", 20), ("k", 10)):
        if value % (1 << power) == 0:
            return f"{value >> power}{unit}"
    return str(value)


def _rate(value: float | None) -> str:
    """In the first unit that needs no more than six decimals."""
    if value is None:
        return "none"
    for unit, seconds in PER.items():
        amount = round(value * seconds, 6)
        if abs(amount - value * seconds) <= 1e-9 * amount:
            return f"{amount:.6f}".rstrip("0").rstrip(".") + f"/{unit}"
    return f"{value:g}/s"


def _listed(values: Iterable[str]) -> str:
    return ", ".join(values) or "none"


_WRITTEN: dict[str, Callable[[Any], str]] = {
    "boolean": lambda value: "yes" if value else "no",
    "duration": _duration,
    "seconds": _duration,
    "size": _size,
    "hosts": lambda value: ", ".join(_hosts(value)),
    "plugins": lambda value: "*" if value is None else ", ".join(value),
    "rate": _rate,
    "attempts": lambda value: "none" if value is None else "unlimited" if value < 0 else str(value),
    "queue_names": _listed,
    "networks": _listed,
    "processes": lambda value: "auto" if value is None else str(value),
    "http_headers": lambda value: ", ".join(f"{name}: {HIDDEN}" for name in value) or "none",
    "statuses": lambda value: _listed(map(str, value)),
    "prefetch": lambda value: "auto" if value is None else str(value),
}
"""By kind of value; all others are written as they are."""
