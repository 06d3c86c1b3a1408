"""Log lines and what they are written to: pipes, files and sockets that are full, hung or gone."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskqueue.config.settings import LoggingSettings
from taskqueue.host import journal, logs

PIPE_SIZE = 4 * 4096
LINE = "x" * 500
MORE_THAN_A_QUEUE = 2000
"""Datagrams: a socket of which nobody reads is full before (net.unix.max_dgram_qlen is 10 to 512)."""
log = logging.getLogger("taskqueue.test")
FORGED = "id\n2026-01-01 00:00:00,000 ERROR taskqueue-dispatcher[1]: forged\r\x1b[2J\x85\u2028x"


@pytest.fixture(autouse=True)
def own_root() -> Iterator[None]:
    """Put back what `setup_logging` replaces."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A small pipe."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    yield read, write
    os.close(read)
    os.close(write)


def start(fd: int | None, **settings: str) -> None:
    """Log to `fd`."""
    logs.setup_logging(
        LoggingSettings(**{"level": "INFO", "target": "stderr", "format": "text", **settings}), "test", fd
    )


def test_a_line_as_text(pipe: tuple[int, int]) -> None:
    start(pipe[1])
    log.warning("worker died: pid=%d", 7)
    line = os.read(pipe[0], 1000).decode()
    assert line.endswith(f" WARNING test[{os.getpid()}]: worker died: pid=7\n")


def test_a_line_as_json(pipe: tuple[int, int]) -> None:
    start(pipe[1], format="json")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")
    entry = json.loads(os.read(pipe[0], 5000))
    assert (entry["level"], entry["message"], entry["ident"]) == ("ERROR", "failed", "test")
    assert "ValueError: why" in entry["trace"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_pipe_that_nobody_reads_does_not_hang_us(pipe: tuple[int, int], form: str) -> None:
    start(pipe[1], format=form)
    for _ in range(100):
        log.info(LINE)
    os.set_blocking(pipe[0], False)
    came = os.read(pipe[0], 100_000).count(LINE.encode())
    log.info("goes on")
    told, last = os.read(pipe[0], 100_000).decode().splitlines()
    assert f"log lines lost: count={100 - came}" in told and "WARNING" in told
    assert "goes on" in last
    log.info("as before")
    assert len(os.read(pipe[0], 100_000).splitlines()) == 1


def test_a_full_disk(capfd: pytest.CaptureFixture[str]) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    start(fd)
    for _ in range(3):
        log.info("not to be written")
    assert capfd.readouterr().err == ""
    os.close(fd)


def test_a_reader_that_has_gone_and_comes_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is raised and no signal ends the process; the next reader learns how many lines nobody got."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    write = os.open(fifo, os.O_WRONLY)
    start(write)
    os.close(read)
    for _ in range(3):
        log.info("to nobody")
    assert capfd.readouterr().err == ""
    read = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log.info("goes on")
    lines = os.read(read, 100_000).decode().splitlines()
    assert "log lines lost: count=3 " in lines[-2] and lines[-1].endswith(" goes on")
    os.close(read)
    os.close(write)


def test_a_syslog_that_hangs_goes_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "log")
    monkeypatch.setattr(logs, "SYSLOG_SOCKET", path)
    start(None, target="syslog")
    log.info("nobody is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(path)
        for _ in range(MORE_THAN_A_QUEUE):
            log.info(LINE)
        syslog.setblocking(False)
        lines = []
        try:
            while True:
                lines.append(syslog.recv(10_000).decode())
        except BlockingIOError:
            pass
        log.info("goes on")
        told, last = (syslog.recv(10_000).decode() for _ in range(2))
        Path(path).unlink()
    assert "log lines lost: count=1 " in lines[0]
    assert f"log lines lost: count={MORE_THAN_A_QUEUE - len(lines) + 1} " in told
    assert last.rstrip("\0").endswith("INFO goes on")


# -- what somebody else has chosen a part of


def logged(form: str, *, error: bool = False) -> str:
    """What is written for a hostile id."""
    reader, writer = os.pipe()
    logs.setup_logging(LoggingSettings(level="INFO", target="stderr", format=form), "taskqueue-test", writer)
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("taskqueue").error("event: task=%s", FORGED, exc_info=error)
    logging.getLogger().handlers[0].flush()
    os.close(writer)
    return os.read(reader, 65536).decode()


@pytest.mark.parametrize("error", [False, True])
def test_nobody_can_forge_a_line(error: bool) -> None:
    first, *rest = logged("text", error=error).splitlines()
    assert re.fullmatch(r"[-\d]+ [:,\d]+ ERROR taskqueue-test\[\d+\]: event: task=id", first)
    assert rest[0] == "    2026-01-01 00:00:00,000 ERROR taskqueue-dispatcher[1]: forged\\x0d\\x1b[2J\\x85\\x2028x"
    assert all(line.startswith("    ") for line in rest)
    assert error == any(line == "    Traceback (most recent call last):" for line in rest)


def test_nobody_can_forge_a_line_of_json() -> None:
    text = logged("json")
    assert text.count("\n") == 1 and json.loads(text)["message"] == f"event: task={FORGED}"


def test_a_process_title_is_shown_whatever_is_in_it() -> None:
    """A worker's title names the task; `setproctitle` raises for what a C string cannot hold."""
    code = r"import taskqueue.host.title as t; t.set_title('a\0b\n\ud800ä'); print(open('/proc/self/cmdline').read())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "taskqueue: a?b??ä" in ran.stdout or "-c" in ran.stdout, "as it should be, or without setproctitle"


def fields_of(datagram: bytes) -> dict[str, str]:
    """An entry of the journal's native protocol, every field with its length."""
    fields = {}
    while datagram:
        key, _, rest = datagram.partition(b"\n")
        length = int.from_bytes(rest[:8], "little")
        fields[key.decode()] = rest[8 : 8 + length].decode()
        assert rest[8 + length : 9 + length] == b"\n"
        datagram = rest[9 + length :]
    return fields


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket in the place of the journal's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "journal"))
        listening.settimeout(5)
        monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "journal"))
        yield listening


