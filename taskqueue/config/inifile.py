"""How a configuration file is written: lines, sections, lists, quotes and comments; its values stay text here.

From a file to its blocks:

1. `read_all("/etc/taskqueue/config.ini")` reads that file, then each `conf.d/*.ini` beside it, by name.
2. Of a file, `[worker1]` in line 7 begins a block. In line 8, `names: Ada, "Lovelace, A." ; a comment` is a key of it.
3. The file gives `Block(path, "worker1", 7, values={"names": ["Ada", "Lovelace, A."]}, lines={"names": 8})`.
4. A line that is neither gives `Fault(path, 9, "neither a section nor a key; expected …")`; the next line is read on.

This module must never know a section or a key of taskqueue by its name, never log, and never put a line or a value
into a message, for either could hold a password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from taskqueue.config.values import NAME, NAME_IS, BadValue, Raw

MAX_FILE_BYTES = 1024 * 1024
"""Bytes of a configuration file; a larger one is a mistake (a log, a core), and is not read."""

_SECTION = re.compile(r"\s*\[(.*)\]\s*(?:[#;].*)?")
_KEY = re.compile(r"""\s*([^\s:=\[\]"',#;]+)\s*[:=]""")
_ITEM = re.compile(
    r"""\s*(?: "(?P<double>[^"]*)" | '(?P<single>[^']*)'
             | (?P<bare>(?!["'])(?!(?<=\s)[#;])[^,\s]+(?:\s+(?![#;])[^,\s]+)*)? )
        \s*(?P<end>,|(?<=\s)[#;].*|$)""",
    re.VERBOSE,
)
"""One item of a value, matched in its line: `#` and `;` begin a comment only after white space and outside of quotes,
and quotes are quotes only where an item begins."""


class Fault(NamedTuple):
    """An error in a file, one line for a person. `line` 0 means the file as a whole; `path` may also be the name of an
    environment variable."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}" if self.line else f"{self.path}: {self.text}"


class Block(NamedTuple):
    """One section as one file has it."""

    path: str
    name: str
    line: int
    """Of its head, `[name]`."""
    values: dict[str, Raw]
    """By key, in the file's order; a key whose value cannot be read is missing."""
    lines: dict[str, int]
    """Where each key stands, also one whose value cannot be read."""


def read_all(path: str, must_exist: bool) -> tuple[list[Block], list[Fault]]:
    """The sections of `path` and then of `conf.d/*.ini` beside it, by name, and every fault of their form.

    A file that does not exist has no sections; that is a fault only of `path`, and only where it `must_exist`.
    """
    main = Path(path)
    conf_d = main.parent / "conf.d"
    blocks: list[Block] = []
    faults: list[Fault] = []
    files = [main]
    try:
        files += sorted(file for file in conf_d.iterdir() if file.suffix == ".ini" and not file.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        faults.append(_unreadable(str(conf_d), error))
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
    """One file. Raises `FileNotFoundError` and nothing else."""
    try:
        with file.open("rb") as stream:
            return parse(str(file), stream.read(MAX_FILE_BYTES + 1))
    except FileNotFoundError:
        raise
    except OSError as error:
        return [], [_unreadable(str(file), error)]


def parse(path: str, content: bytes) -> tuple[list[Block], list[Fault]]:
    """The sections of a file's `content`, and every fault of its form; `path` is the file's name in both."""
    if len(content) > MAX_FILE_BYTES:
        return [], [Fault(path, 0, f"larger than {MAX_FILE_BYTES} bytes; expected a configuration file")]
    if b"\0" in content:
        lines_above = content[: content.index(b"\0")].count(b"\n")
        return [], [Fault(path, lines_above + 1, "a NUL byte; expected a text file in UTF-8")]
    blocks: list[Block] = []
    faults: list[Fault] = []
    first_lines: dict[str, int] = {}
    for number, encoded in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = encoded.decode().strip()
            if line.startswith("["):
                blocks.append(Block(path, _section_name(line), number, {}, {}))
                first_lines.setdefault(blocks[-1].name, number)
                _check_section(blocks[-1], first_lines)
            elif line and line[0] not in "#;":
                _add_key(number, line, blocks)
        except UnicodeDecodeError:
            faults.append(Fault(path, number, "bad encoding; expected UTF-8"))
            if encoded.lstrip().startswith(b"["):  # the keys that follow do not belong to the section above
                blocks.append(Block(path, "", number, {}, {}))
        except BadValue as error:
            faults.append(Fault(path, number, str(error)))
    # A section without a valid name has had its fault; which keys it may have is not known.
    return [block for block in blocks if NAME.fullmatch(block.name)], faults


def _section_name(line: str) -> str:
    match = _SECTION.fullmatch(line)
    return match[1].strip() if match else ""


def _check_section(block: Block, first_lines: Mapping[str, int]) -> None:
    """Raises `BadValue` for a head that is wrong, or that is a second one in this file; `first_lines` has the line of
    each name's first head. The keys below it are checked all the same."""
    if not NAME.fullmatch(block.name):
        nested = " (nested sections are not supported)" if block.name.startswith("[") else ""
        raise BadValue(f"not a section{nested}; expected [name] of {NAME_IS}")
    if (first := first_lines[block.name]) != block.line:
        raise BadValue(f"[{block.name}]: duplicate section; expected its keys under the first one, in line {first}")


def _add_key(number: int, line: str, blocks: list[Block]) -> None:
    """Add `key: value` to the last block. Raises `BadValue`."""
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
        block.values[key] = _value(line, match.end())
    except BadValue as error:
        raise BadValue(f"[{block.name}] {key}: {error}") from None


def _value(line: str, start: int) -> Raw:
    """The value that begins at `start`: a list where there is a comma outside of quotes. Raises `BadValue`."""
    items: list[str | None] = []
    while match := _ITEM.match(line, start):
        items.append(next((match[kind] for kind in ("double", "single", "bare") if match[kind] is not None), None))
        start = match.end()
        if match["end"] != ",":
            break
    else:
        raise BadValue("a quote is not closed, or text follows it; expected the whole value in one pair of quotes")
    given = [item for item in items if item is not None]
    if any({'"', "'", "#"} <= set(item) for item in given):  # a slip in quoting: is that '#' a comment or not?
        raise BadValue("holds both kinds of quotes and a '#'; expected no more than two of the three")
    return given if len(items) > 1 else "".join(given)
