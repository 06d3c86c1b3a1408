"""The template of one group: imports the plugin once, as the group's user, then keeps its workers alive.

The life of a worker, from fork to reap:

1. The template forks it. It tells the listener `WorkerForked(pid=4711)`, and hands over both ends of the worker's link:
   with the worker's own end the listener can take back what the worker has not read.
2. The worker makes its instance, calls `setup` and says so on its link. The listener answers `WorkerReady(4711)`.
3. It runs workitems, which this process never sees, until it dies: by itself, or by `KillWorker(4711, "time_limit")`.
4. The template reaps it, kills what it left behind, and tells the listener `WorkerGone(4711, -9, "time_limit")`.
5. It forks a replacement: at once for a worker that was ready; after a backoff for one that never was, for its `setup`
   failed and will fail again; never after `Retire` or `KillAllWorkers`, where `NoWorkerLeft()` ends the story.

When the pool or the listener is gone, the template kills its workers and ends. It has no AMQP, no credentials and no
workitems, and must never get any: it runs a plugin's code.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from os import _exit  # imported before a plugin can replace it
from pathlib import Path
from time import monotonic  # likewise
from typing import Any

from taskqueue.config.settings import GroupSettings, group_from_json, logging_from_json
from taskqueue.errors import LinkError
from taskqueue.foundation.backoff import Backoff
from taskqueue.foundation.loop import Loop
from taskqueue.host import kernel
from taskqueue.host.logs import setup_logging
from taskqueue.host.title import set_title
from taskqueue.link import orders, packets
from taskqueue.link.assignment import TRACE_LIMIT
from taskqueue.link.exits import FAILED
from taskqueue.link.packets import Link
from taskqueue.protocol.properties import shorten
from taskqueue.worker import serve
from taskqueue.worker.execution import trace_of
from taskqueue.worker.loading import load_plugin
from taskqueue.worker.processes import Processes

log = logging.getLogger(__name__)

_STORM_DEATHS = 20
"""Deaths of ready workers within `_STORM_S` that are replaced at once; each further one is replaced after `_STORM_S`.
So a plugin that kills every worker costs some 20 forks a second, not all of the host's time."""
_STORM_S = 1.0
"""Seconds."""
_UNREADY_FIRST_S, _UNREADY_LONGEST_S = 1.0, 60.0
"""Seconds until a worker is replaced that died before it was ready, or could not be forked: doubled each time, from the
first to the longest. A `setup` that fails is tried again for ever, and seldom."""


@dataclass(slots=True)
class _Worker:
    ready: bool = False
    why: str | None = None
    """Why the listener ordered its death; `WorkerGone` repeats it."""


class Template:
    """Keeps `settings.workers` workers alive until the pool or the listener says otherwise."""

    def __init__(
        self, loop: Loop, settings: GroupSettings, processes: Processes, pool: Link, listener: Link,
        now: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        self._loop = loop
        self._settings = settings
        self._processes = processes
        self._listener = listener
        self._now = now
        self._workers: dict[int, _Worker] = {}
        self._unready = Backoff(_UNREADY_FIRST_S, _UNREADY_LONGEST_S)
        self._deaths: deque[float] = deque(maxlen=_STORM_DEATHS)
        self._stopping = False
        loop.on_signal(signal.SIGCHLD, self._reap)
        for name, link in (("pool", pool), ("listener", listener)):
            loop.add_handler(link.fileno(), partial(self._on_packet, name, link), loop.READ)

    def run(self) -> None:
        """Fork the workers and keep them, until the pool or the listener is gone."""
        for _ in range(self._settings.workers):
            self._fork()
        self._loop.start()
        self._processes.end()

    # -- orders

    def _on_packet(self, source: str, link: Link, fd: int, events: int) -> None:
        try:
            while (received := orders.receive(link)) is not None:
                self._obey(received.order)
        except (EOFError, LinkError):
            log.debug("link ended: group=%s from=%s", self._settings.name, source)
            self._loop.stop()

    def _obey(self, order: orders.Order) -> None:
        match order:
            case orders.WorkerReady(pid) if pid in self._workers:
                self._workers[pid].ready = True
                self._unready.reset()
            case orders.KillWorker(pid, why) if pid in self._workers:
                self._workers[pid].why = why
                self._processes.kill(pid)
            case orders.KillAllWorkers():
                self._stopping = True
                self._processes.kill_all()
            case orders.Retire():
                self._stopping = True  # the listener ends the workers' links: they leave one by one
                self._maybe_done()

    def _send(self, order: orders.Order, fds: tuple[int, ...] = ()) -> None:
        try:
            orders.send(self._listener, order, fds, wait=True)
        except LinkError:
            self._loop.stop()

    # -- births and deaths

    def _fork(self) -> None:
        if self._stopping:
            return
        try:
            pid, ends = self._processes.fork()
        except OSError as error:
            wait_s = self._unready.next_s()
            log.error("worker not started: group=%s reason=%s next_try_in=%.1fs", self._settings.name, error, wait_s)
            self._loop.call_later(wait_s, self._fork)
            return
        self._workers[pid] = _Worker()
        self._send(orders.WorkerForked(pid), tuple(end.fileno() for end in ends))
        for end in ends:
            end.close()

    def _reap(self) -> None:
        for pid, exit_code, memory in self._processes.reap():
            worker = self._workers.pop(pid)
            self._send(orders.WorkerGone(pid, exit_code, worker.why or memory))
            if not self._stopping:
                self._replace(worker)
        self._maybe_done()

    def _replace(self, dead: _Worker) -> None:
        if not dead.ready:
            self._loop.call_later(self._unready.next_s(), self._fork)
            return
        now = self._now()
        stormy = len(self._deaths) == _STORM_DEATHS and now - self._deaths[0] < _STORM_S
        self._deaths.append(now)
        if stormy:
            self._loop.call_later(_STORM_S, self._fork)
        else:
            self._fork()

    def _maybe_done(self) -> None:
        if self._stopping and not self._workers:
            self._send(orders.NoWorkerLeft())


def main() -> int:
    """`python -m taskqueue.worker.template POOL_FD LISTENER_FD`: started by the pool, as the group's user."""
    kernel.die_with_parent(signal.SIGKILL)
    kernel.adopt_orphans()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # only the pool reloads
    pool, listener = (packets.adopt(int(number)) for number in sys.argv[1:3])
    start = orders.receive_start(pool, orders.TemplateStart)
    if start is None:
        return 1
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
    gc.freeze()  # no collection writes to the pages of what the plugin has made: all workers share them
    kernel.die_with_parent(0)  # from here on the loop sees the pool's end, and kills the workers first
    loop = Loop()
    group = Path(start.cgroup) if start.cgroup else None
    processes = Processes(loop, settings, lambda link: serve.serve(link, factory, settings), group, (pool, listener))
    Template(loop, settings, processes, pool, listener).run()
    return 0


if __name__ == "__main__":
    # Not through sys.exit: a plugin's thread or atexit hook must not keep a template whose pool is gone.
    code = main()
    sys.stderr.flush()
    _exit(code)
