"""Requests that a front without tokens refuses, for somebody else may have sent them."""

from __future__ import annotations

import pytest

from taskqueue.http.api.problems import Problem
from taskqueue.http.gate import refuse_strangers


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:8088"}, {"Host": "127.0.0.1:8088"}, {"Host": "[::1]:8088"}, {"Host": "LOCALHOST"},
        {"Host": "127.5.5.5"}, {}, {"Host": "localhost:8088", "Origin": "http://localhost:8088"},
        {"Host": "localhost", "Sec-Fetch-Site": "same-origin"}, {"Host": "localhost", "Sec-Fetch-Site": "none"},
    ],
)  # fmt: skip
def test_what_this_host_sends_passes(headers: dict[str, str]) -> None:
    refuse_strangers(headers, unix=False)


@pytest.mark.parametrize(
    ("headers", "slug", "word"),
    [
        ({"Host": "localhost", "X-Forwarded-For": "192.0.2.1"}, "exposed-without-tokens", "trusted_proxies"),
        ({"Host": "localhost", "Forwarded": "for=x"}, "exposed-without-tokens", "token add"),
        ({"Host": "localhost", "Via": "1.1 proxy"}, "exposed-without-tokens", "Via"),
        ({"Host": "evil.example"}, "forbidden-origin", "evil.example"),
        ({"Host": "localhost.evil.example"}, "forbidden-origin", "localhost.evil.example"),
        ({"Host": "127.evil.example"}, "forbidden-origin", "127.evil.example"),
        ({"Host": "localhost", "Origin": "https://evil.example"}, "forbidden-origin", "evil.example"),
        ({"Host": "localhost", "Origin": "null"}, "forbidden-origin", "null"),
        ({"Host": "localhost", "Sec-Fetch-Site": "cross-site"}, "forbidden-origin", "another site"),
        ({"Host": "localhost", "Sec-Fetch-Site": "same-site"}, "forbidden-origin", "another site"),
    ],
)
def test_what_strangers_send_is_refused(headers: dict[str, str], slug: str, word: str) -> None:
    with pytest.raises(Problem) as refused:
        refuse_strangers(headers, unix=False)
    assert refused.value.slug == slug and word in refused.value.detail


def test_a_unix_socket_has_no_host() -> None:
    refuse_strangers({"Host": "anything"}, unix=True)
    with pytest.raises(Problem):
        refuse_strangers({"Host": "anything", "Via": "1.1 proxy"}, unix=True)
