"""Filters of lists and bulk operations, and cursors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.http.api.cursors import cursor, read_cursor
from taskqueue.http.api.filters import BulkRequest, TaskFilter, read_bulk, read_filter
from taskqueue.http.api.problems import BadField, Problem
from taskqueue.http.states import TaskState

NOW_MS = 1_767_225_600_000


def test_all_conditions() -> None:
    place = cursor((5, "b"))
    query = (
        "state=dead,expired&state=ready&queue=emails&name=n%201&id_prefix=01AB&url_prefix=https%3A%2F%2Fx&status_code=503"
        f"&tag=t&text=oops&since=1h&until=2026-01-01T00:00:00Z&limit=7&cursor={place}"
    )
    assert read_filter(query, NOW_MS) == TaskFilter(
        frozenset({TaskState.DEAD, TaskState.EXPIRED, TaskState.READY}),
        "emails", "n 1", "01ab", "https://x", 503, "t", "oops", NOW_MS - 3_600_000, NOW_MS, 7, (5, "b"),
    )  # fmt: skip


def test_blank_ones_count_for_nothing() -> None:
    assert read_filter("state=&queue=&limit=", NOW_MS) == read_filter("", NOW_MS) == TaskFilter()


def test_the_queue_of_the_path_holds() -> None:
    assert read_filter("state=dead", NOW_MS, "emails").queue == "emails"
    with pytest.raises(Problem, match="must be the queue of the path"):
        read_filter("queue=other", NOW_MS, "emails")


@pytest.mark.parametrize(
    ("query", "field", "detail"),
    [
        ("state=gone", "state",
         "must be of scheduled, ready, running, retrying, succeeded, dead, cancelled, expired"),
        ("queue=-x", "queue", "must be the name of a queue"),
        ("limit=0", "limit", "must be a whole number from 1 to 1000"),
        ("limit=1001", "limit", "must be a whole number from 1 to 1000"),
        ("limit=x", "limit", "must be a whole number from 1 to 1000"),
        ("limit=1&limit=2", "limit", "must be there once"),
        ("status_code=5xx", "status_code", "must be a whole number from 100 to 599"),
        ("since=soon", "since", 'must be a time such as "2026-12-24T18:00:00Z", or how long ago, such as 1h'),
        ("since=1h&until=2h", "since", "must be before until"),
        ("cursor=abc", "cursor", "is not one that a list gave; begin without a cursor"),
        ("stat=dead", "stat", "is not known; did you mean state?"),
        ("name=%00", "name", "must not have control characters"),
    ],
)  # fmt: skip
def test_a_bad_filter_is_told(query: str, field: str, detail: str) -> None:
    with pytest.raises(Problem) as caught:
        read_filter(query, NOW_MS)
    assert (caught.value.slug, list(caught.value.errors)) == ("validation", [{"field": field, "detail": detail}])


@given(st.lists(st.integers() | st.text(), max_size=4).map(tuple))
def test_a_cursor_leads_back(place: tuple[int | str, ...]) -> None:
    text = cursor(place)
    assert read_cursor(text) == place
    assert text.replace("-", "").replace("_", "").isalnum()


@given(st.integers(0, 200), st.characters())
def test_a_changed_cursor_is_told(at: int, letter: str) -> None:
    text = cursor((1_767_225_600_000, "01981a2b-0000-7000-8000-000000000001"))
    at %= len(text) - 1  # the last character has bits that mean nothing
    changed = text[:at] + letter + text[at + 1 :]
    if changed != text:
        with pytest.raises(BadField):
            read_cursor(changed)


@given(st.text(max_size=40) | st.none() | st.integers())
def test_any_text_as_a_cursor(text: Any) -> None:
    with pytest.raises(BadField):
        read_cursor(text)


@pytest.mark.parametrize(
    ("query", "document", "expected"),
    [
        ("", {"filter": {"state": "dead"}, "rate": "600/m"}, BulkRequest(TaskFilter(frozenset({TaskState.DEAD})),
                                                                        rate=10.0)),
        ("", {"state": ["dead", "expired"], "dry_run": True},
         BulkRequest(TaskFilter(frozenset({TaskState.DEAD, TaskState.EXPIRED})), True)),
        ("queue=q&dry_run=true", None, BulkRequest(TaskFilter(queue="q"), True)),
        ("", {"all": True}, BulkRequest(TaskFilter())),
    ],
)  # fmt: skip
def test_a_bulk_operation(query: str, document: Any, expected: BulkRequest) -> None:
    assert read_bulk(query, document, NOW_MS) == expected


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({}, "#"),
        (None, "#"),
        ({"all": False}, "#"),
        ([], "#"),
        ({"filter": []}, "#/filter"),
        ({"filter": {"stat": "dead"}}, "#/filter/stat"),
        ({"state": 5}, "#/state"),
        ({"limit": 5, "state": "dead"}, "#/limit"),
        ({"state": "dead", "rate": 0}, "#/rate"),
        ({"state": "dead", "dry_run": "yes"}, "#/dry_run"),
    ],
)
def test_a_bulk_operation_that_could_hit_too_much_is_refused(document: Any, place: str) -> None:
    with pytest.raises(Problem) as caught:
        read_bulk("", document, NOW_MS)
    assert [each["pointer"] for each in caught.value.errors] == [place]
