"""How a file is written, and which files are read: every fault of form has its own line number."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import EXAMPLES
from taskqueue.config.inifile import MAX_FILE_BYTES, Block, parse, read_all
from taskqueue.config.values import Raw

NAME_IS = "letters, digits, '_', '.' and '-', the first a letter or digit, at most 201"
SECTION_IS = f"not a section; expected [name] of {NAME_IS}"
NESTED = f"not a section (nested sections are not supported); expected [name] of {NAME_IS}"
NEITHER = "neither a section nor a key; expected [section] or key: value"
QUOTES = "a quote is not closed, or text follows it; expected the whole value in one pair of quotes"


def faults(content: bytes) -> list[str]:
    return [str(fault) for fault in parse("config.ini", content)[1]]


def values(content: bytes) -> dict[str, Raw]:
    """The values of the one section in `content`."""
    (block,), wrong = parse("config.ini", content)
    assert wrong == []
    return block.values


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("k: v", "v"),
        ("k = v", "v"),
        ("k=v", "v"),
        ("k:v", "v"),
        ("  k  :  v  ", "v"),
        ("k: v ; comment", "v"),
        ("k: v # comment", "v"),
        ("k: v;no comment", "v;no comment"),
        ("k: v#no comment", "v#no comment"),
        ("k: #comment", ""),
        ("k: ; comment", ""),
        ("k:#value", "#value"),
        ("k:", ""),
        ("k: amqp://x", "amqp://x"),
        ("k = amqp://x:1/%2f", "amqp://x:1/%2f"),
        ("k: 12:30", "12:30"),
        ("k: a = b", "a = b"),
        ("k = a: b", "a: b"),
        ("k: %(home)s $HOME ${x}", "%(home)s $HOME ${x}"),
        ('k: " v ; not a comment # nor this, one value " # comment', " v ; not a comment # nor this, one value "),
        ("k: 'it is \"quoted\"'", 'it is "quoted"'),
        ("k: it's", "it's"),
        ('k: it\'s "quoted"', 'it\'s "quoted"'),
        ('k: ""', ""),
        ("k: a, b", ["a", "b"]),
        ("k: a,b,", ["a", "b"]),
        ("k: a,", ["a"]),
        ("k: ,", []),
        ('k: "a, b", c ; comment', ["a, b", "c"]),
        ("k: a#1, 'b # 2'", ["a#1", "b # 2"]),
        ("k: grün", "grün"),
        ("k: \\n", "\\n"),
        ("k: v\r", "v"),
    ],
)
def test_lines(line: str, value: Raw) -> None:
    text = f"# comment\n[w] ; comment\n{line}\n; comment\nlast = 1\n"
    assert values(text.encode()) == {"k": value, "last": "1"}


def test_an_utf8_mark_and_missing_last_line_end() -> None:
    assert values(b"\xef\xbb\xbf[w]\nworkers=2") == {"workers": "2"}


def test_a_block_knows_its_lines_and_a_key_with_a_fault_has_no_value() -> None:
    blocks, _faults = parse("f", b"\n[a]\nk: 1\n\nx: 'y\n[b]\n")
    assert blocks == [Block("f", "a", 2, {"k": "1"}, {"k": 3, "x": 5}), Block("f", "b", 6, {}, {})]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[w]\nx\n", [f"2: {NEITHER}"]),
        ("[w]\nmy key: x\n", [f"2: {NEITHER}"]),
        ("[w]\n: x\n", [f"2: {NEITHER}"]),
        ("[w]\nk: a\n   b\n", [f"3: {NEITHER}"]),
        ("\n\nk: v\n[w]\n", ["3: k: key before any section; expected a [section] above it"]),
        ("[w\nk: v\n", [f"1: {SECTION_IS}"]),
        ("[]\n", [f"1: {SECTION_IS}"]),
        ("[w] x\n", [f"1: {SECTION_IS}"]),
        ("[a b]\n", [f"1: {SECTION_IS}"]),
        ("[-w]\n", [f"1: {SECTION_IS}"]),
        (f"[{'w' * 202}]\n", [f"1: {SECTION_IS}"]),
        ("[w]\n[[x]]\nk: v\n", [f"2: {NESTED}"]),
        (
            "[w]\n[x]\n\n[w]\nk\n",
            [
                "4: [w]: duplicate section; expected its keys under the first one, in line 1",
                f"5: {NEITHER}",
            ],
        ),
        ("[w]\nk: 1\n\nk = 2\n", ["4: [w] k: duplicate key; the first is in line 2"]),
        ('[w]\nk: "a" b\n', [f"2: [w] k: {QUOTES}"]),
        ('[w]\nk: "a"#b\n', [f"2: [w] k: {QUOTES}"]),
        ("[w]\nk: a, 'b\n", [f"2: [w] k: {QUOTES}"]),
        ('[w]\nk: """a\n', [f"2: [w] k: {QUOTES}"]),
        ("[w]\nk: '''x\n", [f"2: [w] k: {QUOTES}"]),
        (
            "[w]\nk: a\"b'c#d\n",
            ["2: [w] k: holds both kinds of quotes and a '#'; expected no more than two of the three"],
        ),
        (b"[w]\n\nk: \xff\n", ["3: bad encoding; expected UTF-8"]),
        (b"[w]\nk: 1\n[\xff]\nk: 1\n", ["3: bad encoding; expected UTF-8"]),
        (b"[w]\nk: \0\nk: v\nx", ["2: a NUL byte; expected a text file in UTF-8"]),
        ("[w]\n".encode("utf-16"), ["1: a NUL byte; expected a text file in UTF-8"]),
    ],
)
def test_faults(content: str | bytes, expected: list[str]) -> None:
    encoded = content.encode() if isinstance(content, str) else content
    assert faults(encoded) == [f"config.ini:{fault}" for fault in expected]


