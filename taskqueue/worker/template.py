"""The template of one group: imports the plugin once, as the group's user, and forks workers on demand.

The pool starts it as the group's user, so that no line of a plugin runs with more rights. It has no AMQP, no
credentials and no workitems: a new worker's link goes to the listener at once. When the pool or the listener is gone
it kills its workers and ends.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from os import _exit  # as it is before a plugin puts another in its place
from pathlib import Path
from typing import Any

from taskqueue.config.settings import GroupSettings, group_from_json, logging_from_json
from taskqueue.errors import LinkError
from taskqueue.foundation.backoff import Backoff
from taskqueue.foundation.loop import Loop
from taskqueue.host import cgroup, kernel
from taskqueue.host.logs import setup_logging
from taskqueue.host.output import Allowance, Output
from taskqueue.host.title import set_title
from taskqueue.link import orders, packets
from taskqueue.link.assignment import TRACE_LIMIT
from taskqueue.link.exits import FAILED, MEMORY
from taskqueue.link.packets import Link
from taskqueue.protocol.properties import shorten
from taskqueue.worker import serve
from taskqueue.worker.execution import trace_of
from taskqueue.worker.loading import load_plugin

log = logging.getLogger(__name__)

_BURST = 20
"""So many deaths of ready workers in one second are replaced at once; above it the template waits a second."""


@dataclass(slots=True)
class _Forked:
    number: int
    """What all that it starts is marked with."""
    outputs: list[Output]
    cgroup: Path | None
    ready: bool = False
    why: str | None = None
    """Why the listener asked for its death; goes back with it."""


class Template:
    """Keeps `settings.workers` workers alive until it is told to stop."""

    def __init__(
        self,
        loop: Loop,
        settings: GroupSettings,
        factory: Callable[[], Callable[[], Any]],
        pool: Link,
        listener: Link,
        group: Path | None,
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._factory = factory
        self._pool = pool
        self._listener = listener
        self._workers: dict[int, _Forked] = {}
        self._unready = Backoff(1.0, 60.0)
        self._deaths: deque[float] = deque(maxlen=_BURST)
        self._stopping = False
        self._descriptors = kernel.raise_descriptor_limit()
        """How many a worker may have: what this process was given, for a plugin may use select(2)."""
        self._numbers = count(1)
        self._group = group
        """The cgroup of this generation; None where memory is limited by other means, or not at all."""
        self._cgroups_left: list[Path] = []
        too_much = partial(log.warning, "worker output: group=%s %s", settings.name)
        self._allowance = Allowance(loop, too_much, settings.workers)
        loop.on_signal(signal.SIGCHLD, self._reap)
        loop.add_handler(pool.fileno(), partial(self._on_packet, pool), loop.READ)
        loop.add_handler(listener.fileno(), partial(self._on_packet, listener), loop.READ)

    def run(self) -> None:
        """Fork the workers and keep them, until the pool says stop or one of the others is gone."""
        for _ in range(self._settings.workers):
            self._fork()
        self._loop.start()
        self._kill_all()
        self._end_orphans()
        self._allowance.end()
        for left in [*self._cgroups_left, *(worker.cgroup for worker in self._workers.values() if worker.cgroup)]:
            cgroup.remove(left)

    # -- orders

    def _on_packet(self, source: Link, fd: int, events: int) -> None:
        try:
            while (received := orders.receive(source)) is not None:
                self._obey(received.order)
        except (EOFError, LinkError):
            log.debug(
                "link ended: group=%s from=%s", self._settings.name, "pool" if source is self._pool else "listener"
            )
            self._loop.stop()

    def _obey(self, order: orders.Order) -> None:
        match order:
            case orders.WorkerReady(pid) if pid in self._workers:
                self._workers[pid].ready = True
                self._unready.reset()
            case orders.KillWorker(pid, why) if pid in self._workers:
                self._workers[pid].why = why
                kernel.kill_group(pid)
                kernel.kill(pid)
            case orders.KillAllWorkers():
                self._stopping = True
                self._kill_all()
            case orders.Retire():
                self._stopping = True  # links end, workers leave one by one; none is replaced
                self._maybe_done()

    def _kill_all(self) -> None:
        for pid in self._workers:
            kernel.kill_group(pid)
            kernel.kill(pid)

    # -- deaths

    def _reap(self) -> None:
        for pid, code in kernel.reap():
            worker = self._workers.pop(pid, None)
            if worker is None:
                continue
            kernel.kill_group(pid)  # what the plugin started and left behind
            for output in worker.outputs:
                output.close()
            memory = self._leave_cgroup(worker)
            self._tell(orders.WorkerGone(pid, code, worker.why or memory))
            if not self._stopping:
                self._replace(worker)
        self._end_left_behind()
        self._cgroups_left = [left for left in self._cgroups_left if not cgroup.remove(left)]
        self._maybe_done()

    def _leave_cgroup(self, worker: _Forked) -> str | None:
        """What is left in it dies; gives why the worker did, if it was for memory."""
        if worker.cgroup is None:
            return None
        cgroup.kill(worker.cgroup)
        self._cgroups_left.append(worker.cgroup)
        if cgroup.ran_out_of_memory(worker.cgroup):
            return f"out of memory: max_memory is {self._settings.max_memory_bytes} bytes"
        return None

    def _end_left_behind(self) -> None:
        """What a dead worker had started in a session of its own is ours now: kill it. What a living one has
        daemonised is ours too, and left alone until that one dies: its mark says whose it is."""
        living = {worker.number for worker in self._workers.values()}
        for pid in kernel.children(os.getpid()) - self._workers.keys():
            number = kernel.marked(pid)
            if number is not None and number not in living:
                kernel.kill(pid)

    def _replace(self, worker: _Forked) -> None:
        if not worker.ready:
            self._loop.call_later(self._unready.next_s(), self._fork)
            return
        now = time.monotonic()
        stormy = len(self._deaths) == _BURST and now - self._deaths[0] < 1.0
        self._deaths.append(now)
        if stormy:
            self._loop.call_later(1.0, self._fork)
        else:
            self._fork()

    def _maybe_done(self) -> None:
        if self._stopping and not self._workers:
            self._tell(orders.NoWorkerLeft())

    def _tell(self, order: orders.Order, fds: tuple[int, ...] = ()) -> None:
        try:
            orders.send(self._listener, order, fds, wait=True)
        except LinkError:
            self._loop.stop()

    def _end_orphans(self) -> None:
        """Kill and reap until nothing is left, also what a plugin started and what then became ours."""
        deadline = time.monotonic() + 5.0
        while (left := kernel.children(os.getpid())) and time.monotonic() < deadline:
            for pid in left:
                kernel.kill(pid)
            kernel.reap()
            time.sleep(0.01)  # the kernel's time to deliver SIGKILL; bounded by the deadline

    # -- birth

    def _fork(self) -> None:
        if self._stopping:
            return
        parent = os.getpid()
        with ExitStack() as passed_on, ExitStack() as kept:
            try:
                ours, theirs = packets.pair()
                passed_on.callback(ours.close)
                passed_on.callback(theirs.close)
                pipes = []
                for _ in range(2):
                    pipes.append(os.pipe2(os.O_CLOEXEC))
                    kept.callback(os.close, pipes[-1][0])
                    passed_on.callback(os.close, pipes[-1][1])
                number, limited = next(self._numbers), None
                if self._group is not None:
                    limited = cgroup.make_worker(self._group, number, self._settings.max_memory_bytes or 0)
                    kept.callback(cgroup.remove, limited)
                pid = os.fork()
            except OSError as error:  # no descriptor, no process or no memory is to be had
                wait_s = self._unready.next_s()
                log.error(
                    "worker not started: group=%s reason=%s next_try_in=%.1fs", self._settings.name, error, wait_s
                )
                self._loop.call_later(wait_s, self._fork)
                return
            kept.pop_all()
            if pid == 0:
                try:
                    self._be_worker(number, limited, theirs, ours, parent, [write for _, write in pipes])
                finally:
                    _exit(1)
            outputs = [
                Output(self._loop, read, partial(_log_output, self._settings.name, pid, stream), self._allowance)
                for (read, _), stream in zip(pipes, ("stdout", "stderr"), strict=True)
            ]
            self._workers[pid] = _Forked(number, outputs, limited)
            # Both ends: with the worker's own end the listener can take back what the worker has not read.
            self._tell(orders.WorkerForked(pid), (ours.fileno(), theirs.fileno()))

    def _be_worker(
        self, number: int, limited: Path | None, theirs: Link, ours: Link, parent: int, streams: list[int]
    ) -> None:
        """The child's side of the fork; never returns."""
        status = 1
        try:
            kernel.die_with_parent(signal.SIGKILL)
            if os.getppid() != parent:
                _exit(1)
            os.setsid()
            for standard, stream in enumerate(streams, start=1):
                os.dup2(stream, standard)
                os.close(stream)
            self._leave_parent(ours)
            kernel.limit_descriptors(self._descriptors)
            kernel.mark(number)
            self._limit_memory(limited)
            status = serve.serve(theirs, self._factory, self._settings)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except MemoryError:
            status = MEMORY
        except BaseException:
            traceback.print_exc()
        finally:
            for text in (sys.stdout, sys.stderr):
                with suppress(BaseException):  # whatever the plugin has put in its place
                    text.flush()
            _exit(status)

    def _leave_parent(self, ours: Link) -> None:
        """Close what belongs to the template and put signals back as a plugin expects them."""
        for worker in self._workers.values():
            for output in worker.outputs:
                if output.fd >= 0:
                    os.close(output.fd)
        for own in (ours, self._pool, self._listener):
            own.close()
        self._loop.close()
        for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the pool

    def _limit_memory(self, limited: Path | None) -> None:
        limit = self._settings.max_memory_bytes
        if limit is not None:
            if limited is not None:
                cgroup.enter(limited)
            else:
                resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _log_output(group: str, pid: int, stream: str, line: str) -> None:
    log.info("worker output: group=%s pid=%d %s: %s", group, pid, stream, line)


