"""A child's output, line by line: bounded, and never raw."""

from __future__ import annotations

import os
import select
import subprocess
import threading
from collections.abc import Iterator

import pytest

from taskqueue.foundation.loop import Loop
from taskqueue.host import output
from taskqueue.host.output import LINE_LIMIT, Allowance, Output


class Pipe:
    """A pipe whose reading end is an `Output`, and the lines that came."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.lines: list[str] = []
        read, self.end = os.pipe()
        self.allowance = Allowance(self.loop, self.lines.append)
        self.output = Output(self.loop, read, self.lines.append, self.allowance)

    def write(self, data: bytes) -> None:
        """Write `data` and let the loop see it."""
        os.write(self.end, data)
        self.loop.turn(0)

    def finish(self) -> list[str]:
        """Close the writing end and read to it."""
        if self.end >= 0:
            os.close(self.end)
            self.end = -1
        while self.output.fd >= 0:
            self.loop.turn(1.0)
        return self.lines


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe."""
    made = Pipe()
    yield made
    if made.end >= 0:
        os.close(made.end)
    made.output.close()
    made.loop.close()


def test_lines_come_whole_however_they_are_written(pipe: Pipe) -> None:
    pipe.write(b"one\ntw")
    assert pipe.lines == ["one"]
    pipe.write(b"o\nthree\n\n")
    assert pipe.lines == ["one", "two", "three"], "empty lines are not logged"


def test_what_has_no_newline_comes_at_the_end(pipe: Pipe) -> None:
    pipe.write(b"last words")
    assert pipe.lines == []
    assert pipe.finish() == ["last words"]


def test_close_reads_what_is_there_and_logs_the_rest(pipe: Pipe) -> None:
    os.write(pipe.end, b"a\nb")
    pipe.output.close()
    assert pipe.lines == ["a", "b"]
    assert pipe.output.fd == -1
    pipe.output.close()
    assert pipe.lines == ["a", "b"]


def test_a_long_line_comes_in_pieces_and_nothing_is_lost(pipe: Pipe) -> None:
    content = b"x" * (LINE_LIMIT * 3 + 10)
    pipe.write(content[:9000])
    pipe.write(content[9000:] + b"\nshort\n")
    lines = pipe.finish()
    assert lines[-1] == "short"
    assert "".join(lines[:-1]) == content.decode()
    assert max(map(len, lines)) <= LINE_LIMIT


def test_never_keeps_more_than_a_line(pipe: Pipe) -> None:
    for _ in range(40):
        pipe.write(b"y" * 8192)
        assert len(pipe.output._rest) <= LINE_LIMIT


@pytest.mark.parametrize("control", ["\x1b[2J", "\r", "\x00", "\x07", "\x85", "\u2028", "\u202e", "\x7f"])
def test_control_characters_do_not_reach_the_log_raw(pipe: Pipe, control: str) -> None:
    pipe.write(f"before{control}after\n".encode())
    (line,) = pipe.lines
    assert control not in line and line.startswith("before") and line.endswith("after")
    assert line.isprintable()


def test_a_forged_line_stays_one_line(pipe: Pipe) -> None:
    pipe.write(b"x\rNov 22 00:00:00 host sshd[1]: Accepted\n")
    assert len(pipe.lines) == 1 and "\r" not in pipe.lines[0] and "\\r" in pipe.lines[0]


def test_text_in_any_language_is_left_as_it_is(pipe: Pipe) -> None:
    pipe.write("größer 漢字\n".encode())
    assert pipe.lines == ["größer 漢字"]


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that a test can fill, and wait for."""
    monkeypatch.setattr(output, "WINDOW_S", 0.05)
    monkeypatch.setattr(output, "WINDOW_LINES", 3)
    monkeypatch.setattr(output, "WINDOW_BYTES", 100)


@pytest.mark.usefixtures("small_window")
@pytest.mark.parametrize("stream", [b"short\n" * 10, (b"x" * 50 + b"\n") * 10], ids=["lines", "bytes"])
def test_too_much_is_counted_and_said_once(pipe: Pipe, stream: bytes) -> None:
    pipe.write(stream)
    first, *logged = pipe.lines
    assert 1 <= len(logged) < 3 and {first} == set(logged)
    pipe.loop.turn(1.0)  # to the end of the window
    left_out = 10 - 1 - len(logged)
    assert pipe.lines[1 + len(logged) :] == [
        f"{left_out} lines, {left_out * len(first)} bytes left out: too many within 0.05 s"
    ]
    pipe.write(b"new\n")
    assert pipe.lines[-1] == "new", "another window"


@pytest.mark.usefixtures("small_window")
def test_what_comes_when_nothing_may_be_logged_is_counted_only(pipe: Pipe) -> None:
    pipe.write(b"1\n2\n3\nbegun")
    pipe.write(b" and ended\nlast")
    assert pipe.lines == ["1", "2", "3"] and pipe.output._rest == b""
    pipe.loop.turn(1.0)
    assert pipe.lines[3:] == ["1 lines, 20 bytes left out: too many within 0.05 s"]


@pytest.mark.usefixtures("small_window")
def test_what_was_left_out_is_said_at_the_end_and_nothing_where_it_was_little(pipe: Pipe) -> None:
    pipe.write(b"a\nb\n")
    pipe.allowance.end()
    assert pipe.lines == ["a", "b"]
    pipe.write(b"a\nb\nc\nd\n")
    pipe.allowance.end()
    assert pipe.lines[5:] == ["1 lines, 1 bytes left out: too many within 0.05 s"]


@pytest.mark.usefixtures("small_window")
def test_more_writers_may_write_more() -> None:
    loop = Loop()
    allowance = Allowance(loop, lambda text: None, writers=4)
    assert [allowance.take(1) for _ in range(13)] == [True] * 12 + [False]
    loop.close()


def test_binary_rubbish(pipe: Pipe) -> None:
    pipe.write(bytes(range(256)) * 20)
    lines = pipe.finish()
    assert lines and all(line.isprintable() for line in lines)
    assert "\\xff" in "".join(lines)


def test_the_end_gives_the_descriptor_back(pipe: Pipe) -> None:
    fd = pipe.output.fd
    pipe.finish()
    with pytest.raises(OSError):
        os.fstat(fd)


def test_close_ends_though_someone_goes_on_writing(pipe: Pipe) -> None:
    """A process that the plugin left behind holds the other end and writes as fast as it can."""
    with subprocess.Popen(["yes", "y" * 4000], stdout=pipe.end) as writer:
        closing = threading.Thread(target=pipe.output.close, daemon=True)
        try:
            assert select.select([pipe.output.fd], [], [], 5.0)[0]
            closing.start()
            closing.join(3.0)
            ended = not closing.is_alive()
        finally:
            writer.kill()
            os.close(pipe.end)  # lets close end where it did not by itself
            pipe.end = -1
    closing.join(5.0)
    assert ended, "close waits for a writer that never ends"
