"""What the coders of `json_coders` read, write and refuse is what `json` does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue.foundation import json_coders

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def upper(value: dict[str, Any]) -> object:
    return {name.upper(): inner for name, inner in value.items()}


def loud(value: object) -> object:
    return f"!{value!r}"


@given(value=VALUES, before=st.text(" \t\r\n"), behind=st.text(" \t\r\n"))
def test_it_reads_what_json_reads(value: object, before: str, behind: str) -> None:
    text = f"{before}{json.dumps(value)}{behind}"
    assert json_coders.parser(object_hook=upper)(text) == json.loads(text, object_hook=upper)


@pytest.mark.parametrize("text", ["", " ", "{", "[1,", "nul", "1 2", '{"a": 1}}', "\ufeff{}", "{'a': 1}", '"\n"'])
def test_what_json_refuses_is_refused_with_its_words(text: str) -> None:
    with pytest.raises(json.JSONDecodeError) as theirs:
        json.loads(text)
    with pytest.raises(json.JSONDecodeError) as ours:
        json_coders.parser(parse_constant=float)(text)
    if not text.startswith("\ufeff"):  # of which json.loads itself says more
        assert str(ours.value) == str(theirs.value)


def test_what_is_nested_too_deeply() -> None:
    with pytest.raises(RecursionError):
        json_coders.parser(parse_constant=float)("[" * 200_000)
    nested: list[Any] = []
    for _ in range(200_000):
        nested = [nested]
    with pytest.raises(RecursionError):
        json_coders.writer(loud)(nested)


def python_writer() -> Callable[[object], str]:
    """The writer of an interpreter without json's C encoder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_coders, "_c_encoder", None)
        return json_coders.writer(loud)


WRITERS = (json_coders.writer(loud), python_writer())


@given(value=VALUES)
def test_it_writes_what_json_writes_with_its_c_encoder_and_without(value: object) -> None:
    for each in (value, (value, b"bytes"), {"a": {1, 2}}):
        expected = json.dumps(each, default=loud, separators=(",", ":"))
        assert [write(each) for write in WRITERS] == [expected, expected]
