"""The request that a workitem asks for; every field of it may be hostile."""

from __future__ import annotations

from typing import Any

import pytest

from taskqueue.targets.policy import Reach
from taskqueue.webhook.request import Malformed, parse_request

URL = "http://example.com/x"


def parse(handed_out: bool = True, **fields: Any) -> Any:
    return parse_request({"url": URL, **fields}, handed_out=handed_out)


def test_defaults() -> None:
    request = parse()
    assert (request.method, request.headers, request.body, request.timeout_s) == ("POST", (), b"", 30)
    assert (request.keep_response, request.follow_redirects, request.reach) == (4096, 0, Reach.ANY)
    assert (request.queue, request.sign) == (None, False)


def test_all_fields() -> None:
    request = parse(
        method="put",
        headers=[["A", "1"], ["a", "2"]],
        body_base64="AP8=",
        timeout=0.5,
        keep_response=0,
        follow_redirects=3,
        targets="public",
        queue="emails",
        sign=True,
        of_a_later_front=1,
    )
    assert (request.method, request.headers, request.body) == ("PUT", (("A", "1"), ("a", "2")), b"\0\xff")
    assert (request.timeout_s, request.keep_response, request.follow_redirects) == (0.5, 0, 3)
    assert (request.reach, request.queue, request.sign) == (Reach.PUBLIC, "emails", True)


def test_bodies() -> None:
    assert parse(body="ü").body == "ü".encode()
    assert parse(body=None, body_base64="QQ==").body == b"A"
    given = parse(json={"a": [1, "ü"]})
    assert (given.body, given.headers) == ('{"a":[1,"ü"]}'.encode(), (("Content-Type", "application/json"),))
    assert parse(json=None).body == b"null"
    assert parse(json=1, headers={"content-type": "x/y"}).headers == (("content-type", "x/y"),)


@pytest.mark.parametrize(
    "fields",
    [
        {"url": None},
        {"url": "ftp://x/"},
        {"url": 7},
        {"method": "CONNECT"},
        {"method": "TRACE"},
        {"method": "GET /x"},
        {"method": "P\r\nX: y"},
        {"method": 1},
        {"headers": "a"},
        {"headers": [["a"]]},
        {"headers": {"a": 1}},
        {"headers": {"Host": "x"}},
        {"headers": {"a": "b\r\nc"}},
        {"headers": None},
        {"body": 1},
        {"body": "\ud800"},
        {"body": "a", "json": 1},
        {"body_base64": "!"},
        {"body_base64": "ü"},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": True},
        {"timeout": "5"},
        {"timeout": 86_401},
        {"keep_response": -1},
        {"keep_response": 65_537},
        {"keep_response": 1.5},
        {"follow_redirects": 4},
        {"follow_redirects": True},
        {"targets": "all"},
        {"targets": ["any"]},
        {"queue": "a b"},
        {"queue": "a\r\n"},
        {"queue": 1},
        {"sign": "yes"},
        {"sign": 1},
        {"method": "HEAD", "body": "x"},
    ],
)
def test_what_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Malformed) as raised:
        parse(**fields)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


@pytest.mark.parametrize("workitem", [None, [], "x", 1, b"x", [["url", URL]]])
def test_what_is_no_object_is_refused(workitem: object) -> None:
    with pytest.raises(Malformed, match="expected a JSON object"):
        parse_request(workitem, handed_out=True)


def test_a_client_may_neither_misspell_nor_sign() -> None:
    for fields in ({"header": {}}, {"sign": True}, {"headers": {"X-CloudTasks-A": "b"}}):
        with pytest.raises(Malformed):
            parse(False, **fields)
    assert parse(headers={"X-CloudTasks-A": "b"}).headers
