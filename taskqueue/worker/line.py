"""The worker's end of its link to the listener, guarded against what a plugin may do to it.

    listener to worker   an `Assignment` and the workitem's body
    worker to listener   ["ready"], ["failed", traceback], or ["done", *Report] and the result's body

A plugin may fork in its handler, close every descriptor, or put another socket in the link's place. Two processes must
never report one attempt, and a worker that cannot report must never run another.
"""

from __future__ import annotations

import os
from contextlib import suppress
from os import _exit, fstat, getpid  # imported before a plugin can replace them
from typing import Any

from taskqueue.errors import LinkError
from taskqueue.link.assignment import TRACE_LIMIT, Report
from taskqueue.link.exits import FAILED, LINK_LOST
from taskqueue.link.packets import Link, Packet
from taskqueue.protocol.properties import shorten
from taskqueue.worker.execution import trace_of


class Line:
    """The worker's end of its link. Each use first looks whose process this is, and whether the link is still there.

    A process that the plugin has forked ends with status 0. A worker that has lost its link ends with `LINK_LOST`.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._pid = getpid()
        self._socket = self._inode()

    def fileno(self) -> int:
        """The descriptor of the link, for a loop that waits for packets."""
        return self._link.fileno()

    def send(self, head: list[Any], body: bytes = b"") -> None:
        """Send a packet to the listener; waits while its queue is full."""
        self._check()
        try:
            self._link.send(head, body, wait=True)
        except LinkError as error:  # the listener is gone; or no descriptor is left for a large packet
            self._end(str(error))

    def receive(self, *, wait: bool) -> Packet | None:
        """The next packet; None where there is none at present and `wait` is not set. Raises `EOFError` at the end."""
        self._check()
        try:
            return self._link.receive(wait=wait)
        except LinkError:
            raise EOFError from None

    def _check(self) -> None:
        if getpid() != self._pid:
            _exit(0)  # a child that the plugin has forked returned from the handler: only its parent reports
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


def report_failure(line: Line, error: BaseException) -> int:
    """Report that this worker cannot serve, since its factory or `setup` raised `error`; gives its exit status."""
    line.send(["failed", shorten(trace_of(error), TRACE_LIMIT)])
    return FAILED


def report_attempt(line: Line, report: Report, body: bytes) -> None:
    """Report an attempt, with the body of its result."""
    line.send(["done", *report], body)