def test_a_file_that_is_too_large() -> None:
    assert faults(b"#" * MAX_FILE_BYTES) == []
    (fault,) = faults(b"#" * (MAX_FILE_BYTES + 1))
    assert fault == "config.ini: larger than 1048576 bytes; expected a configuration file"


def read_faults(path: Path, must_exist: bool = False) -> list[str]:
    """The faults of all files, without the directory."""
    return [str(fault).replace(f"{path.parent}/", "") for fault in read_all(str(path), must_exist)[1]]


def test_a_file_that_does_not_exist_is_a_fault_only_where_it_must(tmp_path: Path) -> None:
    assert read_faults(tmp_path / "config.ini") == []
    assert read_faults(tmp_path / "config.ini", must_exist=True) == ["config.ini: no such file"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "config.ini"
    path.mkdir()
    assert read_faults(path) == ["config.ini: cannot be read: is a directory"]
    path.rmdir()
    path.symlink_to("config.ini")
    assert read_faults(path) == ["config.ini: cannot be read: too many levels of symbolic links"]


def test_files_and_directories_without_permission() -> None:
    """In a child that is nobody where the tests run as root, whom no mode stops."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "config.ini").touch(mode=0)
        (directory / "conf.d").mkdir(mode=0)
        assert as_nobody(lambda: read_faults(directory / "config.ini")) == [
            "conf.d: cannot be read: permission denied",
            "config.ini: cannot be read: permission denied",
        ]


def as_nobody(run: Callable[[], list[str]]) -> list[str]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(writer, json.dumps(run()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return list(json.loads(answer))


def test_conf_d_is_read_after_the_main_file_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    for name in ("b.ini", "c.ini.dpkg-new", ".hidden.ini", "a.ini", *(f"f{number}.ini" for number in "591827364")):
        (tmp_path / "conf.d" / name).write_text(f"[w]\nname: {name}\n")
    (tmp_path / "config.ini").write_text("[w]\nname: main\n")
    blocks, wrong = read_all(str(tmp_path / "config.ini"), must_exist=True)
    assert wrong == []
    files = ["a.ini", "b.ini", *(f"f{number}.ini" for number in range(1, 10))]
    assert [block.values["name"] for block in blocks] == ["main", *files]
    assert [block.path for block in blocks[1:]] == [str(tmp_path / "conf.d" / name) for name in files]


def test_a_file_of_conf_d_that_has_just_gone_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "config.ini").touch()
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/gone.ini").symlink_to("nowhere")
    assert read_faults(tmp_path / "config.ini", must_exist=True) == []


def test_conf_d_without_a_main_file(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/w.ini").write_text("[w]\nworkers: 2\n")
    ((block,), wrong) = read_all(str(tmp_path / "config.ini"), must_exist=False)
    assert (block.values, wrong) == ({"workers": "2"}, [])


WRITABLE = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters='\0\n\r"'), max_size=30)


@settings(max_examples=EXAMPLES)
@given(items=st.lists(WRITABLE, max_size=5))
def test_any_quoted_value_survives(items: list[str]) -> None:
    text = "[w]\nlist: " + "".join(f'"{item}",' for item in items or [""]) + "\n"
    text += "".join(f'k{number}="{item}" # comment\n' for number, item in enumerate(items))
    assert values(text.encode()) == {"list": items or [""]} | {f"k{number}": item for number, item in enumerate(items)}
