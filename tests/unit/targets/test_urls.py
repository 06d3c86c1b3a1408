"""What is accepted as a URL, and how it is written to those who connect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.errors import TargetRefused
from taskqueue.targets.urls import URL_LIMIT, check_url

WRITTEN = [
    ("http://example.com", "http://example.com:80/", "example.com"),
    ("HTTPS://Example.COM:8443/A?b=%20#frag", "https://example.com:8443/A?b=%20", "example.com"),
    ("http://example.com?x", "http://example.com:80/?x", "example.com"),
    ("http://example.com:/", "http://example.com:80/", "example.com"),
    ("http://a/../b/./c//", "http://a:80/../b/./c//", "a"),
    ("http://bücher.example/ü?ß", "http://xn--bcher-kva.example:80/%C3%BC?%C3%9F", "xn--bcher-kva.example"),
    ("http://under_score.example./", "http://under_score.example.:80/", "under_score.example."),
    ("http://[2001:DB8::1]:81/", "http://[2001:db8::1]:81/", "2001:db8::1"),
]


@pytest.mark.parametrize(("text", "url", "host"), WRITTEN)
def test_a_url_is_written_in_one_way(text: str, url: str, host: str) -> None:
    parsed = check_url(text)
    assert (parsed.url, parsed.host) == (url, host)
    assert check_url(parsed.url) == parsed


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "[::ffff:127.0.0.1]",
        "\uff11\uff12\uff17\u30020.0.1",
        "①27.1",
    ],
)
def test_a_literal_is_known_as_an_address_in_every_form(host: str) -> None:
    parsed = check_url(f"http://{host}:80/")
    assert str(parsed.address) == "127.0.0.1"
    assert parsed.origin == "http://127.0.0.1:80", "one origin for all spellings"


def test_an_origin_has_no_trailing_dot_and_always_a_port() -> None:
    assert (
        check_url("https://a.example./x").origin
        == check_url("https://A.example:443/y").origin
        == "https://a.example:443"
    )
    assert check_url("http://0/").address is not None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, "NoneType"),
        (7, "int"),
        ("", "not absolute"),
        ("/x", "not absolute"),
        ("http:example.com", "not absolute"),
        ("//example.com/", "not absolute"),
        ("ftp://example.com/", "scheme ftp"),
        ("file:///etc/passwd", "scheme file"),
        ("http:///x", "no host"),
        ("http://:80/", "no host"),
        ("http://u@example.com/", "user name"),
        ("http://u:p@example.com/", "user name"),
        ("http://good.example\\@evil.example/", "user name"),
        ("http://a\\b/", "neither a name"),
        ("http://a b/", "U+0020"),
        ("http://a/ b", "U+0020"),
        ("http://a/\r\nX: y", "U+000D"),
        ("http://a/\0", "U+0000"),
        ("http://a/\x7f", "U+007F"),
        ("http://a/\u2028", "U+2028"),
        ("http://a/\u00a0", "U+00A0"),
        ("http://a/\ud800", "U+D800"),
        ("\thttp://a/", "U+0009"),
        ("http://a:0/", "port"),
        ("http://a:65536/", "port"),
        ("http://a:8o/", "port"),
        ("http://a:-1/", "port"),
        ("http://a:٣/", "port"),
        ("http://a:000080/", "port"),
        ("http://[fe80::1%25eth0]/", "zone"),
        ("http://[::1/", "neither"),
        ("http://[1.2.3.4]/", "brackets"),
        ("http://::1/", "neither"),
        ("http://1.2.3.4.5/", "number"),
        ("http://256.256.256.256/", "range"),
        ("http://09.1/", "octal"),
        ("http://a%2eb/", "neither"),
        ("http://a..b/", "neither"),
        ("http://-a/", "neither"),
        ("http://" + "a" * 64 + ".example/", "neither"),
        ("http://ü" + "a" * 70 + "/", "IDNA"),
        ("http://a/" + "x" * URL_LIMIT, "longer"),
        ("http://a/" + "ü" * (URL_LIMIT // 2), "longer"),
    ],
)
def test_a_bad_url_is_refused_with_one_line(url: object, says: str) -> None:
    with pytest.raises(TargetRefused) as raised:
        check_url(url)
    assert says in str(raised.value) and "\n" not in str(raised.value)


@given(st.text(st.characters(), max_size=30), st.text(max_size=20))
def test_whatever_is_accepted_is_plain_and_stays_the_same(host: str, path: str) -> None:
    try:
        parsed = check_url(f"http://{host}/{path}")
    except TargetRefused:
        return
    assert parsed.url.isascii() and parsed.url.isprintable() and " " not in parsed.url
    assert check_url(parsed.url) == parsed
