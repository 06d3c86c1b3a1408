"""Formats of workitems (design, section 4): whatever comes is routed, or malformed with a reason."""

from __future__ import annotations

import encodings
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hostile import BODIES, CANARY
from taskqueue.errors import MalformedWorkitem
from taskqueue.workitem import BYTES, JSON, TEXT, Routed, decode, media_type, parse_json, route, worker_type

LONGEST = "a" * 201


def routed(body: bytes, content_type: str | None = None, header: object = None, encoding: str | None = None) -> Routed:
    return route(body, content_type, encoding, header)


def reason(body: bytes, content_type: str | None = None, header: object = None, encoding: str | None = None) -> str:
    with pytest.raises(MalformedWorkitem) as caught:
        route(body, content_type, encoding, header)
    assert caught.value.detail
    return caught.value.reason


# -- text


@pytest.mark.parametrize(
    ("body", "worker", "rest"),
    [
        (b"worker1 some rest", "worker1", b"some rest"),
        (b"worker1", "worker1", b""),
        (b"worker1 ", "worker1", b""),
        (b"worker1  two spaces", "worker1", b" two spaces"),
        (b"worker1\nline\nline", "worker1", b"line\nline"),
        (b"  worker1 x", "worker1", b"x"),
        (b"w1 w1 w1", "w1", b"w1 w1"),
        ("w größer".encode(), "w", "größer".encode()),
        (b"w trailing \n", "w", b"trailing \n"),
    ],
)
def test_text(body: bytes, worker: str, rest: bytes) -> None:
    assert routed(body, TEXT) == (worker, rest, TEXT)
    assert routed(body) == (worker, rest, TEXT), "without a content type alike"


def test_text_in_another_charset_keeps_its_bytes() -> None:
    body = "w größer".encode("latin-1")
    assert routed(body, "text/plain; charset=ISO-8859-1") == ("w", body[2:], "text/plain; charset=ISO-8859-1")
    assert decode(body[2:], "text/plain; charset=ISO-8859-1", None) == "größer"
    assert reason(body, TEXT) == "malformed"


@pytest.mark.parametrize("body", [b"", b" ", b"\n\t ", b"-w rest", "wörker x".encode(), b"w/1 x", b"{"])
def test_text_without_a_worker_type(body: bytes) -> None:
    assert reason(body, TEXT) == "malformed"


# -- JSON


@pytest.mark.parametrize("content_type", [JSON, "Application/JSON; charset=utf-8", None])
def test_json_shapes(content_type: str | None) -> None:
    whole = b' {"worker_type": "w1", "size": 3}'
    assert routed(whole, content_type) == ("w1", whole, content_type or JSON)
    ruote = b'{"fields": {"params": {"worker_type": "w2"}}, "wfid": 7}'
    assert routed(ruote, content_type) == ("w2", ruote, content_type or JSON)
    envelope = routed(b'{"worker_type": "w3", "workitem": {"a": [1, null, "\\u00e9"]}}', content_type)
    assert envelope.worker_type == "w3" and envelope.content_type == JSON
    assert json.loads(envelope.body) == {"a": [1, None, "é"]}


@pytest.mark.parametrize("value", ["text", 1, None, [1], {}, True])
def test_an_envelope_forwards_any_value(value: Any) -> None:
    assert json.loads(routed(json.dumps({"worker_type": "w", "workitem": value}).encode()).body) == value


def test_an_envelope_with_more_keys_is_an_object_forwarded_whole() -> None:
    body = b'{"worker_type": "w", "workitem": 1, "more": 2}'
    assert routed(body) == ("w", body, JSON)


def test_worker_type_goes_before_ruotes() -> None:
    assert routed(b'{"worker_type": "a", "fields": {"params": {"worker_type": "b"}}}').worker_type == "a"


def test_duplicate_keys_the_last_counts_for_dispatch_and_for_the_worker() -> None:
    body = b'{"worker_type": "a", "worker_type": "b", "workitem": 1, "workitem": 2}'
    assert routed(body) == ("b", b"2", JSON)


def test_another_charset_of_json() -> None:
    body = '{"worker_type": "w", "t": "ß"}'.encode("utf-16")
    assert routed(body, "application/json; charset=utf-16").body == body
    assert decode(body, "application/json; charset=utf-16", None)["t"] == "ß"


@pytest.mark.parametrize(
    "body",
    [
        b"[]", b"1", b"null", b'"w"', b"{", b"{}", b'{"worker_type": null}', b'{"worker_type": ["w"]}', b"",
        b'{"worker_type": 1, "workitem": 2}', b'{"fields": 1}', b'{"fields": {"params": []}}', b'{"workitem": 1}',
        b'{"worker_type": "w", "v": NaN}', b'{"worker_type": "w", "v": -Infinity}', b'{"worker_type": "w"} trailing',
        b'{"worker_type": "w\xff"}', b'{"worker_type": "\\ud800"}', b"[" * 100_000, b'{"a":' * 100_000,
        b'{"worker_type": "w", "n": ' + b"9" * 5000 + b"}", b'\xef\xbb\xbf{"worker_type": "w"}',
    ],
)  # fmt: skip
def test_malformed_json(body: bytes) -> None:
    assert reason(body, JSON) == "malformed"


