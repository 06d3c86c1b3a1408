"""A workitem's body as it comes from a command line, and what it is taken for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

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


def body_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command BODY, `--file`, `--text` and `--content-type`, for `given` to make something of."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    options = (
        click.argument("body", metavar="[BODY]", required=False),
        click.option("--text", "kind", flag_value=TEXT, help="The body is text, even where it begins with a brace."),
        click.option("--content-type", "kind", metavar="TYPE", help="Its content type; guessed by default."),
        click.option("--file", "path", type=file, help="The body is in this file."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def given(body: str | None, kind: str | None, path: Path | None) -> tuple[bytes, str]:
    """The body and its content type, as `body_options` were given; what is wrong is a usage error."""
    if body is not None and path is not None:
        raise click.UsageError("BODY and --file given; expected one of them")
    content, source = read(body, path)
    try:
        return content, kind if kind not in (None, JSON, TEXT) else content_type(content, kind)
    except MalformedWorkitem as error:
        raise click.UsageError(f"{source}: {error}; --text gives it as text") from None
