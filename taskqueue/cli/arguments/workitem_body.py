"""The arguments that give a workitem's body (BODY, `--file`, standard input), and the content type it is taken for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from taskqueue.errors import MalformedWorkitem
from taskqueue.workitem import BYTES, JSON, TEXT, parse_json_value


def read(body: str | None, path: Path | None) -> tuple[bytes, str]:
    """The body: the file at `path`, standard input for `-`, or `body` itself; and its source, for messages."""
    if path is not None:
        return path.read_bytes(), str(path)
    if body == "-":
        return sys.stdin.buffer.read(), "standard input"
    return (body or "").encode("utf-8", "surrogateescape"), "BODY"


def content_type(body: bytes, kind: str | None) -> str:
    """`kind`, JSON or text, where the person chose it; else JSON for a body that begins with a brace, text for UTF-8,
    bytes for the rest. Raises `MalformedWorkitem` for a body that a worker could not read as that."""
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
    """Decorate a command with BODY, `--file`, `--text` and `--content-type`; it hands their values to `given`."""
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
    """The body and its content type by the values of `body_options`; a body that cannot be read is a usage error."""
    if body is not None and path is not None:
        raise click.UsageError("BODY and --file given; expected one of them")
    content, source = read(body, path)
    try:
        return content, kind if kind not in (None, JSON, TEXT) else content_type(content, kind)
    except MalformedWorkitem as error:
        raise click.UsageError(f"{source}: {error}; --text gives it as text") from None
