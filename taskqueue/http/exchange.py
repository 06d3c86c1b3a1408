"""A request and its answer, without the library that carries them: what endpoints get, and what they give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taskqueue.http.api.task_document import as_bytes

JSON = "application/json"


@dataclass(slots=True)
class Question:
    """One request, read whole, from somebody who may ask it."""

    method: str
    path: str
    """As it came, without the base path and the query."""
    query: str
    """As it came, without the question mark."""
    headers: Mapping[str, str]
    """Names in any case; of several lines with one name the first."""
    body: bytes
    who: str
    """The name of the token, or who else it is: for the audit, and the scope of an Idempotency-Key."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """The parts of the path that the route names: `queue`, `task_id`."""
    root: str = ""
    """What stands before every path of ours, for links: `[http] base_path`."""

    def instance(self) -> str:
        """The path for a problem document."""
        return self.root + self.path


@dataclass(slots=True)
class Answer:
    """One answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str | None = JSON


def document(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with `value` as JSON, one line."""
    return Answer(status, as_bytes(value), dict(headers or {}))
