"""Reads those headers of a request that the API gives a meaning: Prefer, Idempotency-Key, traceparent, Content-Type.

`Prefer: wait=10, return=minimal` gives `Preferences(10.0, True)`; `Idempotency-Key: "a-1"` gives `a-1`, and so does
`a-1` without quotes, which is what nearly everybody sends. A preference that is not understood is ignored, as RFC 7240
wants; a key that is not understood is a fault, for ignoring it would make two tasks.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from taskqueue.http.api.problems import Problem, fault_of_header

WAIT_LIMIT_S = 60.0
"""The longest `Prefer: wait`; a longer one is cut, and the answer says so in Preference-Applied."""

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?")
_TRACESTATE = re.compile(r"[\t\x20-\x7e]{1,512}")
_PREFERENCE = re.compile(r"\s*([A-Za-z0-9_-]+)\s*(?:=\s*(?:\"([^\"]*)\"|([^\s;,\"]*)))?\s*(?:;[^,]*)?")
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~A-Za-z0-9-]{1,127}/[!#$%&'*+.^_`|~A-Za-z0-9-]{1,127}")
_CHARSET = re.compile(r";\s*charset\s*=\s*(?:\"([^\"]*)\"|([^\s;\"]+))", re.IGNORECASE)
_STRUCTURED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')


@dataclass(frozen=True, slots=True)
class Preferences:
    """What `Prefer` asks for."""

    wait_s: float | None = None
    """Seconds to wait for the end of the task; None: not at all."""
    minimal: bool = False
    """Whether the answer needs no body."""


def read_prefer(value: str | None) -> Preferences:
    """What the header `Prefer` asks for (several lines joined by commas); None: nothing. Never raises."""
    if not value:
        return Preferences()
    found: dict[str, str] = {}
    for item in value.split(","):
        match = _PREFERENCE.fullmatch(item)
        if match:
            found.setdefault(match[1].lower(), match[2] if match[2] is not None else match[3] or "")
    wait = found.get("wait", "")
    wait_s = min(float(wait), WAIT_LIMIT_S) if re.fullmatch("[0-9]{1,9}", wait) else None
    return Preferences(wait_s, found.get("return", "").lower() == "minimal")


def read_idempotency_key(value: str | None) -> str | None:
    """The key of the header `Idempotency-Key`, without its quotes; None without the header. Raises `Problem`."""
    if value is None:
        return None
    key = value.strip(" \t")
    if key.startswith('"') and len(key) > 1:
        match = _STRUCTURED.fullmatch(key)
        if match is None:
            raise _bad_key("is not a well-formed quoted text")
        key = re.sub(r"\\(.)", r"\1", match[1])
    if fault := fault_of_key(key):
        raise _bad_key(fault)
    return key


def fingerprint(method: str, path: str, query: str, media: str, body: bytes) -> str:
    """SHA-256, in hex, of what makes a request the same one as before; `media` is its type without parameters."""
    digest = hashlib.sha256()
    for part in (method.encode(), path.encode(), query.encode(), media.encode(), body):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def fault_of_key(key: str) -> str | None:
    """What is wrong with an idempotency key: 1 to 255 printable ASCII characters; None: nothing."""
    if not 1 <= len(key) <= 255:
        return f"must have 1 to 255 characters, and has {len(key)}"
    return None if key.isascii() and key.isprintable() else "must have printable ASCII characters only"


def _bad_key(detail: str) -> Problem:
    return Problem("malformed-request", errors=[fault_of_header("Idempotency-Key", detail)])


def read_trace(traceparent: str | None, tracestate: str | None) -> tuple[tuple[str, str], ...]:
    """Both headers of W3C Trace Context as they came; without a good traceparent none, as the standard wants."""
    if traceparent is None:
        return ()
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]) or not match[2].strip("0"):
        return ()
    if not match[3].strip("0"):
        return ()
    found = (("traceparent", traceparent.strip()),)
    if tracestate is None or not _TRACESTATE.fullmatch(tracestate.strip()):
        return found
    return (*found, ("tracestate", tracestate.strip()))


@dataclass(frozen=True, slots=True)
class ContentType:
    """A Content-Type, parsed: `media` in lower case, "" where there is none or it is not well formed."""

    media: str
    charset: str | None


def read_content_type(value: str | None) -> ContentType:
    """`Application/JSON; charset=UTF-8` gives `ContentType("application/json", "utf-8")`. Never raises."""
    if not value:
        return ContentType("", None)
    media = value.partition(";")[0].strip().lower()
    charset = _CHARSET.search(value)
    return ContentType(
        media if _MEDIA_TYPE.fullmatch(media) else "",
        (charset[1] if charset[1] is not None else charset[2]).lower() if charset else None,
    )


_JSON_FROM_SHELLS = frozenset({"", "application/x-www-form-urlencoded", "text/json", "text/plain"})
"""What says JSON without meaning anything else: no type, and what `curl -d` adds when nobody says `-H`."""


def require_json(value: str | None) -> None:
    """Check that a body of this Content-Type may be read as JSON. Raises `Problem`: unsupported-media-type."""
    if value is None or value == "application/json":
        return
    found = read_content_type(value)
    require_utf8(found)
    if found.media in _JSON_FROM_SHELLS or found.media == "application/json" or found.media.endswith("+json"):
        return
    raise Problem(
        "unsupported-media-type",
        f"The body is {value[:100]!r}; expected application/json, or ?url=… to enqueue it as it is.",
        headers={"Accept-Post": "application/json"},
    )


def require_utf8(content_type: ContentType) -> None:
    """Check that a charset, where one is named, is UTF-8 or a part of it. Raises `Problem`: unsupported-media-type."""
    if content_type.charset not in (None, "utf-8", "utf8", "us-ascii", "ascii"):
        raise Problem("unsupported-media-type", f"The charset is {content_type.charset[:40]!r}; expected utf-8.")
