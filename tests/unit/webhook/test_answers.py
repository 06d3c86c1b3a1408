"""What an answer's headers and body mean."""

from __future__ import annotations

import pytest

from taskqueue.webhook.answers import HEADERS_KEPT, kept_body, kept_headers, no_retry, retry_after_s

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("value", "date", "wait_s"),
    [
        ("0", None, 0.0),
        ("120", None, 120.0),
        ("1.5", None, 1.5),
        ("99999999999", None, 366 * 86_400.0),
        ("-5", None, None),
        ("soon", None, None),
        ("", None, None),
        ("1e9", None, None),
        ("nan", None, None),
        ("٣", None, None),
        ("Sun, 06 Nov 1994 08:50:37 GMT", None, 60.0),
        ("Sun, 06 Nov 1994 08:48:37 GMT", None, 0.0),
        ("Sunday, 06-Nov-94 08:50:37 GMT", None, 60.0),
        ("Sun Nov  6 08:50:37 1994", None, 60.0),
        # the target's clock is an hour ahead, a day behind: it means a minute by its own clock
        ("Sun, 06 Nov 1994 09:50:37 GMT", "Sun, 06 Nov 1994 09:49:37 GMT", 60.0),
        ("Sat, 05 Nov 1994 08:50:37 GMT", "Sat, 05 Nov 1994 08:49:37 GMT", 60.0),
        ("Sun, 06 Nov 1994 08:50:37 GMT", "rubbish", 60.0),
        ("Sun, 06 Nov 9994 08:50:37 GMT", DATE, 366 * 86_400.0),
        ("Sun, 99 Nov 1994 08:50:37 GMT", DATE, None),
    ],
)
def test_retry_after(value: str, date: str | None, wait_s: float | None) -> None:
    headers = [("RETRY-AFTER", value), ("Date", date)] if date else [("retry-after", value)]
    assert retry_after_s(headers, NOW) == wait_s  # type: ignore[arg-type]
    assert retry_after_s([], NOW) is None


def test_no_retry() -> None:
    assert no_retry([("taskqueue-no-retry", "1")])
    assert not no_retry([("Taskqueue-No-Retry", "0")]) and not no_retry([])


def test_headers_that_fit_are_kept() -> None:
    many = [(f"n{number:03}", "v" * 96) for number in range(200)]
    kept = kept_headers(many)
    assert len(kept) == HEADERS_KEPT // 100 and kept[0] == ["n000", "v" * 96]


def test_a_body_is_text_where_it_can_be() -> None:
    assert kept_body("aü".encode(), False) == {"body": "aü"}
    assert kept_body("aü".encode()[:-1], True) == {"body": "a"}
    assert kept_body("a😀".encode()[:-1], True) == {"body": "a"}
    assert kept_body("aü".encode()[:-1], False) == {"body_base64": "YcM="}
    assert kept_body(b"a\0", False) == {"body_base64": "YQA="}
    assert kept_body(b"\xff" * 9, True) == {"body_base64": "////////////"}
    assert kept_body(b"", False) == {"body": ""}
