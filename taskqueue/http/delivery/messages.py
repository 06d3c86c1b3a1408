"""A claimed attempt as the message that carries it to a worker. Pure.

For a worker type, the body is the task's own, with its content type. For a URL it is a JSON object, as anybody may
publish one to a worker of the type `webhook`:

    {"url": "https://example.com/x", "method": "POST", "headers": [["Content-Type", "text/plain"]], "body": "hello",
     "queue": "emails", "timeout": 30, "keep_response": 4096, "follow_redirects": 0, "sign": false}
"""

from __future__ import annotations

import base64
import json
from typing import Any

from taskqueue.config.http_settings import HttpSettings, QueueSettings
from taskqueue.http.book.claiming import HandOut
from taskqueue.protocol.handouts import handout as handout_properties
from taskqueue.protocol.properties import Properties

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_JSON = "application/json"


class Messages:
    """Makes the messages of one front; reports of them go to the queue of the book's outcomes."""

    def __init__(self, book_id: str, settings: HttpSettings) -> None:
        self._book_id = book_id
        self._settings = settings

    def of(self, handout: HandOut, queue: QueueSettings) -> tuple[Properties, bytes]:
        """(properties, body) of the message of `handout`."""
        if handout.url is None:
            content_type, body = _content_type(handout), handout.body
        else:
            content_type, body = _JSON, _encode(self._request(handout, queue)).encode()
        properties = handout_properties(
            task_id=handout.task_id,
            number=handout.number,
            until_ms=handout.valid_until_ms,
            task_attempt=handout.attempt,
            crashes=handout.crashes,
            book_id=self._book_id,
            content_type=content_type,
        )
        return properties, body

    def _request(self, handout: HandOut, queue: QueueSettings) -> dict[str, Any]:
        spec = handout.spec
        headers = spec["headers"]
        if queue.headers or spec.get("trace"):
            given = {name.lower() for name, _value in headers}
            headers = [*headers, *([n, v] for n, v in queue.headers.items() if n.lower() not in given)]
            headers += spec.get("trace", [])
        request: dict[str, Any] = {
            "url": handout.url,
            "method": spec["method"],
            "headers": headers,
            "queue": handout.queue,
            "timeout": spec.get("timeout_s") or queue.timeout_s,
            "keep_response": self._settings.keep_response_bytes,
        }
        if queue.follow_redirects:
            request["follow_redirects"] = queue.follow_redirects
        if queue.sign:
            request["sign"] = True
        if self._settings.targets is not None:
            request["targets"] = self._settings.targets
        if handout.body:
            try:
                request["body"] = handout.body.decode()
            except UnicodeDecodeError:
                request["body_base64"] = base64.b64encode(handout.body).decode()
        return request


def _content_type(handout: HandOut) -> str | None:
    return next((value for name, value in handout.spec["headers"] if name.lower() == "content-type"), None)
