"""A problem that a client is told, and its document: RFC 9457 with Google's `error` member in it.

1. A reader finds faults and raises `Problem("validation", errors=[fault_at("#/url", "is missing")])`.
2. The server catches it, wherever it was raised, and answers `document(problem, "/v1/queues/emails/tasks")`:

    {"type": "/problems/validation", "title": "The request has faults", "status": 422, "detail": "#/url is missing", …
     "error": {"code": 422, "status": "INVALID_ARGUMENT", "message": "#/url is missing", "details": […]}}

Google's clients read `error`, everybody else the rest. The document never holds a body, a token or a header's value.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from taskqueue.http.api.problem_types import PROBLEM_TYPES, ProblemType

MEDIA_TYPE = "application/problem+json"
DOMAIN = "taskqueue"
"""The `domain` of Google's ErrorInfo."""
FAULTS_SHOWN = 100
"""Faults that a document lists; the rest is counted, so that a hostile body cannot make an answer much larger."""

Fault = dict[str, str]
"""One fault: its place as `pointer` (JSON), `field` (a form or a query) or `header`, and `detail`, a phrase that
follows the name of the place."""


def fault_at(pointer: str, detail: str) -> Fault:
    """A fault in a JSON body; `pointer` is a JSON pointer as a URI fragment: `#/retry/max_age`."""
    return {"pointer": pointer, "detail": detail}


def fault_of_field(field: str, detail: str) -> Fault:
    """A fault in a form's field or a parameter of the query."""
    return {"field": field, "detail": detail}


def fault_of_header(header: str, detail: str) -> Fault:
    """A fault in a header of the request."""
    return {"header": header, "detail": detail}


class BadField(ValueError):
    """A value of a request is wrong. Its text is a phrase that follows the name of the place: the reader makes it a
    fault, and reads on."""


class Problem(Exception):
    """A request cannot be answered as it was meant. The server answers with its document.

    `slug` is a key of PROBLEM_TYPES. `headers` are added to the answer (`Retry-After`, `Allow`, `Location`), `members`
    to the document.
    """

    def __init__(
        self,
        slug: str,
        detail: str = "",
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        self.type: ProblemType = PROBLEM_TYPES[slug]
        self.slug = slug
        self.errors = tuple(errors)
        self.detail = detail or in_words(self.errors) or self.type.title + "."
        self.headers = dict(headers or {})
        self.members = dict(members or {})
        super().__init__(f"{slug}: {self.detail}")

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return self.type.status


def in_words(errors: Sequence[Fault]) -> str:
    """All faults in one line for people, the first three at length; "" for none."""
    phrases = [f"{each.get('pointer') or each.get('field') or each.get('header')} {each['detail']}" for each in errors]
    more = f"; and {len(phrases) - 3} more" if len(phrases) > 3 else ""
    return "; ".join(phrases[:3]) + more


def members(problem: Problem, instance: str | None = None, root: str = "") -> dict[str, Any]:
    """The document as a dict. `instance` is the path of the request; `root` is put before `/problems/…` (base_path)."""
    kind = problem.type
    found: dict[str, Any] = {
        "type": f"{root}/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
    }
    if instance is not None:
        found["instance"] = instance
    if problem.errors:
        found["errors"] = list(problem.errors[:FAULTS_SHOWN])
        if len(problem.errors) > FAULTS_SHOWN:
            found["errors_left_off"] = len(problem.errors) - FAULTS_SHOWN
    found["error"] = {
        "code": kind.status,
        "status": kind.google,
        "message": problem.detail,
        "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": kind.reason, "domain": DOMAIN},
        ],
    }
    return {**found, **problem.members}


def document(problem: Problem, instance: str | None = None, root: str = "") -> tuple[int, dict[str, str], bytes]:
    """The answer to a request that met `problem`: the status, the headers and the body."""
    body = json.dumps(members(problem, instance, root), ensure_ascii=True).encode()
    return problem.status, {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", **problem.headers}, body + b"\n"


def page(slug: str) -> str:
    """The page `/problems/SLUG` in HTML, without script or style. Raises `Problem`: unknown-problem."""
    kind = PROBLEM_TYPES.get(slug)
    if kind is None:
        raise Problem("unknown-problem", f"The catalogue has no problem {slug[:80]!r}.")
    title, text = html.escape(kind.title), html.escape(kind.page)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
        f"<h1>{title}</h1>\n<p>{text}</p>\n"
        f"<p>HTTP status {kind.status}, <code>{kind.google}</code>, <code>{kind.reason}</code></p>\n</html>\n"
    )


def index() -> list[dict[str, Any]]:
    """All problems, for `GET /problems`: slug, title, HTTP status and text of each."""
    return [
        {"type": each.slug, "title": each.title, "status": each.status, "detail": each.page}
        for each in PROBLEM_TYPES.values()
    ]