def test_surrogates_in_a_value_are_carried() -> None:
    body = b'{"worker_type": "w", "workitem": {"t": "\\ud800"}}'
    assert json.loads(routed(body).body) == {"t": "\ud800"}
    assert decode(b'"\\udfff"', JSON, None) == "\udfff"


# -- header, other formats, encodings


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"{", b"other x"])
@pytest.mark.parametrize("content_type", [None, TEXT, JSON, "image/png", ";;;"])
def test_with_the_header_the_body_is_not_looked_at(body: bytes, content_type: str | None) -> None:
    assert routed(body, content_type, "w1", "gzip") == ("w1", body, content_type)


@pytest.mark.parametrize("header", [1, b"w", True, "", " w", "w ", ["w"], {"a": 1}])
def test_a_bad_header_is_malformed(header: object) -> None:
    assert reason(b"w x", TEXT, header) == "malformed"


@pytest.mark.parametrize("content_type", ["image/png", "application/x-unknown", "text/html", "json", "x" * 5000])
def test_an_unknown_format_needs_the_header(content_type: str) -> None:
    assert reason(b"w x", content_type) == "unknown-format"


def test_a_compressed_body_needs_the_header() -> None:
    assert reason(b"w x", TEXT, None, "gzip") == "unknown-format"
    for plain in ("UTF-8", "identity", "", "binary", "us-ascii"):
        assert routed(b"w x", TEXT, None, plain).worker_type == "w"


@pytest.mark.parametrize(
    "charset",
    ["no-such", "rot13", "base64", "hex", "undefined", "a\0b", "x" * 999, "idna", "Punycode", "unicode-escape", "mbcs",
     "raw_unicode_escape", "aliases", "__init__", "..utf-8"],
)  # fmt: skip
def test_a_charset_that_is_none(charset: str) -> None:
    assert reason(b"w x", f"text/plain; charset={charset}") == "malformed"


@pytest.mark.parametrize("charset", ["UTF-8", "utf8", "latin-1", "ISO-8859-15", "cp1252", "koi8-u", "ascii", "gb18030"])
def test_a_charset_that_is_one(charset: str) -> None:
    assert routed(b"w x", f"text/plain; charset={charset}").worker_type == "w"


def test_python_does_not_remember_the_charsets_that_clients_invent() -> None:
    reason(b"w x", "text/plain; charset=first")
    before = len(encodings._cache)  # type: ignore[attr-defined]
    for number in range(100):
        reason(b"w x", f"text/plain; charset=invented-{number}")
        routed(b"w x", f"text/plain; charset=utf{'-' * number}8")
    assert len(encodings._cache) <= before + 1  # type: ignore[attr-defined]


def test_media_type() -> None:
    assert media_type(None) == ("", None)
    assert media_type(' Text/Plain ; x=1; Charset="UTF-8"') == ("text/plain", "UTF-8")
    assert media_type("text/plain;charset=") == ("text/plain", None)


# -- worker types


@pytest.mark.parametrize("name", ["a", "0", "worker1", "A.b-c_d", LONGEST])
def test_good_worker_types(name: str) -> None:
    assert worker_type(name) == name
    assert routed(f"{name} rest".encode(), TEXT).worker_type == name


@pytest.mark.parametrize(
    "name", [LONGEST + "a", "", ".a", "-a", "_a", "a\n", "a\nb", "a b", "ä", "a/b", "\uff11", None, 5, b"a"]
)
def test_bad_worker_types(name: object) -> None:
    with pytest.raises(MalformedWorkitem):
        worker_type(name)
    if isinstance(name, str):
        assert reason(json.dumps({"worker_type": name}).encode(), JSON) == "malformed"


def test_201_characters_fit_and_202_do_not() -> None:
    assert worker_type("b" + "c" * 200)
    with pytest.raises(MalformedWorkitem):
        worker_type("b" + "c" * 201)


