"""The formats of workitems: which worker type a message is for, and what its handler gets.

    header worker_type: resize    any body                                  forwarded unchanged
    text/plain                    resize 640 480                            the handler gets "640 480"
    application/json              {"worker_type": "resize", "workitem": 5}  the handler gets 5
                                  {"worker_type": "resize", "width": 640}   forwarded unchanged
                                  {"fields": {"params": {"worker_type": "resize"}}, …}    Ruote's; likewise

`route` is for the dispatcher, `decode` for the worker. A distribution can add a format for another content type by an
entry point in the group `taskqueue.workitems`. This module must never do I/O but to look up entry points, and never
change a body that can be forwarded unchanged.
"""

from __future__ import annotations

import encodings
import json
import logging
import pkgutil
import re
from collections.abc import Callable
from encodings.aliases import aliases
from functools import cache, lru_cache
from typing import Any, NamedTuple

from taskqueue.errors import MalformedWorkitem
from taskqueue.foundation import json_coders

log = logging.getLogger(__name__)

TYPE_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")
"""The names of worker types: `worker_` and such a name fit the 255 bytes of an AMQP queue name."""
FORMATS_GROUP = "taskqueue.workitems"
"""The entry-point group of formats; the name of an entry point is a content type."""

TEXT = "text/plain"
JSON = "application/json"
BYTES = "application/octet-stream"

_PLAIN_ENCODINGS = frozenset({"", "identity", "utf-8", "utf8", "binary", "us-ascii"})
"""Values of `content_encoding` with which the body is plain; some clients put a charset there. With any other value,
such as `gzip`, a message needs the header `worker_type`, and its handler gets `bytes`."""

_NO_CHARSETS = frozenset({"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape"})
"""Python's own codecs, which no client uses as a charset. They are refused: `idna` and `punycode` take time in the
square of a body's length."""


class Routed(NamedTuple):
    """The worker type that a workitem is for, and the body and content type with which it is forwarded."""

    worker_type: str
    body: bytes
    content_type: str | None
    """None from a `Format` means: that of the message."""


Format = Callable[[bytes, str | None], Routed]
"""A function of body and charset, None where the content type names none. It raises `MalformedWorkitem`."""


def route(body: bytes, content_type: str | None, content_encoding: str | None, header_type: object) -> Routed:
    """Find the worker type of a message.

    `header_type` is its header `worker_type`, None without one; where there is one, the body is not read. Raises
    `MalformedWorkitem` with the reason `malformed` or `unknown-format`, whatever a third party's format raises.
    """
    if header_type is not None:
        return Routed(worker_type(header_type), body, content_type)
    media, charset = media_type(content_type)
    if (content_encoding or "").lower() not in _PLAIN_ENCODINGS:
        raise MalformedWorkitem(
            "unknown-format", f"content_encoding {content_encoding!r:.80} needs the header worker_type"
        )
    if not media:
        media = JSON if body.lstrip()[:1] == b"{" else TEXT
        routed = _format(media)(body, charset)
        return Routed(worker_type(routed.worker_type), routed.body, routed.content_type or media)
    routed = _format(media)(body, charset)
    worker_type(routed.worker_type)
    return routed if routed.content_type else Routed(routed.worker_type, routed.body, content_type)


def worker_type(value: object) -> str:
    """`value`, where it is a valid worker type. Raises `MalformedWorkitem` otherwise."""
    if not isinstance(value, str) or TYPE_PATTERN.fullmatch(value) is None:
        raise MalformedWorkitem("malformed", "not a worker type", value)
    return value


@lru_cache(256)
def media_type(content_type: str | None) -> tuple[str, str | None]:
    """(media type in lower case, charset) of a content type; the charset is None where it names none."""
    media, *parameters = (content_type or "").split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return media.strip().lower(), value.strip().strip("\"'") or None
    return media.strip().lower(), None


def decode(body: bytes, content_type: str | None, content_encoding: str | None) -> Any:
    """The argument of `handle_task`: `str` for text, the parsed value for JSON, `bytes` for other content types.

    Without a content type, a body that begins with `{` is JSON, any other is text. Raises `MalformedWorkitem` for a
    body that does not fit its content type.
    """
    media, charset = media_type(content_type)
    if (content_encoding or "").lower() not in _PLAIN_ENCODINGS:
        return body
    if not media:
        media = JSON if body.lstrip()[:1] == b"{" else TEXT
    if media == JSON:
        return parse_json_value(body, charset)
    if media == TEXT:
        return _text(body, charset)
    return body


