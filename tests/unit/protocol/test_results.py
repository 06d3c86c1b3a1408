"""Results, and the bodies of error results, whatever the workitem was (design, section 4)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile import BODIES
from slow import examples
from taskqueue.protocol.properties import Properties
from taskqueue.protocol.results import Outcome, encode_result, error_body, result

WORKITEM = Properties(
    "application/json", "utf-8", {"mine": 1}, priority=3, correlation_id="c", reply_to="r", expiration="60000",
    message_id="m", timestamp=5, type="t", app_id="app",
)  # fmt: skip


def test_a_result() -> None:
    outcome = Outcome("error", b"", "application/json", 2, 12.6, "ValueError")
    made = result(WORKITEM, outcome, worker_type="w", host="h", ttl_s=60.5)
    assert made == Properties(
        content_type="application/json",
        headers={
            "worker_type": "w", "task_id": "m", "status": "error", "attempt": 2, "runtime_ms": 13, "host": "h",
            "error_type": "ValueError",
        },
        priority=3,
        correlation_id="c",
        expiration="60500",
        message_id="m",
    )  # fmt: skip


def test_a_result_of_success_has_no_error_type_and_its_message_id_correlates() -> None:
    outcome = Outcome("success", b"", "text/plain", 1, 0.0)
    made = result(Properties(message_id="m"), outcome, worker_type="w", host="h", ttl_s=0.0)
    assert made.headers is not None and "error_type" not in made.headers
    assert made.correlation_id == "m"
    assert made.expiration == "1", "0 would drop it at once"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("é", ("text/plain", "é".encode())),
        (b"\0", ("application/octet-stream", b"\0")),
        (bytearray(b"a"), ("application/octet-stream", b"a")),
        (memoryview(b"a"), ("application/octet-stream", b"a")),
        (None, ("application/json", b"null")),
        ({"a": [1, 2.5, True, None]}, ("application/json", b'{"a": [1, 2.5, true, null]}')),
        ((1, 2), ("application/json", b"[1, 2]")),
    ],
)
def test_encode_result(value: object, expected: tuple[str, bytes]) -> None:
    assert encode_result(value) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), {"a": b""}, {(1,): 2}, "\ud800"])
def test_what_json_cannot_hold_is_an_error_not_a_wrong_result(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_result(value)


RUOTE = {"fields": {"params": {"worker_type": "w"}, "x": [1]}, "wfid": "20260101-a"}


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", None, ""])
def test_a_ruote_workflow_gets_its_workitem_back(content_type: str | None) -> None:
    body = error_body(json.dumps(RUOTE).encode(), content_type, "bad", "trace")
    assert json.loads(body) == {**RUOTE, "error": "bad", "trace": "trace"}


@pytest.mark.parametrize(
    ("body", "content_type", "workitem"),
    [
        (b"some text", "text/plain", "some text"),
        (b"some text", None, "some text"),
        (b"[1, 2]", "application/json", [1, 2]),
        (b'"s"', "application/json", "s"),
        (b"{bad json", "application/json", "{bad json"),
        (b'{"a": NaN}', "application/json", '{"a": NaN}'),
        (b"{bad json", None, "{bad json"),
        (b'{"a": 1}', "text/plain", '{"a": 1}'),
        (b"\x00\xff", "application/octet-stream", "\x00\\xff"),
        (b"\xff\xfe", "application/json", "\\xff\\xfe"),
        (b"x", "application/json; charset=no-such", "x"),
        (b"", None, ""),
    ],
)
def test_other_workitems_come_back_beside_the_error(body: bytes, content_type: str | None, workitem: Any) -> None:
    assert json.loads(error_body(body, content_type, "bad", "t")) == {
        "error": "bad",
        "trace": "t",
        "workitem": workitem,
    }


@given(body=st.binary(max_size=100), content_type=st.none() | st.sampled_from(["application/json", "text/plain"]))
def test_an_error_body_can_be_made_of_anything(body: bytes, content_type: str | None) -> None:
    assert json.loads(error_body(body, content_type, "e", "t"))["error"] == "e"


@settings(max_examples=examples(300))
@given(body=BODIES, content_type=st.none() | st.sampled_from(["application/json", "text/plain; charset=utf-7"]))
def test_an_error_body_is_json_also_for_what_is_hostile(body: bytes, content_type: str | None) -> None:
    assert json.loads(error_body(body, content_type, "e", "t"), parse_constant=pytest.fail)["trace"] == "t"


@pytest.mark.parametrize("depth", [10, 400, 900, *range(950, 1000), 2000])
@pytest.mark.parametrize("shape", [b"[%s]", b'{"a": %s}'])
def test_an_error_body_of_json_however_deep(depth: int, shape: bytes) -> None:
    """What can be parsed cannot always be written again: the result is then the body as text."""
    body = shape % (b"[" * depth + b"]" * depth)
    assert b'"error": "e"' in error_body(body, "application/json", "e", "t")


def test_an_error_body_of_a_number_that_json_does_not_have() -> None:
    body = json.loads(error_body(b'{"n": 1e999}', "application/json", "e", "t"))
    assert body == {"error": "e", "trace": "t", "workitem": '{"n": 1e999}'}
