"""The catalogue of problems, and the document that a client gets."""

from __future__ import annotations

import http
import json
import re
from pathlib import Path

import pytest

from taskqueue.http.api import problems
from taskqueue.http.api.problem_types import PROBLEM_TYPES
from taskqueue.http.api.problems import Problem, document, fault_at, fault_of_field, fault_of_header, page

SOURCES = Path(problems.__file__).parents[1]

GOOGLE: dict[str, set[int]] = {
    "INVALID_ARGUMENT": {400, 406, 411, 413, 414, 415, 422, 431},
    "FAILED_PRECONDITION": {409},
    "UNAUTHENTICATED": {401},
    "PERMISSION_DENIED": {403},
    "NOT_FOUND": {404},
    "ALREADY_EXISTS": {409},
    "ABORTED": {409},
    "RESOURCE_EXHAUSTED": {409, 429},
    "UNIMPLEMENTED": {405, 501},
    "UNAVAILABLE": {503},
    "DEADLINE_EXCEEDED": {503},
    "CANCELLED": {408},
    "INTERNAL": {500},
}


@pytest.mark.parametrize("slug", PROBLEM_TYPES)
def test_every_problem_has_a_title_and_a_page(slug: str) -> None:
    kind = PROBLEM_TYPES[slug]
    assert re.fullmatch("[a-z]+(-[a-z]+)*", slug)
    assert kind.status in GOOGLE[kind.google]
    assert http.HTTPStatus(kind.status)
    assert kind.title[0].isupper() and not kind.title.endswith(".")
    assert kind.page.endswith(".") and len(kind.page) > 40
    assert f"<h1>{kind.title}</h1>" in page(slug).replace("&#x27;", "'")
    assert slug in [each["type"] for each in problems.index()]


def test_every_problem_that_is_raised_is_in_the_catalogue() -> None:
    raised = {
        slug for path in SOURCES.rglob("*.py") for slug in re.findall(r'Problem\(\s*"([a-z-]+)"', path.read_text())
    }
    assert "validation" in raised
    assert raised <= PROBLEM_TYPES.keys()


def test_a_page_that_is_not_there() -> None:
    with pytest.raises(Problem, match="no problem 'x'") as caught:
        page("x")
    assert caught.value.status == 404


def test_the_whole_document() -> None:
    problem = Problem("validation", errors=[fault_at("#/url", "is missing"), fault_of_field("limit", "is wrong")])
    status, headers, body = document(problem, "/v1/queues/emails/tasks", "/base")
    assert status == 422
    assert headers == {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
    assert body.endswith(b"}\n")
    assert json.loads(body) == {
        "type": "/base/problems/validation",
        "title": "The request has faults",
        "status": 422,
        "detail": "#/url is missing; limit is wrong",
        "instance": "/v1/queues/emails/tasks",
        "errors": [{"pointer": "#/url", "detail": "is missing"}, {"field": "limit", "detail": "is wrong"}],
        "error": {
            "code": 422,
            "status": "INVALID_ARGUMENT",
            "message": "#/url is missing; limit is wrong",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "VALIDATION",
                    "domain": "taskqueue",
                }
            ],
        },
    }


def test_headers_and_members_are_added() -> None:
    problem = Problem("task-exists", "x", headers={"Location": "/v1/tasks/7"}, members={"id": "7"})
    _, headers, body = document(problem)
    assert headers["Location"] == "/v1/tasks/7"
    assert (json.loads(body)["id"], "instance" in json.loads(body), "errors" in json.loads(body)) == ("7", False, False)


def test_a_document_is_bounded() -> None:
    problem = Problem("validation", errors=[fault_of_header(f"h{number}", "is wrong") for number in range(1000)])
    found = json.loads(document(problem)[2])
    assert (len(found["errors"]), found["errors_left_off"]) == (100, 900)
    assert found["detail"] == "h0 is wrong; h1 is wrong; h2 is wrong; and 997 more"
