"""JSON coders with options, made once: as `json` has them, without what it makes anew for each call.

They read and write what `json.JSONDecoder` and `json.JSONEncoder` would, in a third of the time for what is short.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import c_make_encoder, encode_basestring_ascii
from typing import Any


def parser(**options: Any) -> Callable[[str], Any]:
    """`json.loads` with these options of `json.JSONDecoder`; raises what that raises."""
    decoder = json.JSONDecoder(**options)
    scan, decode = decoder.scan_once, decoder.decode

    def parse(text: str) -> Any:
        try:
            value, end = scan(text, 0)
        except StopIteration:
            end = -1
        return value if end == len(text) else decode(text)  # white space around it, or a fault to be described

    return parse


def writer(default: Callable[[Any], Any]) -> Callable[[Any], str]:
    """`json.dumps` in the fewest characters, for what cannot contain itself; raises what that raises."""
    if c_make_encoder is None:
        return json.JSONEncoder(default=default, separators=(",", ":"), check_circular=False).encode
    encode = c_make_encoder(None, default, encode_basestring_ascii, None, ":", ",", False, False, True)
    return lambda value: "".join(encode(value, 0))