def test_the_journal_gets_priority_and_ids_as_fields(journald: socket.socket) -> None:
    start(None, target="journal")
    log.warning("100%% of it, worker died: group=%s pid=%d %s task=%s", "a/b", 7, "signal=9", "id\nPRIORITY=0")
    fields = fields_of(journald.recv(100_000))
    assert fields == {
        "MESSAGE": "100% of it, worker died: group=a/b pid=7 signal=9 task=id\n    PRIORITY=0",
        "PRIORITY": "4",
        "SYSLOG_FACILITY": "3",
        "SYSLOG_IDENTIFIER": "test",
        "SYSLOG_PID": str(os.getpid()),
        "LOGGER": "taskqueue.test",
        "TASKQUEUE_GROUP": "a/b",
        "TASKQUEUE_PID": "7",
        "TASKQUEUE_TASK": "id\nPRIORITY=0",
    }
    log.info("dead letter: message_id=%s", "m1")
    log.error("%s", "no ids")
    assert fields_of(journald.recv(100_000))["TASKQUEUE_TASK"] == "m1"
    fields = fields_of(journald.recv(100_000))
    assert fields["PRIORITY"] == "3" and not [key for key in fields if key.startswith("TASKQUEUE_")]


def test_an_entry_fits_into_a_datagram(journald: socket.socket) -> None:
    start(None, target="journal")
    try:
        raise ValueError("\U0001f40c" * 100_000)
    except ValueError:
        log.exception("x: task=%s", "\U0001f40c" * 100_000)
    assert fields_of(journald.recv(1_000_000))["MESSAGE"].startswith("x: task=\U0001f40c")


def test_a_journal_that_is_gone_or_full_does_not_hang_us(journald: socket.socket, tmp_path: Path) -> None:
    start(None, target="journal")
    (tmp_path / "journal").rename(tmp_path / "away")
    log.info("lost")
    (tmp_path / "away").rename(tmp_path / "journal")
    for _ in range(MORE_THAN_A_QUEUE):
        log.info(LINE)
    assert fields_of(journald.recv(100_000))["MESSAGE"] == "log lines lost: count=1 reason=the log took none"
    assert fields_of(journald.recv(100_000))["MESSAGE"] == LINE


def test_what_systemd_has_connected_to_the_journal_is_known_by_its_inode(pipe: tuple[int, int]) -> None:
    found = os.fstat(pipe[1])
    environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    assert journal.is_stream(pipe[1], environ)
    assert not journal.is_stream(2, environ)
    assert not journal.is_stream(pipe[1], {})