def main() -> int:
    """`python -m taskqueue.worker.template POOL_FD LISTENER_FD`: started by the pool, as the group's user."""
    kernel.die_with_parent(signal.SIGKILL)
    kernel.adopt_orphans()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload is the pool's
    pool, listener = (packets.adopt(int(number)) for number in sys.argv[1:3])
    try:
        received = orders.receive(pool, wait=True)
    except EOFError:
        return 1
    assert received is not None
    start = received.order
    assert isinstance(start, orders.TemplateStart)
    settings = group_from_json(start.group)
    setup_logging(logging_from_json(start.logging), f"taskqueue-worker[{settings.name}]", start.log_fd)
    set_title(f"template {settings.name}")
    serve.prepare(settings)
    load = partial(load_plugin, settings.worker_type, start.entry_value)
    if settings.preload:
        try:
            loaded = load()
        except BaseException as error:
            orders.send(pool, orders.Failed(shorten(trace_of(error), TRACE_LIMIT)), wait=True)
            return FAILED
        factory: Callable[[], Callable[[], Any]] = lambda: loaded  # noqa: E731
    else:
        factory = load
    gc.collect()
    gc.freeze()  # what the plugin brought is shared for good: no collection writes to those pages
    kernel.die_with_parent(0)  # from here on the loop sees the pool's end, and takes the workers along
    loop = Loop()
    Template(loop, settings, factory, pool, listener, Path(start.cgroup) if start.cgroup else None).run()
    return 0


if __name__ == "__main__":
    # Not through sys.exit: a plugin's thread or atexit hook must not keep a template whose pool is gone.
    code = main()
    sys.stderr.flush()
    _exit(code)
