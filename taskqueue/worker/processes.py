"""The worker processes of one template: forked, killed, reaped, and cleaned up behind.

1. `fork` makes the worker's link, the pipes of its stdout and stderr, and, where cgroups limit memory, its cgroup;
   then it forks. The child goes on in `worker.birth`. Of what an `OSError` interrupts, nothing is left.
2. While the worker lives, this module reads its output into the log.
3. `kill` sends SIGKILL to it and to its process group.
4. `reap` finds it dead, kills what the plugin has left behind, logs the rest of its output, removes its cgroup, and
   gives a `Death`.

This module must never decide how many workers there are, nor when one is replaced: `worker.template` does.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from os import _exit  # imported before a plugin can replace it
from pathlib import Path
from typing import NamedTuple

from taskqueue.config.settings import GroupSettings
from taskqueue.foundation.loop import Loop
from taskqueue.host import cgroup, kernel
from taskqueue.host.output import Allowance, Output
from taskqueue.link import packets
from taskqueue.link.packets import Link
from taskqueue.worker.birth import Birth, become_worker

log = logging.getLogger(__name__)

_LAST_KILLS_S = 5.0
"""Seconds for which the template kills and reaps at its end until no child is left; then the kernel hands what is left
to the pool."""


class Forked(NamedTuple):
    """A worker that was forked: its pid, and the listener's end and the worker's end of its link, to be closed here."""

    pid: int
    ends: tuple[Link, Link]


class Death(NamedTuple):
    """A worker that was reaped."""

    pid: int
    exit_code: int
    """Negative for a signal, as in `subprocess`."""
    memory: str | None
    """A sentence, where the kernel killed it for memory in its cgroup."""


class _Process(NamedTuple):
    number: int
    """Its mark, which all that it starts inherits."""
    outputs: tuple[Output, ...]
    cgroup: Path | None


class Processes:
    """The workers of a group, as processes. `serve(link)` is what each of them does; it gives the exit status.

    `group` is the cgroup of this generation, None where no cgroup limits memory. `links` are the template's own, which
    no worker may keep open.
    """

    def __init__(
        self, loop: Loop, settings: GroupSettings, serve: Callable[[Link], int], group: Path | None,
        links: Sequence[Link],
    ) -> None:  # fmt: skip
        self._loop = loop
        self._settings = settings
        self._serve = serve
        self._group = group
        self._links = links
        self._living: dict[int, _Process] = {}
        self._numbers = count(1)
        self._cgroups_left: list[Path] = []
        self._max_descriptors = kernel.raise_descriptor_limit()
        """The limit of a worker is the one that this process was given: a plugin may use select(2)."""
        too_much = partial(log.warning, "worker output: group=%s %s", settings.name)
        self._allowance = Allowance(loop, too_much, settings.workers)

    def fork(self) -> Forked:
        """Start a worker; raises `OSError` where no descriptor, no process or no memory is to be had."""
        template_pid = os.getpid()
        with ExitStack() as undo, ExitStack() as childs:
            ends = packets.pair()
            for end in ends:
                undo.callback(end.close)
            reads, writes = [], []
            for _ in range(2):
                read, write = os.pipe2(os.O_CLOEXEC)
                undo.callback(os.close, read)
                childs.callback(os.close, write)
                reads.append(read)
                writes.append(write)
            number, own = next(self._numbers), None
            if self._group is not None:
                own = cgroup.make_worker(self._group, number, self._settings.max_memory_bytes or 0)
                undo.callback(cgroup.remove, own)
            pid = os.fork()
            if pid == 0:
                try:
                    birth = Birth(
                        template_pid, number, (writes[0], writes[1]), self._max_descriptors,
                        self._settings.max_memory_bytes, own,
                    )  # fmt: skip
                    become_worker(birth, partial(self._leave, ends[0]), partial(self._serve, ends[1]))
                finally:
                    _exit(1)
            undo.callback(self.kill, pid)
            outputs = tuple(
                Output(self._loop, read, partial(_log_output, self._settings.name, pid, stream), self._allowance)
                for read, stream in zip(reads, ("stdout", "stderr"), strict=True)
            )
            undo.pop_all()
        self._living[pid] = _Process(number, outputs, own)
        return Forked(pid, ends)

    def kill(self, pid: int) -> None:
        """SIGKILL to a worker and to its process group."""
        kernel.kill_group(pid)
        kernel.kill(pid)

    def kill_all(self) -> None:
        """SIGKILL to every worker and its process group."""
        for pid in self._living:
            self.kill(pid)

    def reap(self) -> Iterator[Death]:
        """The workers that have died since the last call. Go through all of them: the end cleans up."""
        for pid, exit_code in kernel.reap():
            process = self._living.pop(pid, None)
            if process is None:
                continue
            kernel.kill_group(pid)  # what the plugin started and left behind
            for output in process.outputs:
                output.close()
            yield Death(pid, exit_code, self._leave_cgroup(process))
        self._kill_left_behind()
        self._cgroups_left = [left for left in self._cgroups_left if not cgroup.remove(left)]

    def end(self) -> None:
        """Kill all workers and everything that they started, and remove the cgroups."""
        self.kill_all()
        deadline = time.monotonic() + _LAST_KILLS_S
        while (left := kernel.children(os.getpid())) and time.monotonic() < deadline:
            for pid in left:
                kernel.kill(pid)
            kernel.reap()
            time.sleep(0.01)  # the kernel's time to deliver SIGKILL; bounded by the deadline
        self._allowance.end()
        for path in [*self._cgroups_left, *(process.cgroup for process in self._living.values() if process.cgroup)]:
            cgroup.remove(path)

    def _leave_cgroup(self, process: _Process) -> str | None:
        """Kill what is left in a dead worker's cgroup; gives a sentence where the worker died for memory."""
        if process.cgroup is None:
            return None
        cgroup.kill(process.cgroup)
        self._cgroups_left.append(process.cgroup)
        if cgroup.ran_out_of_memory(process.cgroup):
            return f"out of memory: max_memory is {self._settings.max_memory_bytes} bytes"
        return None

    def _kill_left_behind(self) -> None:
        """Kill what dead workers had started in sessions of their own; the template has adopted it.

        The template has also adopted what living workers have daemonised. The mark tells both apart: what belongs to a
        living worker lives until that worker dies.
        """
        living = {process.number for process in self._living.values()}
        for pid in kernel.children(os.getpid()) - self._living.keys():
            number = kernel.marked(pid)
            if number is not None and number not in living:
                kernel.kill(pid)

    def _leave(self, listeners_end: Link) -> None:
        """In a new worker: close what belongs to the template."""
        for process in self._living.values():
            for output in process.outputs:
                if output.fd >= 0:
                    os.close(output.fd)
        for link in (listeners_end, *self._links):
            link.close()
        self._loop.close()


def _log_output(group: str, pid: int, stream: str, line: str) -> None:
    log.info("worker output: group=%s pid=%d %s: %s", group, pid, stream, line)
