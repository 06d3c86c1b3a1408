"""How a configuration file is written: lines, sections, lists, comments, and the kinds of value (durations, sizes …).

The only user of configobj. ConfigObj takes neither `:` nor `;`, and stops counting at the first surprise, so each line
is first put into ConfigObj's own form, line for line: line numbers in messages are the file's own.

This module must never know a section or a key of taskqueue by name (`config` does), never log, and never put a line or
a value that could be a password into a message.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from configobj import ConfigObj, ConfigObjError  # type: ignore[import-untyped,unused-ignore]
from configobj.validate import Validator  # type: ignore[import-untyped,unused-ignore]

_SHOWN_CHARACTERS = 60

MAX_FILE_BYTES = 1024 * 1024
"""A configuration file larger than this is a mistake (a log, a core), not a configuration."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")
"""A worker type, and so a section, as AMQP's side of the contract has it."""

NAME_IS = "letters, digits, '_', '.' and '-', the first a letter or digit, at most 201"

_SECTION = re.compile(r"\s*\[(.*)\]\s*(?:[#;].*)?")
_KEY = re.compile(r"""\s*([^\s:=\[\]"',#;]+)\s*[:=]""")
# One item of a value, matched in its line: `#` and `;` start a comment only after white space and outside of quotes,
# and quotes are quotes only where an item begins.
_ITEM = re.compile(
    r"""\s*(?: "(?P<double>[^"]*)" | '(?P<single>[^']*)'
             | (?P<bare>(?!["'])(?!(?<=\s)[#;])[^,\s]+(?:\s+(?![#;])[^,\s]+)*)? )
        \s*(?P<end>,|(?<=\s)[#;].*|$)""",
    re.VERBOSE,
)

Raw = str | list[str]
Checks = Mapping[str, Callable[..., object]]


class BadValue(Exception):
    """A value breaks a rule. The text says what is wrong and what was expected, for the end of a fault's line."""


class Fault(NamedTuple):
    """One line for a person. `line` 0 means the file as a whole; `path` may be an environment variable's name."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}" if self.line else f"{self.path}: {self.text}"


class Block(NamedTuple):
    """One section as one file has it: its values still as text, and the line of its head and of each key."""

    path: str
    name: str
    line: int
    values: dict[str, Raw]
    lines: dict[str, int]


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


# --- reading ----------------------------------------------------------------------------------------------------------


def read_all(path: str, must_exist: bool) -> tuple[list[Block], list[Fault]]:
    """The sections of `path` and then of `conf.d/*.ini` beside it, by name, and every fault of their form.

    A file that does not exist has no sections; it is a fault only for `path`, and only where it `must_exist`.
    """
    main = Path(path)
    more = main.parent / "conf.d"
    blocks: list[Block] = []
    faults: list[Fault] = []
    files = [main]
    try:
        files += sorted(file for file in more.iterdir() if file.suffix == ".ini" and not file.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        faults.append(_unreadable(str(more), error))
    for file in files:
        try:
            found, wrong = _read(file)
        except FileNotFoundError:
            found, wrong = [], [Fault(path, 0, "no such file")] if must_exist and file is main else []
        blocks += found
        faults += wrong
    return blocks, faults


def _unreadable(path: str, error: OSError) -> Fault:
    return Fault(path, 0, f"cannot be read: {os.strerror(error.errno or 0).lower()}")


def _read(file: Path) -> tuple[list[Block], list[Fault]]:
    """One file. Raises FileNotFoundError, and nothing else."""
    path = str(file)
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        return [], [_unreadable(path, error)]
    if len(data) > MAX_FILE_BYTES:
        return [], [Fault(path, 0, f"larger than {MAX_FILE_BYTES} bytes; expected a configuration file")]
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        return [], [Fault(path, line, "a NUL byte; expected a text file in UTF-8")]
    return _parse(path, data.removeprefix(b"\xef\xbb\xbf").split(b"\n"))


def _parse(path: str, encoded: list[bytes]) -> tuple[list[Block], list[Fault]]:
    """Each line becomes one line of ConfigObj's form, an empty one where it is at fault.

    ConfigObj sees a section by its line number, so that a second section of one name still has its keys checked.
    """
    faults: list[Fault] = []
    blocks: list[Block] = []
    heads: dict[str, int] = {}
    plain = [""] * len(encoded)
    for number, raw in enumerate(encoded, 1):
        try:
            line = raw.decode().strip()
            if line.startswith("["):
                plain[number - 1] = f"[{number}]"
                blocks.append(Block(path, _section_name(line), number, {}, {}))
                heads.setdefault(blocks[-1].name, number)
                _check_section(blocks[-1], heads)
            elif line and line[0] not in "#;":
                plain[number - 1] = _key_line(number, line, blocks)
        except UnicodeDecodeError:
            faults.append(Fault(path, number, "bad encoding; expected UTF-8"))
            if raw.lstrip().startswith(b"["):  # what follows is not the section's above
                plain[number - 1] = f"[{number}]"
                blocks.append(Block(path, "", number, {}, {}))
        except BadValue as error:
            faults.append(Fault(path, number, str(error)))
    try:
        parsed = ConfigObj(plain, interpolation=False)
    except ConfigObjError as error:
        return [], faults + [Fault(path, each.line_number, "cannot be understood") for each in error.errors]
    for block in blocks:
        block.values.update(parsed[str(block.line)])
    # A section without a valid name has had its fault; what is in it cannot be judged.
    return [block for block in blocks if NAME.fullmatch(block.name)], faults


def _section_name(line: str) -> str:
    match = _SECTION.fullmatch(line)
    return match[1].strip() if match else ""


def _check_section(block: Block, heads: Mapping[str, int]) -> None:
    """Raises BadValue where the section's head is at fault; `heads` is where each name was first. Keys are read on."""
    if not NAME.fullmatch(block.name):
        nested = " (nested sections are not supported)" if block.name.startswith("[") else ""
        raise BadValue(f"not a section{nested}; expected [name] of {NAME_IS}")
    if (first := heads[block.name]) != block.line:
        raise BadValue(f"[{block.name}]: duplicate section; expected its keys under the first one, in line {first}")


