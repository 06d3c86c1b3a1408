"""A worker process: takes workitems from its link, runs them one after the other, or side by side for coroutines.

It runs in a fork of the template, as the group's user, and must never speak AMQP nor know a broker's address. The end
of its link is the only order to stop: it finishes what it has read, calls `teardown` and returns.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from os import _exit, fstat, getpid  # as they are before a plugin puts others in their place
from typing import Any

from taskqueue.config.settings import GroupSettings
from taskqueue.errors import LinkError
from taskqueue.host.title import set_title
from taskqueue.link.assignment import FAILED, MEMORY, TRACE_LIMIT, UNHEARD, Assignment, Report
from taskqueue.link.packets import Link, Packet
from taskqueue.protocol.properties import shorten
from taskqueue.worker.execution import SoftLimit, bind, is_async, make_worker, run_sync, trace_of


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
        _exit(UNHEARD)


class Surroundings:
    """What `setup` has left around a handler, and the next one finds again: the working directory, the umask, which
    signals are blocked, the recursion limit; and no alarm that is still to come."""

    def __init__(self) -> None:
        self._directory: str | None = None
        with suppress(OSError):
            self._directory = os.getcwd()  # noqa: PTH109 - a Path makes 60 KiB a worker's own
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._depth = sys.getrecursionlimit()

    def restore(self) -> None:
        """After a run."""
        sys.setrecursionlimit(self._depth)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        os.umask(self._umask)
        if self._directory is not None:
            with suppress(OSError):  # the plugin has removed it
                os.chdir(self._directory)


def prepare(settings: GroupSettings) -> None:
    """To be called before a plugin is imported, in the process that serves, or that forks those that do: what is made
    before a fork is shared by all workers."""
    faulthandler.enable()
    bind(settings)


def serve(link: Link, factory: Callable[[], Callable[[], Any]], settings: GroupSettings) -> int:
    """Be a worker until the link ends, after `prepare`; gives the exit status. `factory()` gives the plugin's own."""
    line = Line(link)
    title = f"worker {settings.name}"
    set_title(title)
    try:
        made = make_worker(factory(), settings.worker_type)
    except BaseException as error:
        return failed(line, error)
    if is_async(made):
        from taskqueue.worker import coroutines  # asyncio is a third of a worker's memory: only for those who use it

        return coroutines.serve(line, made, settings, title)
    return _serve_sync(line, made, settings, title)


def failed(line: Line, error: BaseException) -> int:
    """Send why this worker cannot serve; gives its exit status."""
    line.send(["failed", shorten(trace_of(error), TRACE_LIMIT)])
    return FAILED


def _serve_sync(line: Line, made: Any, settings: GroupSettings, title: str) -> int:
    try:
        call(made, "setup")
    except BaseException as error:
        return failed(line, error)
    limit = SoftLimit(settings.soft_time_limit_s)
    surroundings = Surroundings()
    line.send(["ready"])
    served = 0
    while settings.max_tasks is None or served < settings.max_tasks:
        try:
            packet = line.receive(wait=True)
        except EOFError:
            break
        assert packet is not None
        assignment = Assignment(*packet.head)
        served += 1
        set_title(f"{title} [task {assignment.message_id:.36}]")
        report, body = run_sync(made, assignment, packet.body, settings, limit)
        set_title(title)
        surroundings.restore()
        tell(line, report._replace(last=served == settings.max_tasks), body)
        if report.outcome == "memory":
            return MEMORY
    call(made, "teardown")
    return 0


def tell(line: Line, report: Report, body: bytes) -> None:
    """Send the report of a run, and its result."""
    line.send(["done", *report], body)


def call(made: Any, name: str) -> Any:
    """Call `setup` or `teardown` where the worker has one (any object with `handle_task` will do)."""
    method = getattr(made, name, None)
    return method() if method is not None else None
