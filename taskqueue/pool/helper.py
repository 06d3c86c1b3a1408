"""A helper: a listener or a template, with its process, the pool's link to it, and its output.

1. `Helper` spawns `python -m taskqueue.listener 7 9` as a unix user. Descriptor 7 is the helper's link to the pool,
   descriptor 9 its link to the other helper. The pool then sends its `ListenerStart`.
2. Each order that the helper sends is handed to `on_order`. Each line that it prints becomes a line of the log:
   `listener output: group=worker1 pid=4711: …`.
3. It ends: by itself, or by `kill`. The pool reaps it and calls `reaped(0)`: what it sent and printed last is read,
   and its descriptors are given back.

This module must never decide what an order means, nor when a helper is to end.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from taskqueue.errors import LinkError
from taskqueue.foundation.contained_loop import EventLoop
from taskqueue.host import kernel
from taskqueue.host.output import Allowance, Output
from taskqueue.host.spawn import Identity, spawn
from taskqueue.link import orders, packets
from taskqueue.link.packets import Link
from taskqueue.pool.blueprint import Blueprint

log = logging.getLogger(__name__)

PROGRAMS = {"listener": "taskqueue.listener", "template": "taskqueue.worker.template"}
"""The program of each role, for `python -m`."""


class Processes(Protocol):
    """Starts and kills processes: `HOST`, but in tests."""

    def spawn(
        self, module: str, fds: list[int], who: Identity, log_fd: int | None, descriptor_limit: int | None
    ) -> subprocess.Popen[bytes]:
        """Start `python -m module FD…`; see `host.spawn`."""

    def kill(self, pid: int) -> None:
        """SIGKILL to a process that may be gone already."""


class _Host:
    """The processes of this host."""

    def spawn(
        self, module: str, fds: list[int], who: Identity, log_fd: int | None, descriptor_limit: int | None
    ) -> subprocess.Popen[bytes]:
        return spawn(module, fds, who, log_fd, descriptor_limit=descriptor_limit)

    def kill(self, pid: int) -> None:
        kernel.kill(pid)


HOST: Processes = _Host()


class Helper:
    """The helper `role` of a generation, spawned as `who`. `peer` is its end of the link to the other helper.

    `on_order(order)` is called in the loop for each order that the helper sends. Raises `OSError` where no process can
    be started.
    """

    def __init__(
        self,
        loop: EventLoop,
        role: str,
        who: Identity,
        peer: Link,
        blueprint: Blueprint,
        on_order: Callable[[orders.Order], None],
        processes: Processes = HOST,
    ) -> None:
        self.role = role
        self.alive = True
        """Whether the pool has not reaped it yet."""
        self._loop = loop
        self._group = blueprint.settings.name
        self._on_order = on_order
        self._processes = processes
        self._link, theirs = packets.pair()
        try:
            self._process = processes.spawn(
                PROGRAMS[role], [theirs.fileno(), peer.fileno()], who, blueprint.log_fd, blueprint.descriptor_limit
            )
        except BaseException:
            self._link.close()
            raise
        finally:
            theirs.close()
        assert self._process.stdout is not None
        pipe = os.dup(self._process.stdout.fileno())
        self._process.stdout.close()
        self._allowance = Allowance(loop, self._log_line)
        self._output = Output(loop, pipe, self._log_line, self._allowance)
        loop.add_handler(self._link.fileno(), self._on_readable, loop.READ)

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def send(self, order: orders.Order) -> bool:
        """Send `order`; False where the helper has died, or reads none at present."""
        with suppress(LinkError):  # it has died already, and is reaped soon
            return orders.send(self._link, order)
        return False

    def kill(self) -> None:
        """SIGKILL to the process, if it is not reaped yet."""
        if self.alive:
            self._processes.kill(self.pid)

    def reaped(self, exit_code: int) -> None:
        """The pool has reaped it: read what it has left in link and pipe, then give the descriptors back."""
        self._process.returncode = exit_code
        self.alive = False
        if self._link.fileno() >= 0:
            self._on_readable(self._link.fileno(), 0)
        self.close()

    def close(self) -> None:
        """Read no order any more, log what it has printed, give the descriptors back."""
        if self._link.fileno() >= 0:
            self._loop.remove_handler(self._link.fileno())
            self._link.close()
            self._output.close()
            self._allowance.end()

    def _on_readable(self, fd: int, events: int) -> None:
        try:
            while (received := orders.receive(self._link)) is not None:
                for descriptor in received.fds:  # no order to the pool has any, but a template runs plugin code
                    os.close(descriptor)
                self._on_order(received.order)
        except EOFError:
            self._loop.remove_handler(fd)  # its end is seen when it is reaped
        except LinkError as error:
            log.error("%s broke the protocol: group=%s pid=%d error=%s", self.role, self._group, self.pid, error)
            self._loop.remove_handler(fd)
            self.kill()

    def _log_line(self, line: str) -> None:
        log.info("%s output: group=%s pid=%d: %s", self.role, self._group, self.pid, line)
