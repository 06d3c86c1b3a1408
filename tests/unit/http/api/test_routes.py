"""The table of routes and the search in it, and the OpenAPI document that is made of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.config.http_values import RESERVED_QUEUES
from taskqueue.http.api.filters import read_filter
from taskqueue.http.api.native_task import KEYS
from taskqueue.http.api.openapi import _FILTERS, openapi
from taskqueue.http.api.openapi_schemas import SCHEMAS
from taskqueue.http.api.problems import Problem
from taskqueue.http.api.queue_document import KEYS as QUEUE_KEYS
from taskqueue.http.api.queue_document import READ_ONLY
from taskqueue.http.api.routes import ROUTES, Route, match
from taskqueue.http.states import TaskState

ID = "01981a2b-0000-7000-8000-000000000001"


@pytest.mark.parametrize("route", ROUTES, ids=[route.name for route in ROUTES])
def test_every_route_is_found(route: Route) -> None:
    names = re.findall(r"\{(\w+)\}", route.pattern)
    path = re.sub(r"\{\w+\}", ID, route.pattern)
    assert match(route.method, path) == (route, dict.fromkeys(names, ID))


def test_names_are_unique() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES) == len({(r.method, r.pattern) for r in ROUTES})


@pytest.mark.parametrize(
    ("method", "path", "name", "parameters"),
    [
        ("POST", "/queue", "miyamoto", {"queue": "queue"}),
        ("POST", "/a%2Db", "miyamoto", {"queue": "a-b"}),
        ("POST", "/v3", "miyamoto", {"queue": "v3"}),
        ("HEAD", "/v1/tasks", "list_tasks", {}),
        ("GET", "/%761/tasks", "list_tasks", {}),
        ("POST", "/v1/origins/https%3A%2F%2Fa.b%3A443:close-breaker", "close_breaker", {"origin": "https://a.b:443"}),
        ("POST", "/v1/origins/http:%2F%2Fa.b:80:close-breaker", "close_breaker", {"origin": "http://a.b:80"}),
        ("POST", "/v1/queues/a%252Fb:pause", "pause_queue", {"queue": "a%2Fb"}),
    ],
)
def test_a_path_is_found(method: str, path: str, name: str, parameters: dict[str, str]) -> None:
    route, found = match(method, path)
    assert (route.name, found) == (name, parameters)


@pytest.mark.parametrize(
    ("method", "path", "slug", "detail"),
    [
        ("GET", "/", "unknown-route", "There is nothing at /."),
        ("GET", "", "unknown-route", "There is nothing at ."),
        ("GET", "*", "unknown-route", "There is nothing at *."),
        ("GET", "/v1", "unknown-route", "There is nothing at /v1."),
        ("POST", "/metrics", "unknown-route", "There is nothing at /metrics."),
        ("GET", "/v1/tasks/", "unknown-route", "There is nothing at /v1/tasks/. Leave out the slash at the end."),
        ("GET", "/v1//tasks", "unknown-route", "There is nothing at /v1//tasks."),
        ("GET", "//v1/tasks", "unknown-route", "There is nothing at //v1/tasks."),
        ("POST", "/v1/tasks/7:explode", "unknown-route", "There is nothing at /v1/tasks/7:explode."),
        ("POST", "/v1/tasks:explode", "unknown-route", "There is nothing at /v1/tasks:explode."),
        ("GET", "/v1/origins/x", "unknown-route",
         "There is nothing at /v1/origins/x. Known endings are :close-breaker."),
        ("POST", "/a/b", "unknown-route", "There is nothing at /a/b."),
        ("POST", "/-x", "unknown-route", "There is nothing at /-x. If it is the name of a queue: letters, digits, "
                                         "'_', '.' and '-', at most 100."),
        ("GET", "/queue", "method-not-allowed", "This address has POST, and not GET."),
        ("PATCH", "/v1/tasks/7", "method-not-allowed", "This address has GET, DELETE, HEAD, and not PATCH."),
        ("GET", "/v1/tasks/7:run", "method-not-allowed", "This address has POST, and not GET."),
        ("GET", "/v1/tasks/%zz", "malformed-request",
         "The path has a '%' without two hexadecimal digits behind it."),
        ("GET", "/v1/tasks/%ff", "malformed-request", "The path is not UTF-8 once it is percent-decoded."),
        ("GET", "/v1/tasks/%0a", "malformed-request", "The path has a control character."),
    ],
)  # fmt: skip
def test_a_path_is_not_found(method: str, path: str, slug: str, detail: str) -> None:
    with pytest.raises(Problem) as caught:
        match(method, path)
    assert (caught.value.slug, caught.value.detail) == (slug, detail)


def test_allow_names_the_methods() -> None:
    with pytest.raises(Problem) as caught:
        match("OPTIONS", "/v1/queues/q")
    assert caught.value.headers == {"Allow": "GET, PUT, PATCH, DELETE, HEAD"}


@pytest.mark.parametrize("word", sorted(RESERVED_QUEUES))
def test_a_reserved_word_is_no_queue(word: str) -> None:
    with pytest.raises(Problem) as caught:
        match("POST", f"/{word}")
    assert caught.value.slug in ("unknown-route", "method-not-allowed")


@given(st.text(st.sampled_from("/:%av1tsk2F.-"), max_size=20), st.sampled_from(["GET", "POST"]))
def test_any_path_has_a_route_or_a_problem(path: str, method: str) -> None:
    try:
        route, parameters = match(method, "/" + path)
    except Problem as problem:
        assert problem.slug in ("unknown-route", "method-not-allowed", "malformed-request")
    else:
        assert all(parameters.values()) and route in ROUTES


DOCUMENT = openapi("1.2.3", "/base")


def test_openapi_has_every_route_and_no_other() -> None:
    operations = [
        (method.upper(), pattern, operation["operationId"])
        for pattern, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]
    assert sorted(operations) == sorted((route.method, route.pattern, route.name) for route in ROUTES)
    assert (DOCUMENT["openapi"], DOCUMENT["info"]["version"]) == ("3.1.0", "1.2.3")
    assert DOCUMENT["servers"] == [{"url": "/base"}]


def test_openapi_names_every_parameter_of_a_path() -> None:
    for pattern, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", pattern))


def test_every_reference_leads_somewhere() -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if "$ref" in value else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    for reference in references(json.loads(json.dumps(DOCUMENT))):
        at: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]


def test_schemas_have_the_keys_of_the_readers() -> None:
    assert set(SCHEMAS["NewTask"]["properties"]) == set(KEYS)
    retry = set(SCHEMAS["Retry"]["properties"])
    assert set(SCHEMAS["Queue"]["properties"]) | retry | {"created_at"} == {"name", *QUEUE_KEYS, *READ_ONLY}
    assert SCHEMAS["State"]["enum"] == list(TaskState)


def test_openapi_names_the_filters() -> None:
    with pytest.raises(Problem) as caught:
        read_filter("&".join(f"{name}=%00" for name in (*_FILTERS, "other")), 0)
    assert {each["field"] for each in caught.value.errors} == {*_FILTERS, "other"}
