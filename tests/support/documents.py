"""Code blocks of our documents, and a virtual environment in which their commands are run as they are written."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^\.\. code-block:: ([a-z]+)\n\n((?:(?:    .*)?\n)+)", re.MULTILINE)
_ALIKE = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d( \([\d.]+\w+ ago\))?"), "A TIME"),
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "TIME"),
    (re.compile(r"\b\d\.\d{1,3}\b(?!\.)"), "SECONDS"),
    (re.compile(r"\s+"), " "),
)
"""What differs from run to run, and what stands for it; white space is for readers."""


@dataclass(frozen=True)
class Block:
    """A code block of an RST file."""

    language: str
    text: str
    line: int
    """Where it begins."""


def all_blocks(text: str) -> list[Block]:
    """The code blocks of an RST file, in order."""
    return [
        Block(found[1], textwrap.dedent(found[2]), text.count("\n", 0, found.start()) + 1)
        for found in _BLOCK.finditer(text)
    ]


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of an RST file in one language."""
    return [block.text for block in all_blocks(text) if block.language == language]


def shows(shown: str, came: str) -> bool:
    """Whether a document shows what came out: ids, times, durations and white space may differ, `…` is any text."""
    pattern = ".*?".join(re.escape(_plain(part).strip()) for part in shown.split("…"))
    return re.fullmatch(pattern.replace(r"\ ", " "), _plain(came).strip(), re.DOTALL) is not None


def _plain(text: str) -> str:
    for pattern, word in _ALIKE:
        text = pattern.sub(word, text)
    return text


def copy_of_venv(venv: Path) -> None:
    """Copy the virtual environment that runs the tests to `venv`, with scripts that are its own."""
    shutil.copytree(sys.prefix, venv, symlinks=True)
    for script in (venv / "bin").iterdir():
        if not script.is_symlink() and sys.prefix.encode() in (content := script.read_bytes()):
            script.write_bytes(content.replace(sys.prefix.encode(), str(venv).encode()))
