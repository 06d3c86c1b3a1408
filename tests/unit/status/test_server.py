"""The status socket: each reader gets the document; no reader, and no lack of descriptors, costs the pool anything."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clockwork import Clockwork
from taskqueue.errors import DaemonError
from taskqueue.status.server import Answer, StatusSocket

DOCUMENT = {"version": "1", "groups": []}


class Bench:
    """A status socket whose pool answers when the test says so."""

    def __init__(self, path: Path) -> None:
        self.loop = Clockwork()
        self.asked: list[Answer] = []
        self.ask: Callable[[Answer], Any] = self.asked.append
        self.server = StatusSocket(self.loop, path, None, lambda answer: self.ask(answer))
        self.readers: list[socket.socket] = []

    def connect(self) -> socket.socket:
        reader = socket.socket(socket.AF_UNIX)
        self.readers.append(reader)
        reader.settimeout(1.0)
        reader.connect(str(self.server.path))
        return reader

    def answer(self, document: Any = DOCUMENT) -> None:
        self.asked.pop(0)(document)
        self.loop.ready()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A status socket, removed at the end."""
    bench = Bench(tmp_path / "status.sock")
    yield bench
    for reader in bench.readers:
        reader.close()
    bench.server.close()
    assert not bench.server.path.exists() and not bench.loop.handlers, "nothing is left"


def read(reader: socket.socket) -> bytes:
    """Everything to the end."""
    with reader.makefile("rb") as file:
        return file.read()


def test_a_path_may_be_as_long_as_unix_allows(tmp_path: Path) -> None:
    room = 107 - len(str(tmp_path)) - len("//workerpool.sock")
    path = tmp_path / ("d" * room) / "workerpool.sock"
    path.parent.mkdir()
    assert len(str(path)) == 107
    StatusSocket(Clockwork(), path, None, lambda answer: None).close()
    assert not list(path.parent.iterdir())


def test_a_reader_gets_the_document_and_the_end(bench: Bench) -> None:
    assert stat.S_IMODE(bench.server.path.stat().st_mode) == 0o660
    reader = bench.connect()
    reader.sendall(b"stop everything\n")
    bench.loop.ready()
    bench.answer()
    assert json.loads(reader.recv(1000)) == DOCUMENT
    assert not bench.loop.due, "the deadline is gone with it"


def test_a_reader_that_has_gone_or_never_reads_is_dropped(bench: Bench) -> None:
    gone, hung = bench.connect(), bench.connect()
    bench.loop.ready()
    bench.loop.ready()
    gone.close()
    bench.answer()
    assert len(bench.loop.handlers) == 1, "the one that listens"
    bench.answer({"large": "x" * 10_000_000})
    assert len(bench.loop.handlers) == 2
    bench.loop.advance(10.0)
    assert len(bench.loop.handlers) == 1
    assert 0 < len(read(hung)) < 10_000_000


def test_an_error_nobody_expected_costs_one_reader_its_answer(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def fail(answer: Answer) -> None:
        raise KeyError("counts")

    bench.ask = fail
    first = bench.connect()
    bench.loop.ready()
    assert read(first) == b""
    bench.ask = bench.asked.append
    second = bench.connect()
    bench.loop.ready()
    bench.answer({"no": object()})
    assert read(second) == b""
    assert caplog.messages == ["status not answered: unexpected error"] * 2


@contextmanager
def no_descriptor() -> Iterator[None]:
    """Within it, this process can open no more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_descriptor_left(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Defect 6.3: it says so, listens again after a second, and the reader that waited is answered."""
    reader = bench.connect()
    with no_descriptor():
        bench.loop.ready()
    assert caplog.messages == [f"status not answered: reason={os.strerror(errno.EMFILE)} next_try_in=1.0s"]
    assert not bench.asked and not bench.loop.handlers, "or the loop would spin"
    bench.loop.advance(1.0)
    bench.loop.ready()
    bench.answer()
    assert json.loads(reader.recv(1000)) == DOCUMENT


def test_closed_during_the_pause_it_stays_closed(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "status.sock")
    with bench.connect(), no_descriptor():
        bench.loop.ready()
    bench.server.close()
    bench.loop.advance(1.0)
    assert not bench.loop.handlers


def test_its_name_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the path can connect at once: `listen` comes before the name, and so does the mode."""
    seen: list[tuple[bool, int]] = []
    rename = Path.rename

    def watched(source: Path, target: Path) -> Path:
        with socket.socket(socket.AF_UNIX) as reader:
            reader.connect(str(source))
        seen.append((target.exists(), stat.S_IMODE(source.stat().st_mode)))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", watched)
    Bench(tmp_path / "status.sock").server.close()
    assert seen == [(False, 0o660)]


def test_what_is_at_its_path_already(tmp_path: Path, bench: Bench) -> None:
    with pytest.raises(DaemonError, match="another taskqueue-workerpool is running"):
        Bench(bench.server.path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    Bench(tmp_path / "dead.sock").server.close()
    assert [path.name for path in tmp_path.iterdir()] == ["status.sock"]
    with pytest.raises(DaemonError, match="cannot make the status socket: No such file"):
        Bench(tmp_path / "no" / "status.sock")
