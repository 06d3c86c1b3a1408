"""What `taskqueue config` writes is read back as the same value; what is secret is not written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.cli.terminal import effective_values
from taskqueue.config.http_values import attempts, rate
from taskqueue.config.load import load
from taskqueue.config.sections import EffectiveValue
from taskqueue.config.values import duration, size

DURATIONS_MS = st.integers(0, 365 * 86_400_000)


def text(kind: str, value: object, key: str = "k") -> str:
    return effective_values._text(EffectiveValue(key, kind, value, ""))


@given(DURATIONS_MS)
def test_a_duration_is_read_back(milliseconds: int) -> None:
    written = text("duration", milliseconds / 1000)
    assert duration(written, "0", "365d") == pytest.approx(milliseconds / 1000, abs=1e-6)


@given(st.integers(1, 1 << 44))
def test_a_size_is_read_back(count: int) -> None:
    assert size(text("size", count), "1", "16384G") == count


def test_the_defaults_are_written_as_the_configspec_has_them() -> None:
    defaults = load(text="", environ={}).effective_of_group("DEFAULT")
    written = {f"{each.key}: {text(each.kind, each.value, each.key)}" for each in defaults}
    assert {"retry_max_delay: 1h", "retry_delay: 1s", "time_limit: none", "prefetch: auto", "preload: yes"} <= written
    assert {each.origin for each in defaults} == {""}


@given(st.integers(1000, 10_000_000), st.sampled_from("smhd"))
def test_a_rate_is_read_back(count: int, unit: str) -> None:
    per_second = rate(f"{count / 1000:.3f}/{unit}")
    assert rate(text("rate", per_second)) == pytest.approx(per_second, rel=1e-9)


@pytest.mark.parametrize(
    ("value", "written"),
    [("10/s", "10/s"), ("600/m", "10/s"), ("100/m", "100/m"), ("5000/h", "5000/h"), ("1/d", "1/d")],
)
def test_a_rate_is_written_in_a_unit_that_fits(value: str, written: str) -> None:
    assert text("rate", rate(value)) == written


def test_attempts_are_read_back() -> None:
    assert text("attempts", None) == "none"
    assert (attempts(text("attempts", -1), "9"), attempts(text("attempts", 7), "9")) == (-1, 7)


def test_the_defaults_of_the_http_half() -> None:
    found = load(text="[http_q]\n[schedule_s]\nevery: 1h\nurl: http://h/\n", environ={})
    written = {
        f"{section} {each.key}: {text(each.kind, each.value, each.key)}"
        for section in ("http", "http_q", "schedule_s")
        for each in found.effective_of_section(section)
    }
    assert {
        "http listen: 127.0.0.1:8088", "http book: sqlite:/var/lib/taskqueue/http.db", "http queues: none",
        "http processes: 1", "http max_body: 1M", "http keep_body: 1d", "http trusted_proxies: none",
        "http targets: auto", "http tls_cert: none", "http_q rate_limit: none", "http_q permanent_statuses: 410",
        "http_q headers: none", "http_q max_attempts: none", "http_q min_backoff: 100ms", "http_q sign: no",
        "schedule_s cron: none", "schedule_s every: 1h", "schedule_s queue: default", "schedule_s jitter: 0s",
    } <= written  # fmt: skip


def test_secrets_of_the_http_half() -> None:
    config = "[http]\nbook: postgresql://u:s3cret@h/d\n[http_q]\nheaders: Authorization: s3cret, X-A: s3cret\n"
    found = load(text=config, environ={})
    rows = [(name, each) for name in ("http", "http_q") for each in found.effective_of_section(name)]
    written = {each.key: text(each.kind, each.value, each.key) for _, each in rows}
    assert written["book"] == "postgresql://u:…@h/d"
    assert written["headers"] == "Authorization: ********, X-A: ********"
    as_json = {each["key"]: each["value"] for each in effective_values.as_json(rows)}
    assert as_json["book"] == "postgresql://u:…@h/d"
    assert as_json["headers"] == {"Authorization": "********", "X-A": "********"}
    assert "s3cret" not in str(as_json)
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("key", "kind", "value", "shown"),
    [
        ("passwd", "text", "guest", "********"),
        ("db_password", "", "x", "********"),
        ("API_KEY", "", ["x", "y"], "********"),
        ("smtp_secret", "", "x", "********"),
        ("passes", "", "3", "3"),
        ("monkey", "", "3", "3"),
        ("dsn", "", "postgres://u:p%40q@h/db?x=1", "postgres://u:********@h/db?x=1"),
        ("urls", "", ["http://h/", "ftp://u:p@h"], "http://h/, ftp://u:********@h"),
        ("size", "", "3", "3"),
    ],
)
def test_what_is_secret(key: str, kind: str, value: object, shown: str) -> None:
    assert text(kind, value, key) == shown
    (row,) = effective_values.as_json([("s", EffectiveValue(key, kind, value, ""))])
    assert "p%40q" not in str(row) and "x" not in str(row["value"]).replace("x=1", "")
