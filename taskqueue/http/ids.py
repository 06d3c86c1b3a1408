"""Ids of tasks: UUIDv7 (RFC 9562, 5.7), which sort by the time of their making. Also the book's own id, and a front's.

`new_task_id(1767323045000)` gives "019b7c5a-6a88-7…": the first twelve digits are the milliseconds.
"""

from __future__ import annotations

import os
import re

_PATTERN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def new_task_id(now_ms: int) -> str:
    """A new id of a task that was made at `now_ms`, Unix time in milliseconds."""
    return new_task_ids(now_ms, 1)[0]


def new_task_ids(now_ms: int, count: int) -> list[str]:
    """Ids of `count` tasks that were made at `now_ms`. The kernel is asked once: each time gives the GIL away."""
    random = os.urandom(10 * count)
    first = (now_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7000_8000_0000_0000_0000
    ids = []
    for start in range(0, 10 * count, 10):
        text = f"{first | int.from_bytes(random[start : start + 10]) & 0x0FFF_3FFF_FFFF_FFFF_FFFF:032x}"
        ids.append(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")
    return ids


def first_id(ms: int) -> str:
    """A text that sorts before all ids of tasks that were made at `ms` or later, and behind all others."""
    digits = f"{max(0, ms) & 0xFFFF_FFFF_FFFF:012x}"
    return f"{digits[:8]}-{digits[8:]}"


def new_identity() -> str:
    """A random name of twelve hexadecimal digits, for a book or a front."""
    return os.urandom(6).hex()


def is_task_id(text: str) -> bool:
    """Whether `text` has the form of an id. Whatever has not is no task, and no query needs to say so."""
    return _PATTERN.fullmatch(text) is not None
