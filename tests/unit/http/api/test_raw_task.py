"""Raw requests: the query names the target, headers the rest, the body goes on as it is."""

from __future__ import annotations

import pytest

from taskqueue.config.http_settings import HttpSettings, QueueSettings
from taskqueue.http.api.problems import Problem
from taskqueue.http.api.raw_task import read_raw_task
from taskqueue.http.api.target_rules import reading_rules
from taskqueue.http.task_spec import RetryOverride, TaskSpec

RULES = reading_rules(HttpSettings())
QUEUE = QueueSettings("q")
QUERY = "url=https%3A%2F%2Fexample.com%2Fx%3Fa%3D1%26b%3D2"
URL = "https://example.com/x?a=1&b=2"
PNG = b"\x89PNG\r\n{"


def read(query: str = QUERY, *headers: tuple[str, str], body: bytes = PNG) -> TaskSpec:
    return read_raw_task(query, headers, body, QUEUE, RULES, 0)


def test_a_body_goes_on_as_it_is() -> None:
    assert read() == TaskSpec("q", url=URL, body=PNG)
    spec = read(QUERY, ("Content-Type", "image/png"), ("X-Other", "stays here"), ("Authorization", "Bearer x"))
    assert spec == TaskSpec("q", url=URL, body=PNG, headers=(("Content-Type", "image/png"),))


def test_every_header() -> None:
    spec = read(
        QUERY,
        ("task-method", "put"),
        ("Task-Delay", "1.5"),
        ("TASK-TIMEOUT", "2m"),
        ("Task-Name", "5"),
        ("Task-Tags", "a, b"),
        ("Task-Max-Attempts", "-1"),
        ("Task-Min-Backoff", "2"),
        ("Task-Dedup", "content"),
        ("Task-Dedup-Window", "60"),
        ("Task-Expires", "1h"),
        ("Task-Callback-Url", "https://example.com/done"),
        ("Task-Forward-X-Owner", "ann"),
        ("task-forward-x-b", "1"),
        ("task-forward-x-b", "2"),
    )
    assert (spec.method, spec.delay_ms, spec.timeout_s, spec.name, spec.tags) == ("PUT", 1500, 120.0, "5", ("a", "b"))
    assert (spec.retry, spec.dedup_window_s) == (RetryOverride(max_attempts=-1, min_backoff_s=2.0), 60.0)
    assert (spec.expires_in_ms, spec.callback_url) == (3_600_000, "https://example.com/done")
    assert spec.headers == (("X-Owner", "ann"), ("x-b", "1"), ("x-b", "2"))
    assert read(QUERY, ("Task-At", "1970-01-01T00:00:05Z")).at_ms == 5000


def test_a_forwarded_type_wins() -> None:
    spec = read(QUERY, ("Content-Type", "text/plain"), ("Task-Forward-Content-Type", "image/png"))
    assert spec.headers == (("Content-Type", "image/png"),)


@pytest.mark.parametrize(
    ("query", "headers", "errors"),
    [
        ("", (), [{"field": "url", "detail": "is missing; say url, or worker_type for a plugin"}]),
        ("url=ftp://x", (), [{"field": "url", "detail": "has the scheme ftp; expected http or https"}]),
        ("url=http://x/&url=http://y/", (), [{"field": "url", "detail": "must be there once"}]),
        (
            "url=http://x/?a=1&b=2",
            (),
            [
                {
                    "field": "b",
                    "detail": "is not known; the query has url or worker_type; percent-encode the target URL, as "
                    "curl's --data-urlencode does",
                }
            ],
        ),
        (QUERY, (("Content-Type", "a\udcff"),), [{"header": "Content-Type",
                                               "detail": "its value has control characters, as a line break is one"}]),
        (QUERY, (("Task-Dely", "5"),), [{"header": "task-dely", "detail": "is not known; did you mean task-delay?"}]),
        (QUERY, (("Task-Delay", "5"), ("task-delay", "5")), [{"header": "task-delay", "detail": "must be there once"}]),
        (
            QUERY,
            (("Task-Delay", "soon"), ("Task-Max-Attempts", "0"), ("Task-Forward-Host", "x")),
            [
                {"header": "Task-Forward-Host", "detail": "a task may not set it; leave it out"},
                {"header": "Task-Delay",
                 "detail": 'must be seconds, or a duration such as "5s", "2m", "1.5h" or "3d": \'soon\''},
                {"header": "Task-Max-Attempts",
                 "detail": "must be a whole number from 1 to 1000000, or -1 for any number of attempts"},
            ],
        ),
        (QUERY, (("Task-Method", "GET"),), [{"header": "Task-Method",
                                             "detail": "must not be GET for a task with a body"}]),
    ],
)  # fmt: skip
def test_a_fault_has_its_place(query: str, headers: tuple[tuple[str, str], ...], errors: list[dict[str, str]]) -> None:
    with pytest.raises(Problem) as caught:
        read(query, *headers)
    assert (caught.value.slug, list(caught.value.errors)) == ("validation", errors)
