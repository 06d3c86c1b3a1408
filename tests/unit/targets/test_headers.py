"""Which headers a task may send."""

from __future__ import annotations

import pytest

from taskqueue.errors import TargetRefused
from taskqueue.targets.headers import HEADERS_LIMIT, check_headers


def test_order_case_and_repeated_names_are_kept() -> None:
    pairs = [("X-b", "2"), ("x-A", "1"), ("X-b", "3"), ("Empty", ""), ("Cookie", "a=b; c"), ("U", "ü\tü")]
    assert check_headers(pairs) == tuple(pairs)
    assert check_headers([("a", " \t v ")]) == (("a", "v"),)


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "UPGRADE",
        "TE",
        "Trailer",
        "Expect",
        "Keep-Alive",
        "Proxy-Authorization",
        "X-CloudTasks-TaskName",
        "X-AppEngine-X",
        "x-google-y",
        "webhook-id",
        "Webhook-Signature",
        "X-Task",
        "X-Task-Id",
        "x-task-attempt",
        "",
        "a b",
        "a:",
        "a\r\nb",
        "ä",
        "a\0",
        "a\n",
        7,
        None,
    ],
)
def test_a_name_that_is_refused(name: object) -> None:
    with pytest.raises(TargetRefused) as raised:
        check_headers([("ok", "1"), (name, "v")])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\n", "a\r", "a\0", "\x1b[0m", "\x7f", "\ud800", 7, None, ["a"]])
def test_a_value_that_is_refused_and_not_quoted(value: object) -> None:
    with pytest.raises(TargetRefused, match="header Name"):
        check_headers([("Name", value)])


def test_cloud_tasks_headers_only_in_a_hand_out() -> None:
    pair = ("X-CloudTasks-TaskName", "t")
    assert check_headers([pair], cloud_tasks=True) == (pair,)
    with pytest.raises(TargetRefused):
        check_headers([("X-Task-Id", "t")], cloud_tasks=True)


def test_the_size_of_all_headers() -> None:
    value = "v" * (HEADERS_LIMIT - len("ab: \r\n"))
    assert check_headers([("ab", value)])
    with pytest.raises(TargetRefused, match="80 KiB"):
        check_headers([("ab", value + "v")])
