"""A worker process of a plugin, without a pool and a broker: this module stands in the listener's place.

1. `Trial(group, plugin)` starts `trial.worker` as the group's user, with one end of a link.
2. `imported()` and `ready()` wait for `["imported"]` and `["ready"]`, or raise `PluginError` with the traceback.
3. `run(workitem)` sends an `Assignment` and waits for a `Report`, for the worker's death, or for `time_limit`.
4. `leave()` closes the link: the worker tears itself down. The end of the `with` kills everything that it started.

This module must never import a plugin.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

from taskqueue.config.settings import GroupSettings, to_json
from taskqueue.errors import LinkError, PluginError
from taskqueue.host import kernel
from taskqueue.host.spawn import identity, spawn
from taskqueue.link import packets
from taskqueue.link.assignment import REPORT_LIMIT, Assignment, Report, checked
from taskqueue.plugins import Plugin

IMPORT_S = 60.0
"""Seconds for the import of a plugin, and for the setup of its worker; then it is a `PluginError`."""
_GONE_S = 5.0
"""Seconds to kill and reap what a plugin started and left behind."""

_alive: set[int] = set()
"""The workers of all trials of this process, and so all children that it means to have."""
_births = threading.Lock()
"""Held while there is one that is not among them yet."""


class Workitem(NamedTuple):
    """The workitem that a trial's worker runs."""

    body: bytes
    content_type: str | None
    message_id: str = "trial"
    attempt: int = 1
    headers: Mapping[str, Any] = {}


class TrialOutcome(NamedTuple):
    """How a worker answered: it reported (`report`, with the result in `body`), or died (`exit_code`, as in
    `subprocess`), or neither in the time that it had."""

    report: Report | None = None
    body: bytes = b""
    exit_code: int | None = None


class Trial:
    """One worker, from its start to its end, for use in a `with`: then nothing that it started is left.

    Starting it raises `ConfigError` where we may not become the group's user. Its output goes to the descriptor
    `output`, to nowhere by default. In the `foreground` it has our terminal.
    """

    def __init__(
        self, group: GroupSettings, plugin: Plugin, *, output: int = subprocess.DEVNULL, foreground: bool = False
    ) -> None:
        self._group = group
        self._foreground = foreground
        kernel.adopt_orphans()
        ours, self._theirs = packets.pair()
        self._link = packets.Link(ours.sock, REPORT_LIMIT)
        try:
            who = identity(group.user)
            with _births:
                self._process = spawn(
                    "taskqueue.cli.trial.worker", [self._theirs.fileno()], who, None,
                    output=output, foreground=foreground,
                )  # fmt: skip
                _alive.add(self._process.pid)
        except BaseException:
            self._link.close()
            self._theirs.close()
            raise
        self._pidfd = os.pidfd_open(self._process.pid)
        self._tell(["settings", to_json(group), plugin.entry_value])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if not self._foreground:
            kernel.kill_group(self._process.pid)
        self._process.wait()
        _alive.discard(self._process.pid)
        _end_orphans()
        os.close(self._pidfd)
        self._link.close()
        self._theirs.close()

    # -- its life

    def imported(self, timeout_s: float | None = IMPORT_S) -> None:
        """Return once the plugin is imported; raises `PluginError`, with the traceback as its text."""
        self._expect("imported", timeout_s)

    def ready(self, timeout_s: float | None = IMPORT_S) -> None:
        """Have it make the plugin's worker and set it up; returns then, or raises `PluginError`."""
        self._tell(["serve"])
        self._expect("ready", timeout_s)

    def give(self, workitem: Workitem) -> None:
        """Hand it a workitem."""
        body, content_type, message_id, attempt, headers = workitem
        self._tell(Assignment(1, message_id, attempt, content_type, None, headers), body)

    def has_begun(self, timeout_s: float) -> bool:
        """Whether it has read what it was given within that time."""
        deadline = time.monotonic() + timeout_s
        while self._has_unread():
            if time.monotonic() > deadline or select.select([self._pidfd], [], [], 0.0005)[0]:
                return False
        return True

    def has_something(self, timeout_s: float) -> bool:
        """Whether there is something to hear within that time."""
        return bool(select.select([self._link.fileno(), self._pidfd], [], [], timeout_s)[0])

    def outcome(self, timeout_s: float | None) -> TrialOutcome:
        """Wait for what it reports, or for its end."""
        packet = self._receive(timeout_s)
        if packet is None:
            return TrialOutcome(exit_code=self._process.poll())
        try:
            _, *fields = packet.head
            return TrialOutcome(checked(Report(*fields)), packet.body)
        except (TypeError, ValueError) as error:
            raise PluginError(f"the worker's packet is no report: {error}") from None

    def run(self, workitem: Workitem) -> TrialOutcome:
        """Hand it a workitem and wait; killed at the group's `time_limit`, as in a pool."""
        self.give(workitem)
        return self.outcome(self._group.time_limit_s)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def leave(self, timeout_s: float | None) -> int | None:
        """Tell it that there is no more work; the exit status with which it leaves, None where it does not in time."""
        self._link.shutdown_write()
        while self._receive(timeout_s) is not None:
            pass
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    # -- inside

    def _tell(self, head: Any, body: bytes = b"") -> None:
        with suppress(LinkError):  # it has died: the next `_receive` finds out
            self._link.send(head, body, wait=True)

    def _has_unread(self) -> bool:
        try:
            return bool(self._theirs.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False

    def _expect(self, word: str, timeout_s: float | None) -> None:
        packet = self._receive(timeout_s)
        match packet.head if packet else None:
            case [answer] if answer == word:
                return
            case ["failed", str(trace)]:
                raise PluginError(trace.rstrip())
        code = self._process.poll()
        if code is None:
            raise PluginError(f"not {word} within {timeout_s:g} s")
        raise PluginError(f"its process died before it was {word}: {kernel.exit_text(code)}")

    def _receive(self, timeout_s: float | None) -> packets.Packet | None:
        """The next packet; None where it died without one (and is reaped), or at the end of the time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._link.fileno(), select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        while True:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            came = poll.poll(None if left_s is None else left_s * 1000 + 1)
            try:
                if (packet := self._link.receive()) is not None:
                    return packet
            except (EOFError, LinkError) as error:
                raise PluginError(f"the worker has spoilt its link: {error or 'it has shut its end'}") from None
            if any(fd == self._pidfd for fd, _ in came):
                self._process.wait()
                return None
            if left_s == 0.0:
                return None


def _end_orphans() -> None:
    """Kill and reap the processes that plugins have started and left behind; this process adopted them."""
    deadline = time.monotonic() + _GONE_S
    with _births:
        while (left := kernel.children(os.getpid()) - _alive) and time.monotonic() < deadline:
            for pid in left:
                kernel.kill(pid)
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)
