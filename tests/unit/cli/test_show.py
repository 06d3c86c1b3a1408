"""How things are shown: in a pipe, as JSON, on a terminal; and that nothing hostile reaches a terminal as it is."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from taskqueue.cli.terminal.columns import Column
from taskqueue.cli.terminal.show import Show
from taskqueue.cli.terminal.text import safe, safe_lines

COLUMNS = (Column("id"), Column("count", right=True), Column("age", "how old", text=lambda age: f"{age} s"))
ROWS = [("a\x1b[31m", 1, 2.5), (b"\xffb\tc", None, 3)]


class Output(io.TextIOWrapper):
    """Standard output that a test can read, a terminal or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", newline="\n")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def text(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


@pytest.fixture
def pipe() -> Output:
    return Output(terminal=False)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain text, é, 日本", "plain text, é, 日本"),
        ("\x1b[2J\x07\x00\x7f\x9b", r"\x1b[2J\x07\x00\x7f\x9b"),
        ("a\r\n\tb", r"a\r\n\tb"),
        ("\u202eevil\u2066\u200b\ufeff", r"\u202eevil\u2066\u200b\ufeff"),
        ("half \ud800", r"half \ud800"),
        ("\U000e0001tag", r"\U000e0001tag"),
        (b"bytes \xff\x1b", r"bytes \xff\x1b"),
        (17, "17"),
    ],
)
def test_safe(value: object, shown: str) -> None:
    assert safe(value) == shown
    assert safe(value).isprintable()


def test_safe_lines_keeps_lines_and_nothing_else() -> None:
    assert safe_lines("one\n\ttwo\r\nthree\x1b") == "one\n        two\\r\nthree\\x1b"


def test_in_a_pipe_cells_are_separated_by_tabs_under_headings(pipe: Output) -> None:
    Show(out=pipe).table(COLUMNS, ROWS)
    assert pipe.text == "ID\tCOUNT\tHOW OLD\na\\x1b[31m\t1\t2.5 s\n\\xffb\\tc\t-\t3 s\n"


def test_a_pipe_does_not_wrap(pipe: Output) -> None:
    Show(out=pipe).table([Column("id")], [("x" * 5000,)])
    assert pipe.text.splitlines()[1] == "x" * 5000


def test_json_is_one_document_or_one_a_line(pipe: Output) -> None:
    show = Show(as_json=True, out=pipe)
    show.table(COLUMNS, ROWS)
    (line,) = pipe.text.splitlines()
    assert json.loads(line) == [
        {"id": "a\x1b[31m", "count": 1, "age": 2.5}, {"id": "\\xffb\tc", "count": None, "age": 3}
    ]  # fmt: skip
    show.stream(COLUMNS, ROWS)
    assert [json.loads(each)["age"] for each in pipe.text.splitlines()[1:]] == [2.5, 3]
    show.line("not for programs")
    assert len(pipe.text.splitlines()) == 3
    assert "\x1b" not in pipe.text


def test_a_stream_in_a_pipe_has_headings_once(pipe: Output) -> None:
    Show(out=pipe).stream(COLUMNS, ROWS)
    assert pipe.text.splitlines()[0] == "ID\tCOUNT\tHOW OLD" and len(pipe.text.splitlines()) == 3


@pytest.mark.parametrize("how", ["table", "stream"])
def test_a_terminal_gets_no_control_characters_and_no_markup(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal = Output(terminal=True)
    show: Any = Show(out=terminal)
    getattr(show, how)([Column("id"), Column("text")], [("\x1b]0;t\x07", "[red]:smile:[/red]")])
    assert r"\x1b]0;t\x07" in terminal.text and "[red]:smile:[/red]" in terminal.text
    assert not {"\x1b", "\x07"} & set(terminal.text)


def test_fields(pipe: Output) -> None:
    show = Show(out=pipe)
    show.fields({"id": "a\nb", "reason": None})
    assert pipe.text == "id\ta\\nb\nreason\t-\n"


def test_a_value_in_a_pipe_is_exact(pipe: Output) -> None:
    show = Show(out=pipe)
    show.value(b"\xff\x00")
    show.value("text\x1b")
    show.value({"a": "é"})
    pipe.flush()
    assert isinstance(pipe.buffer, io.BytesIO)
    assert pipe.buffer.getvalue() == b'\xff\x00text\x1b\n{"a": "\xc3\xa9"}\n'


def test_remarks_go_to_standard_error_in_one_line(pipe: Output) -> None:
    err = Output(terminal=False)
    Show(out=pipe, err=err).note("lost\nfake: line")
    assert (pipe.text, err.text) == ("", "taskqueue: lost\\nfake: line\n")