@pytest.mark.parametrize("depth", [10, 400, 900, *range(950, 1000), 2000])
def test_a_worker_type_however_deep_is_malformed(depth: int) -> None:
    """What can be parsed cannot always be shown: `repr` goes less deep than JSON."""
    assert reason(b'{"worker_type": ' + b"[" * depth + b"]" * depth + b"}") == "malformed"


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("body", "content_type", "header"),
    [
        (b"hunter2/ x", TEXT, None), (b'{"worker_type": "hunter2 "}', JSON, None), (b"w", TEXT, "hunter2 "),
        (b'{"worker_type": {"hunter2": ["hunter2"]}}', JSON, None), (b"hunter2", JSON, None),
        (b'"hunter2"', JSON, None), (b'{"worker_type": "w", "hunter2": hunter2}', JSON, None),
        (b"hunter2\xff", TEXT, None),
    ],
)  # fmt: skip
def test_what_may_be_logged_quotes_nothing_of_the_body_and_its_detail_may(
    body: bytes, content_type: str, header: object
) -> None:
    with pytest.raises(MalformedWorkitem) as caught:
        route(body, content_type, None, header)
    assert SECRET not in caught.value.what
    assert caught.value.detail.startswith(caught.value.what) and str(caught.value) == caught.value.detail


# -- what a handler gets


@pytest.mark.parametrize(
    ("body", "content_type", "encoding", "value"),
    [
        (b"text", TEXT, None, "text"),
        (b"", TEXT, None, ""),
        (b'{"a": 1}', JSON, None, {"a": 1}),
        (b' {"a": 1}', None, None, {"a": 1}),
        (b"text", None, None, "text"),
        (b"\0\xff", BYTES, None, b"\0\xff"),
        (b"\x1f\x8b", TEXT, "gzip", b"\x1f\x8b"),
        (b"[1]", JSON, None, [1]),
        (b"null", JSON, None, None),
    ],
)
def test_decode(body: bytes, content_type: str | None, encoding: str | None, value: object) -> None:
    assert decode(body, content_type, encoding) == value


# -- whatever comes

CONTENT_TYPES = st.none() | st.text(max_size=40) | st.sampled_from(
    [TEXT, JSON, BYTES, "text/plain; charset=utf-16", "application/json; charset=latin-1", "text/plain; charset=idna",
     "text/plain; charset=punycode", "text/plain; charset=unicode_escape", "application/json;charset=utf-7"]
)  # fmt: skip


@settings(max_examples=400)
@given(
    body=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.text(max_size=5) | st.integers() | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["worker_type", "workitem", "fields", "params", "x"]), inner, max_size=3)
        ),
    ).map(lambda value: json.dumps(value).encode()),
    content_type=CONTENT_TYPES,
    encoding=st.none() | st.sampled_from(["gzip", "utf-8", "\0"]),
    header=st.none() | st.text(max_size=5) | st.integers() | st.binary(max_size=3),
)
@example(body=b"w x", content_type="text/plain; charset=unicode_escape", encoding=None, header=None)
@example(body=b"\xed\xa0\x80", content_type="text/plain; charset=utf-16-le", encoding=None, header=None)
def test_anything_is_routed_or_malformed(
    body: bytes, content_type: str | None, encoding: str | None, header: object
) -> None:
    try:
        found = route(body, content_type, encoding, header)
    except MalformedWorkitem as error:
        assert error.reason in {"malformed", "unknown-format"}
        error.detail.encode()  # it goes into a header
        assert len(error.detail) < 500
    else:
        assert worker_type(found.worker_type) == found.worker_type
        assert isinstance(found.body, bytes)


@settings(max_examples=300)
@given(body=BODIES, content_type=CONTENT_TYPES)
def test_anything_hostile_is_routed_and_decoded_or_malformed(body: bytes, content_type: str | None) -> None:
    try:
        found = route(body, content_type, None, None)
        decode(found.body, found.content_type, None)
    except MalformedWorkitem as error:
        assert error.reason in {"malformed", "unknown-format"}
        assert CANARY not in error.what and len(error.detail) < 500


@settings(max_examples=200)
@given(body=st.binary(max_size=100), content_type=CONTENT_TYPES)
def test_anything_is_decoded_or_malformed(body: bytes, content_type: str | None) -> None:
    try:
        decode(body, content_type, None)
    except MalformedWorkitem as error:
        assert error.reason == "malformed"


def test_an_envelope_is_not_longer_unwrapped_than_wrapped() -> None:
    workitem = {"text": "ä" * 1000, "list": [1, 2.5, None]}
    wrapped = json.dumps({"worker_type": "w", "workitem": workitem}, ensure_ascii=False, separators=(",", ":")).encode()
    routed = parse_json(wrapped, None)
    assert json.loads(routed.body) == workitem and len(routed.body) < len(wrapped)


def test_an_envelope_with_half_a_surrogate_pair_or_a_number_out_of_range() -> None:
    wrapped = b'{"worker_type": "w", "workitem": "\\ud800"}'
    assert json.loads(parse_json(wrapped, None).body) == "\ud800"
    with pytest.raises(MalformedWorkitem):
        parse_json(b'{"worker_type": "w", "workitem": [1e999]}', None)
