"""A dead letter as a text that a person edits before it is replayed.

The text is a JSON object (where the workitem goes, its content type, its headers), an empty line, and the body as it
is:

    {"queue": "worker_worker1", "content_type": "text/plain", "headers": {}}

    the body
"""

from __future__ import annotations

import json
from typing import Any

from taskqueue.errors import TaskqueueError
from taskqueue.operations.replay import Revival
from taskqueue.protocol.properties import Properties

_SHOWN = ("content_type", "content_encoding", "priority", "correlation_id", "reply_to", "expiration")
_KINDS: dict[str, type] = {**dict.fromkeys(_SHOWN, str), "priority": int, "queue": str, "headers": dict}


class NotALetter(TaskqueueError):
    """The edited text cannot be replayed: have it edited again."""


def written(revival: Revival) -> bytes:
    """The text for the editor. Headers that JSON cannot carry are not in it; they stay as they are."""
    properties = revival.properties
    head: dict[str, Any] = {"queue": revival.queue}
    head |= {name: value for name in _SHOWN if (value := getattr(properties, name)) is not None}
    head["headers"] = _carried(properties)
    return json.dumps(head, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n\n" + revival.body


def parsed(text: bytes, before: Revival) -> Revival:
    """The workitem that `text` describes, with those headers of `before` that it cannot carry; raises `NotALetter`."""
    decoded = text.decode("utf-8", "surrogateescape")
    try:
        head, end = json.JSONDecoder().raw_decode(decoded)
    except (ValueError, RecursionError) as error:
        raise NotALetter(f"the part above the body is not JSON: {error}"[:200]) from None
    gap, body = decoded[end : end + 2], decoded[end + 2 :]
    if gap != "\n\n" and (gap or before.body):
        raise NotALetter("no empty line between the JSON object and the body")
    if not isinstance(head, dict) or "queue" not in head:
        raise NotALetter('the part above the body is not an object with a "queue"')
    for name, value in head.items():
        if name not in _KINDS:
            raise NotALetter(f"{name!r:.80} is unknown; expected {', '.join(_KINDS)}")
        if not isinstance(value, _KINDS[name]) or isinstance(value, bool):
            raise NotALetter(f"{name} is {value!r:.80}; expected {_KINDS[name].__name__}")
    hidden = dict(before.properties.headers or {})
    for name in _carried(before.properties):
        del hidden[name]
    content = body.encode("utf-8", "surrogateescape")
    if content.endswith(b"\n") and not before.body.endswith(b"\n"):
        content = content[:-1]  # editors end the last line
    return Revival(
        head["queue"],
        before.properties._replace(
            **{name: head.get(name) for name in _SHOWN}, headers={**hidden, **head.get("headers", {})} or None
        ),
        content,
    )


def _carried(properties: Properties) -> dict[str, Any]:
    carried = {}
    for name, value in (properties.headers or {}).items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            continue
        carried[name] = value
    return carried
