"""What a result is: its properties, its body, and the body of an error result. Pure."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, NamedTuple

from taskqueue.errors import MalformedWorkitem
from taskqueue.protocol.properties import WORKER_TYPE, Properties
from taskqueue.workitem import BYTES, JSON, media_type, parse_json_value


class Outcome(NamedTuple):
    """How a workitem ended, as its listener publishes it."""

    status: str
    """`success` or `error`."""
    body: bytes
    content_type: str
    attempt: int
    runtime_ms: float
    error_type: str | None = None


def result(properties: Properties, outcome: Outcome, *, worker_type: str, host: str, ttl_s: float) -> Properties:
    """What a result carries. `ttl_s` becomes its `expiration` (a string of milliseconds, as AMQP wants it)."""
    headers: dict[str, Any] = {
        WORKER_TYPE: worker_type,
        "task_id": properties.message_id,
        "status": outcome.status,
        "attempt": outcome.attempt,
        "runtime_ms": round(outcome.runtime_ms),
        "host": host,
    }
    if outcome.error_type is not None:
        headers["error_type"] = outcome.error_type
    return Properties(
        content_type=outcome.content_type,
        headers=headers,
        priority=properties.priority,
        correlation_id=properties.correlation_id or properties.message_id,
        expiration=str(max(1, int(ttl_s * 1000))),
        message_id=properties.message_id,
    )


def encode_result(value: object) -> tuple[str, bytes]:
    """(content type, body) of what a handler returned; raises `TypeError` or `ValueError` where JSON has no way."""
    if isinstance(value, str):
        return "text/plain", value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return BYTES, bytes(value)
    return JSON, _encode(value).encode()


_encode = json.JSONEncoder(allow_nan=False).encode
"""Made once, before a plugin can put another `json.dumps` in place of the module's."""


def error_body(body: bytes, content_type: str | None, error: str, trace: str) -> bytes:
    """The JSON body of an error result.

    Where the workitem is a JSON object, that object with `error` and `trace` set, so that a Ruote workflow gets its
    workitem back; else `{"error", "trace", "workitem"}` with the body as text.
    """
    told = {"error": error, "trace": trace}
    media, charset = media_type(content_type)
    if media == JSON or (not media and body.lstrip()[:1] == b"{"):
        # nested so deeply that it can be read and no longer be written, or with a number beyond any float
        with suppress(MalformedWorkitem, RecursionError, ValueError):
            value = parse_json_value(body, charset)
            whole = value | told if isinstance(value, dict) else {**told, "workitem": value}
            return json.dumps(whole, allow_nan=False).encode()
    return json.dumps({**told, "workitem": body.decode("utf-8", "backslashreplace")}).encode()
