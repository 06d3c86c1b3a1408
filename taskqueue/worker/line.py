"""The worker's end of its link to the listener."""

from __future__ import annotations

import os
from contextlib import suppress
from os import _exit, fstat, getpid  # as they are before a plugin puts others in their place
from typing import Any

from taskqueue.errors import LinkError
from taskqueue.link.assignment import TRACE_LIMIT, Report
from taskqueue.link.exits import FAILED, LINK_LOST
from taskqueue.link.packets import Link, Packet
from taskqueue.protocol.properties import shorten
from taskqueue.worker.execution import trace_of


class Line:
    """The worker's end of its link. Any other process that comes here, and a worker that has it no more, ends."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._pid = getpid()
        self._socket = self._inode()

    def fileno(self) -> int:
        """For the loop."""
        return self._link.fileno()

    def send(self, head: list[Any], body: bytes = b"") -> None:
        """Send a packet to the listener."""
        self._check()
        try:
            self._link.send(head, body, wait=True)
        except LinkError as error:  # the listener is gone, and nobody hears of it; or no descriptor is left
            self._end(str(error))

    def receive(self, *, wait: bool) -> Packet | None:
        """The next packet; raises `EOFError` when it is time to stop."""
        self._check()
        try:
            return self._link.receive(wait=wait)
        except LinkError:
            raise EOFError from None

    def _check(self) -> None:
        if getpid() != self._pid:
            _exit(0)  # a child that the plugin has forked came back from its handler: there is one report of a run
        if self._inode() != self._socket:
            self._end("the plugin has closed it")

    def _inode(self) -> tuple[int, int] | None:
        try:
            found = fstat(self._link.fileno())
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _end(self, why: str) -> None:
        with suppress(OSError):
            os.write(2, f"worker lost its link: {why}\n".encode())
        _exit(LINK_LOST)


def failed(line: Line, error: BaseException) -> int:
    """Send why this worker cannot serve; gives its exit status."""
    line.send(["failed", shorten(trace_of(error), TRACE_LIMIT)])
    return FAILED


def tell(line: Line, report: Report, body: bytes) -> None:
    """Send the report of a run, and its result."""
    line.send(["done", *report], body)
