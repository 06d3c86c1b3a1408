"""A workitem's body as it comes from a command line, and what it is taken for."""

from __future__ import annotations

import sys
from pathlib import Path

from taskqueue.errors import MalformedWorkitem
from taskqueue.workitem import BYTES, JSON, TEXT, parse_json_value


def read(body: str | None, path: Path | None) -> tuple[bytes, str]:
    """The body that was given as `path`, as `-` for standard input, or as it is; and where it is from, for people."""
    if path is not None:
        return path.read_bytes(), str(path)
    if body == "-":
        return sys.stdin.buffer.read(), "standard input"
    return (body or "").encode("utf-8", "surrogateescape"), "BODY"


def content_type(body: bytes, kind: str | None) -> str:
    """`kind`, JSON or text, where it was asked for; else what the body looks like. Raises `MalformedWorkitem` for one
    that a worker could not read as that."""
    if kind == JSON or (kind is None and body.lstrip()[:1] == b"{"):
        parse_json_value(body)
        return JSON
    try:
        body.decode()
    except UnicodeDecodeError as error:
        if kind is None:
            return BYTES
        raise MalformedWorkitem("malformed", f"not UTF-8 text: byte {error.start}") from None
    return TEXT
