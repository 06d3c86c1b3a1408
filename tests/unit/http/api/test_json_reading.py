"""Which texts are JSON, and what is said of the others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.http.api.json_reading import CONTAINERS_LIMIT, read_json
from taskqueue.http.api.problems import Problem

WRONG = "The body is not JSON as it must be: "
DEEP = "arrays and objects are nested more than 64 deep."


@pytest.mark.parametrize(
    ("body", "detail", "pointer"),
    [
        (b"", "the body is empty; expected a JSON value.", None),
        (b" \n", "the body is empty; expected a JSON value.", None),
        (b"{'a': 1}", "line 1, column 2: Expecting property name enclosed in double quotes.", None),
        (b'{"a": 1,\n "b": }', "line 2, column 7: Expecting value.", None),
        (b"{} {}", "line 1, column 4: Extra data.", None),
        (b'{"a": NaN}', "NaN is no JSON value; write null, or a text.", None),
        (b"[-Infinity]", "-Infinity is no JSON value; write null, or a text.", None),
        (b'{"a": 1, "a": 2}', "a key is there twice: #/a.", "#/a"),
        (b'{"x": [0, {"a/b": 1, "a\\/b": 2}]}', "a key is there twice: #/x/1/a~1b.", "#/x/1/a~1b"),
        (b'"a\nb"', "line 1, column 3: Invalid control character at.", None),
        (b'\n["\xff"]', "byte 3 of the body (line 2, column 3) is not UTF-8.", None),
        ('{"a": 1}'.encode("utf-16"), "byte 0 of the body (line 1, column 1) is not UTF-8.", None),
        (b'["\\ud800"]', "a text has one half of a surrogate pair (\\ud800 to \\udfff) without the other.", None),
        (b"9" * 5000, "a number has more than 4,300 digits; send it as a text.", None),
        (b"[" * 65 + b"]" * 65, DEEP, None),
        (b"[" * 100_000, DEEP, None),
        (b'{"a":' * 65 + b"1" + b"}" * 65, DEEP, None),
        (b"[" + b"[]," * CONTAINERS_LIMIT + b"1]", "the text has more than 250,000 arrays and objects.", None),
    ],
)
def test_a_bad_text_is_refused(body: bytes, detail: str, pointer: str | None) -> None:
    with pytest.raises(Problem) as caught:
        read_json(body)
    assert (caught.value.slug, caught.value.status) == ("malformed-json", 400)
    assert caught.value.detail == WRONG + detail
    assert [each["pointer"] for each in caught.value.errors] == ([] if pointer is None else [pointer])


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b" [1] \n", [1]),
        (b"9" * 4000, int("9" * 4000)),
        (b"[" * 64 + b"]" * 64, json.loads("[" * 64 + "]" * 64)),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'["[[[["]', ["[[[["]),
        (b'{"a": {"b": 1}, "b": {"b": 1}}', {"a": {"b": 1}, "b": {"b": 1}}),
        (b"[" + b"[]," * 100 + b"1]", [*[[]] * 100, 1]),
    ],
)
def test_a_good_text_is_read(body: bytes, value: Any) -> None:
    assert read_json(body) == value


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_json_writes_is_read_back(value: Any, ascii_only: bool) -> None:
    assert read_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_problem(body: bytes) -> None:
    try:
        read_json(body)
    except Problem as problem:
        assert problem.slug == "malformed-json"
