"""The worker's end of its link: one process reports an attempt, and a worker that cannot report ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from taskqueue.link import packets
from taskqueue.link.assignment import TRACE_LIMIT, Report
from taskqueue.link.exits import FAILED, LINK_LOST
from taskqueue.link.packets import Link
from taskqueue.worker import line as module
from taskqueue.worker.line import Line, report_attempt, report_failure


class Ended(BaseException):
    """The process would have ended here, with this status."""


@pytest.fixture(autouse=True)
def ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """`_exit` raises `Ended` instead."""

    def end(status: int) -> NoReturn:
        raise Ended(status)

    monkeypatch.setattr(module, "_exit", end)


@pytest.fixture
def ends() -> Iterator[tuple[Link, Link]]:
    """The listener's end and the worker's end."""
    left, right = packets.pair()
    yield left, right
    left.close()
    right.close()


def test_packets_go_both_ways(ends: tuple[Link, Link]) -> None:
    listener, line = ends[0], Line(ends[1])
    assert line.receive(wait=False) is None
    listener.send(["task", 1], b"body")
    assert line.receive(wait=True) == (["task", 1], b"body", ())
    line.send(["ready"])
    report = Report(7, "success", 1.5, "text/plain")
    report_attempt(line, report, b"result")
    assert listener.receive() == (["ready"], b"", ())
    assert listener.receive() == (["done", *report], b"result", ())


def test_a_failure_is_reported_with_its_traceback(ends: tuple[Link, Link]) -> None:
    try:
        raise ValueError("x" * 1_000_000)
    except ValueError as error:
        assert report_failure(Line(ends[1]), error) == FAILED
    packet = ends[0].receive()
    assert packet is not None and packet.head[0] == "failed"
    assert packet.head[1].startswith("Traceback") and len(packet.head[1]) <= TRACE_LIMIT


@pytest.mark.parametrize("wait", [False, True])
def test_the_end(ends: tuple[Link, Link], wait: bool) -> None:
    ends[0].close()
    with pytest.raises(EOFError):
        Line(ends[1]).receive(wait=wait)


def test_rubbish_from_the_listener_is_the_end(ends: tuple[Link, Link]) -> None:
    ends[0].sock.send(b"rubbish")
    with pytest.raises(EOFError):
        Line(ends[1]).receive(wait=True)


def test_a_report_to_a_listener_that_is_gone_ends_the_worker(
    ends: tuple[Link, Link], capfd: pytest.CaptureFixture[str]
) -> None:
    line = Line(ends[1])
    ends[0].close()
    with pytest.raises(Ended, match=str(LINK_LOST)):
        line.send(["ready"])
    assert capfd.readouterr().err == "worker lost its link: the other end is gone: Broken pipe\n"


def close(link: Link) -> None:
    os.close(link.fileno())


def replace(link: Link) -> None:
    other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.dup2(other[0].fileno(), link.fileno())
    for sock in other:
        sock.close()


USES: list[Callable[[Line], Any]] = [
    lambda line: line.send(["ready"]),
    lambda line: line.receive(wait=True),
    lambda line: line.receive(wait=False),
]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("plugin", [close, replace])
def test_a_link_that_the_plugin_has_closed_or_replaced_ends_the_worker(
    plugin: Callable[[Link], None], use: Callable[[Line], Any], capfd: pytest.CaptureFixture[str]
) -> None:
    listener, link = packets.pair()
    line = Line(link)
    fd = link.fileno()
    plugin(link)
    with pytest.raises(Ended, match=str(LINK_LOST)):
        use(line)
    assert "worker lost its link: the plugin has closed it" in capfd.readouterr().err
    link.sock.detach()
    if plugin is replace:
        os.close(fd)
    with pytest.raises(EOFError):
        listener.receive()
    listener.close()


@pytest.mark.parametrize("use", USES)
def test_a_child_that_the_plugin_has_forked_ends_and_reports_nothing(
    ends: tuple[Link, Link], monkeypatch: pytest.MonkeyPatch, use: Callable[[Line], Any]
) -> None:
    line = Line(ends[1])
    ends[0].send(["task"])
    monkeypatch.setattr(module, "getpid", lambda: os.getpid() + 1)
    with pytest.raises(Ended, match=r"^0$"):
        use(line)
    assert ends[0].receive() is None
