"""A result: what became of a workitem, as a message for the client that submitted it. Pure.

    properties  correlation_id: 5e0f…    content_type: application/json    expiration: 604800000
    headers     worker_type: resize    task_id: 5e0f…    status: success    attempt: 1    runtime_ms: 412    host: host7
    body        {"width": 640}

An error result has `status: error` and a header `error_type: ValueError`; its body is always JSON, with `error` and
`trace`. This module must never publish.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, NamedTuple

from taskqueue.errors import MalformedWorkitem
from taskqueue.protocol.properties import WORKER_TYPE, Properties
from taskqueue.workitem import BYTES, JSON, media_type, parse_json_value


class Outcome(NamedTuple):
    """How a workitem ended: what its listener publishes as a result."""

    status: str
    """`success` or `error`."""
    body: bytes
    content_type: str
    attempt: int
    """The number of the attempt that ended it, from 1."""
    runtime_ms: float
    """Milliseconds of that attempt."""
    error_type: str | None = None
    """The class of the exception, for an error."""


def result(properties: Properties, outcome: Outcome, *, worker_type: str, host: str, ttl_s: float) -> Properties:
    """The properties of the result of the workitem with `properties`.

    `ttl_s`: seconds that it waits to be read. It becomes the `expiration`: text, in milliseconds, at least 1, since
    RabbitMQ drops a message with 0 that no consumer takes at once ("Time-to-Live and Expiration").
    """
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
    """(content type, body) of a value that a handler returned, or a client submits.

    `str` is text, `bytes` are octets, anything else is JSON. Raises `TypeError` or `ValueError` for a value that JSON
    does not have.
    """
    if isinstance(value, str):
        return "text/plain", value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return BYTES, bytes(value)
    return JSON, _encode(value).encode()


_encode = json.JSONEncoder(allow_nan=False).encode
"""The encoder is made at import, before a plugin can replace `json.dumps`."""


def error_body(body: bytes, content_type: str | None, error: str, trace: str) -> bytes:
    """The JSON body of an error result.

    Where the workitem's `body` is a JSON object, that object with `error` and `trace` set, so that a Ruote workflow
    gets its workitem back; otherwise an object with `error`, `trace` and `workitem`, the body as text.

    A listener calls this, for a worker that died cannot. It is the one place where a process with the broker's password
    parses a client's body: by `parse_json_value`, and whatever that cannot read is passed on as text.
    """
    failure = {"error": error, "trace": trace}
    media, charset = media_type(content_type)
    if media == JSON or (not media and body.lstrip()[:1] == b"{"):
        # RecursionError: nested too deeply to be written. ValueError: a number beyond any float, such as 1e999.
        with suppress(MalformedWorkitem, RecursionError, ValueError):
            value = parse_json_value(body, charset)
            whole = value | failure if isinstance(value, dict) else {**failure, "workitem": value}
            return json.dumps(whole, allow_nan=False).encode()
    return json.dumps({**failure, "workitem": body.decode("utf-8", "backslashreplace")}).encode()
