"""Makes the body that a target gets of what a client wrote: `body`, `json`, `form`, `body_base64`, or none of them.

`{"json": {"to": "a@b.c"}}` gives `b'{"to":"a@b.c"}'` and the type application/json. For a URL, `body` is sent as it is
and no type is invented; a worker type gets its type from the way the body was written, and JSON null for none.
"""

from __future__ import annotations

import base64
import binascii
from json import JSONEncoder
from typing import Any
from urllib.parse import urlencode

from taskqueue.http.api.problems import BadField, Fault, fault_at
from taskqueue.http.api.task_fields import kind_of

BODY_KEYS = ("body", "json", "form", "body_base64")
FORM_TYPE = "application/x-www-form-urlencoded"
JSON_TYPE = "application/json"

_encode_json = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False).encode


def read_body(document: dict[str, Any], for_worker: bool, faults: list[Fault]) -> tuple[bytes, str | None]:
    """The body and its type (None: none is known) of a task's document; adds its faults.

    A null counts as absent, but for `json`, where it is a value.
    """
    given = [key for key in BODY_KEYS if key in document and (key == "json" or document[key] is not None)]
    if not given:
        return (b"null", JSON_TYPE) if for_worker else (b"", None)
    if len(given) > 1:
        faults.append(fault_at(f"#/{given[1]}", f"must not be there together with {given[0]}"))
        return b"", None
    key = given[0]
    try:
        return _READERS[key](document[key], for_worker)
    except BadField as error:
        faults.append(fault_at(f"#/{key}", str(error)))
        return b"", None


def _json(value: Any, for_worker: bool) -> tuple[bytes, str | None]:
    try:
        return _encode_json(value).encode(), JSON_TYPE
    except ValueError:
        raise BadField("has a number that no JSON reader has room for, such as 1e999; send it as a text") from None


def _text(value: Any, for_worker: bool) -> tuple[bytes, str | None]:
    if not isinstance(value, str):
        raise BadField(f"must be a text, and is {kind_of(value)}; use json for any JSON value")
    return value.encode(), "text/plain" if for_worker else None


def _base64(value: Any, for_worker: bool) -> tuple[bytes, str | None]:
    if not isinstance(value, str):
        raise BadField(f"must be a text in base64, and is {kind_of(value)}")
    text = value.replace("-", "+").replace("_", "/")
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadField("is not base64 (RFC 4648)") from None
    return found, "application/octet-stream" if for_worker else None


def _form(value: Any, for_worker: bool) -> tuple[bytes, str | None]:
    if for_worker:
        raise BadField("must not be there for a worker type; use json or body")
    return urlencode(form_pairs(value)).encode(), FORM_TYPE


_READERS = {"body": _text, "json": _json, "form": _form, "body_base64": _base64}


def form_pairs(value: Any) -> list[tuple[str, str]]:
    """The fields of an object of texts, numbers, booleans, nulls (blank), or arrays of them. Raises `BadField`."""
    if not isinstance(value, dict):
        raise BadField(f"must be an object, and is {kind_of(value)}")
    found: list[tuple[str, str]] = []
    for key, each in value.items():
        for item in each if isinstance(each, list) else (each,):
            if isinstance(item, dict | list):
                raise BadField(f"must have texts and numbers as values; {key[:60]!r} has {kind_of(item)}")
            found.append((key, item if isinstance(item, str) else "" if item is None else _encode_json(item)))
    return found