def _key_line(number: int, line: str, blocks: list[Block]) -> str:
    """`key: value` in ConfigObj's form; the key is added to the last block. Raises BadValue."""
    match = _KEY.match(line)
    if match is None:
        raise BadValue("neither a section nor a key; expected [section] or key: value")
    key = match[1]
    if not blocks:
        raise BadValue(f"{key}: key before any section; expected a [section] above it")
    block = blocks[-1]
    if key in block.lines:
        raise BadValue(f"[{block.name}] {key}: duplicate key; the first is in line {block.lines[key]}")
    block.lines[key] = number
    try:
        return f"{key} = {_quoted(_items(line, match.end()))}"
    except BadValue as error:
        raise BadValue(f"[{block.name}] {key}: {error}") from None


def _items(line: str, start: int) -> Raw:
    """The value that begins at `start`: a list where there is a comma outside of quotes. Raises BadValue."""
    items: list[str | None] = []
    while match := _ITEM.match(line, start):
        items.append(next((match[kind] for kind in ("double", "single", "bare") if match[kind] is not None), None))
        start = match.end()
        if match["end"] != ",":
            return (items[0] or "") if len(items) == 1 else [item for item in items if item is not None]
    raise BadValue("a quote is not closed, or text follows it; expected the whole value in one pair of quotes")


def _quoted(value: Raw) -> str:
    """`value` so that ConfigObj reads exactly this. Raises BadValue where it has no way to write it."""
    if isinstance(value, list):
        return "".join(f"{_quoted(item)}, " for item in value).rstrip() or ","
    quote = next((quote for quote in "\"'" if quote not in value), "")
    if not quote and "#" in value:
        raise BadValue("holds both kinds of quotes and a '#'; expected no more than two of the three")
    return f"{quote}{value}{quote}"


# --- kinds of value ---------------------------------------------------------------------------------------------------


def validate(values: Mapping[str, Raw], spec: str, checks: Checks) -> tuple[dict[str, Any], dict[str, str]]:
    """`values` checked and converted by the configspec `spec`, and what is wrong with those that are not right, by key.

    The first has an entry for each key of `spec`, the default where none was given; a default of None means that
    `none` and nothing at all are allowed. Keys that `spec` does not know are left out. `checks` adds kinds of value.
    """
    validator = Validator({**KINDS, **checks})
    validator.baseErrorClass = BadValue
    rules = _rules(spec)
    section = ConfigObj(configspec=rules, interpolation=False)
    for key in rules.scalars:
        if key in values:
            unset = rules[key].endswith("default=None)") and _is_none(values[key])
            section[key] = None if unset else values[key]
    passed = section.validate(validator, preserve_errors=True)
    wrong = {key: str(error) for key, error in passed.items() if error is not True} if passed is not True else {}
    return {key: section[key] for key in rules.scalars if key not in wrong}, wrong