def parse_text(body: bytes, charset: str | None) -> Routed:
    """`<type> <rest>`: the worker gets the rest, from behind one white-space character."""
    _text(body, charset)
    head, *rest = body.lstrip().split(None, 1) or [b""]
    if rest:
        start = body.index(head) + len(head) + 1
        return Routed(_ascii(head), body[start:], None)
    return Routed(_ascii(head), b"", None)


def parse_json(body: bytes, charset: str | None) -> Routed:
    """A JSON workitem in one of three shapes: envelope, object with `worker_type`, Ruote workitem."""
    value = parse_json_value(body, charset)
    if not isinstance(value, dict):
        raise MalformedWorkitem("malformed", f"expected a JSON object, not {type(value).__name__}")
    if "worker_type" in value:
        if value.keys() == {"worker_type", "workitem"}:
            return Routed(value["worker_type"], _unwrapped(value["workitem"]), JSON)
        return Routed(value["worker_type"], body, None)
    named: Any = value
    for key in ("fields", "params", "worker_type"):
        named = named.get(key) if isinstance(named, dict) else None
    if named is None:
        raise MalformedWorkitem("malformed", "neither worker_type nor fields.params.worker_type in the JSON object")
    return Routed(named, body, None)


def _unwrapped(workitem: Any) -> bytes:
    """The content of an envelope as JSON, no longer than in the envelope: the broker limits the size of a message."""
    try:
        return json.dumps(workitem, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can hold it as an escape only
        return json.dumps(workitem).encode()
    except ValueError:
        raise MalformedWorkitem("malformed", "a number that JSON cannot carry on, such as 1e999") from None


def parse_json_value(body: bytes, charset: str | None = None) -> Any:
    """Parse strict JSON (RFC 8259: no NaN, no Infinity); raises `MalformedWorkitem`."""
    try:
        return _strict(_text(body, charset))
    except MalformedWorkitem:
        raise
    except RecursionError:
        raise MalformedWorkitem("malformed", "JSON nested too deeply") from None
    except ValueError as error:
        raise MalformedWorkitem("malformed", f"not JSON: {error}"[:200]) from None


def _no_constant(name: str) -> Any:
    raise MalformedWorkitem("malformed", f"not JSON: {name}")


_strict = json_coders.parser(parse_constant=_no_constant)


def _text(body: bytes, charset: str | None) -> str:
    codec = _codec(charset) if charset else "utf-8"
    try:
        return body.decode(codec)
    except UnicodeDecodeError as error:
        raise MalformedWorkitem("malformed", f"not {codec.upper()} text: byte {error.start}") from None
    except (LookupError, ValueError):
        raise MalformedWorkitem("malformed", f"unknown charset: {charset!r:.80}") from None


def _codec(charset: str) -> str:
    """Python's name of a charset. `codecs.lookup` would do, but it keeps every name that a client invents in memory."""
    name = encodings.normalize_encoding(charset).lower()
    name = aliases.get(name, name)
    if name not in _codecs():
        raise MalformedWorkitem("malformed", f"unknown charset: {charset!r:.80}")
    return name


@cache
def _codecs() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(encodings.__path__)) - _NO_CHARSETS


def _ascii(head: bytes) -> str:
    return head.decode("ascii", "backslashreplace")


@cache
def formats() -> dict[str, Format]:
    """Every format by content type, loaded once: the dispatcher does so at its start.

    One that cannot be loaded is named in the log and left out: its workitems become dead letters (`unknown-format`).
    """
    from importlib.metadata import entry_points  # 4 MiB that only a dispatcher needs

    found: dict[str, Format] = {TEXT: parse_text, JSON: parse_json}
    for entry in entry_points(group=FORMATS_GROUP):
        media = entry.name.lower()
        if media not in (TEXT, JSON):
            try:
                found[media] = _guarded(media, entry.load())
            except Exception:
                log.exception("format left out: content_type=%s object=%s", media, entry.value)
    return found


def _guarded(media: str, parse: Format) -> Format:
    """A third party's format, which can fail in no other way than by `MalformedWorkitem` with one of two reasons."""

    def guarded(body: bytes, charset: str | None) -> Routed:
        try:
            routed = Routed(*parse(body, charset))
            if not isinstance(routed.body, bytes) or not isinstance(routed.content_type, str | None):
                raise TypeError("expected Routed(str, bytes, str | None)")
        except MalformedWorkitem as error:
            if error.reason in {"malformed", "unknown-format"}:
                raise
            raise MalformedWorkitem("malformed", error.what, error.reason) from error
        except Exception as error:
            what = f"the format {media} failed: {type(error).__name__}"
            raise MalformedWorkitem("malformed", what, str(error)) from error
        return routed

    return guarded


def _format(media: str) -> Format:
    try:
        return formats()[media]
    except KeyError:
        raise MalformedWorkitem("unknown-format", f"content type {media!r:.80} needs the header worker_type") from None
