"""Cursors of lists: the place where a page ended, as a text that is opaque to clients.

`cursor((1767225600123, "0198…"))` gives a text for a URL, and `read_cursor` the same place again. It has a version and
a checksum, so that one that was cut or made up is told, never guessed at.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import Any

from taskqueue.http.api.problems import BadField

_VERSION = b"1"

Place = tuple[int | str, ...]
"""Where a page ended: the values by which the list is sorted, of its last task."""


def cursor(place: Place) -> str:
    """The text that leads to what follows `place`; it may stand in a URL as it is."""
    body = _VERSION + json.dumps(list(place), separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(zlib.crc32(body).to_bytes(4, "big") + body).decode().rstrip("=")


def read_cursor(value: Any) -> Place:
    """The place that `cursor` made this text of. Raises `BadField`."""
    wrong = BadField("is not one that a list gave; begin without a cursor")
    if not isinstance(value, str) or len(value) > 4096 or not value.isascii():
        raise wrong
    try:
        data = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
        if zlib.crc32(data[4:]) != int.from_bytes(data[:4], "big") or data[4:5] != _VERSION:
            raise wrong
        found = json.loads(data[5:])
    except (binascii.Error, ValueError, RecursionError):
        raise wrong from None
    if type(found) is not list or not all(type(each) in (int, str) for each in found):
        raise wrong
    return tuple(found)
