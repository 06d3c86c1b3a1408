"""What the service manager hears, and that a daemon without one, or with a dead one, does without."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from clockwork import Clockwork
from taskqueue.host import service_manager


class Manager:
    """A service manager's socket."""

    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.bind(address)

    def received(self) -> list[str]:
        """Every message since the last call."""
        found = []
        while True:
            try:
                found.append(self.sock.recv(1000).decode())
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A service manager that this process has."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@taskqueue-test-{os.getpid()}"
    made = Manager(name.replace("@", "\0"))
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    yield made
    made.sock.close()


def test_ready_and_stopping(manager: Manager) -> None:
    service_manager.notify("READY=1")
    service_manager.stopping(35.5)
    assert manager.received() == ["READY=1", "STOPPING=1\nEXTEND_TIMEOUT_USEC=35500000"]


def test_reloading(manager: Manager) -> None:
    seen: list[list[str]] = []
    service_manager.reloading(lambda: seen.append(manager.received()))()
    ((before,),) = seen
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", before)
    assert manager.received() == ["READY=1"]


@pytest.mark.parametrize(
    ("usec", "pid", "fed"),
    [("30000000", "", True), ("30000000", "self", True), ("30000000", "1", False), ("", "", False), ("x", "", False)],
)
def test_the_watchdog_is_fed_twice_a_period(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, fed: bool
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "self" else pid)
    loop = Clockwork()
    service_manager.feed_watchdog(loop)
    assert manager.received() == ["WATCHDOG=1"] * fed
    loop.advance(14.9)
    assert manager.received() == []
    loop.advance(30.1)
    assert manager.received() == ["WATCHDOG=1"] * 3 * fed


def test_without_one_nothing_happens(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    service_manager.notify("READY=1")
    assert not caplog.records


def test_one_that_is_dead_is_logged_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    service_manager.notify("READY=1")
    assert caplog.messages == ["service manager not notified: state=READY=1 reason=No such file or directory"]