@lru_cache
def _rules(spec: str) -> ConfigObj:
    return ConfigObj(spec.splitlines(), list_values=False, interpolation=False, _inspec=True)


def keys(spec: str) -> dict[str, str]:
    """The keys of a configspec, in its order, each with its kind of value."""
    return dict(re.findall(r"^\s*(\w+) = (\w+)\(", spec, re.MULTILINE))


def _is_none(value: Raw) -> bool:
    return isinstance(value, str) and value.lower() in ("", "none")


def one(value: Raw) -> str:
    """`value` where it is not a list. Raises BadValue, without the value, which may be a password."""
    if isinstance(value, list):
        raise BadValue("a list; expected one value, in quotes where it has a comma in it")
    return value


def shown(value: str) -> str:
    """`value` for a message: in quotes, nothing unprintable, not long."""
    return repr(value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "...")


def bad(value: str, expected: str, known: Iterable[str] = ()) -> BadValue:
    """The error for a `value` that may be shown."""
    return BadValue(f"{shown(value)} is wrong; expected {expected}{did_you_mean(value, known)}")


_TRUTH = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    prefix + suffix: 1024.0**power
    for power, prefixes in enumerate(([""], "kK", "mM", "gG"))
    for prefix in prefixes
    for suffix in ("", "b", "B", "ib", "iB")
}


def _within(given: str, low: str, high: str, units: Mapping[str, float], expected: str) -> float:
    """`given`, a number and perhaps a unit, in the base unit. Raises BadValue where it is not from `low` to `high`."""

    def amount(text: str) -> float:
        match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)", text)
        return float(match[1]) * units[match[2]] if match and match[2] in units else math.nan

    if not amount(low) <= amount(given) <= amount(high):  # never true of NaN
        raise bad(given, f"{expected}, from {low} to {high}")
    return amount(given)


def boolean(value: Raw) -> bool:
    given = one(value)
    if given.lower() not in _TRUTH:
        raise bad(given, "yes or no", _TRUTH)
    return _TRUTH[given.lower()]


def integer(value: Raw, low: str, high: str) -> int:
    """A whole number from `low` to `high`."""
    given = one(value)
    if not re.fullmatch(r"[0-9]{1,15}", given) or not int(low) <= int(given) <= int(high):
        raise bad(given, f"a whole number from {low} to {high}")
    return int(given)


def duration(value: Raw, low: str, high: str) -> float:
    """Seconds, from `low` to `high`, which are durations as they are written."""
    return _within(one(value), low, high, _SECONDS, "a duration such as 30, 1.5s, 5m, 2h or 7d")


def seconds(value: Raw, low: str, high: str) -> int:
    """A duration that must be whole seconds."""
    found = duration(value, low, high)
    if found != int(found):
        raise bad(one(value), f"whole seconds, from {low} to {high}")
    return int(found)


def size(value: Raw, low: str, high: str) -> int:
    """Bytes, from `low` to `high`, which are sizes as they are written. All units are powers of 1024."""
    return int(_within(one(value), low, high, _BYTES, "a size such as 65536, 512k, 16M or 1 GiB"))


def text(value: Raw, low: str, high: str) -> str:
    """Any text of `low` to `high` bytes. It is never shown: it may be a password."""
    given = one(value)
    length = len(given.encode())
    if not int(low) <= length <= int(high):
        raise BadValue(f"{length} bytes long; expected {low} to {high}")
    return given


def choice(value: Raw, *words: str) -> str:
    """One of `words`, as they are written in the configspec, whatever the case in the file."""
    given = one(value)
    found = next((word for word in words if word.lower() == given.lower()), None)
    if found is None:
        raise bad(given, f"one of {', '.join(words)}", words)
    return found


KINDS: Checks = {check.__name__: check for check in (boolean, integer, duration, seconds, size, text, choice)}
