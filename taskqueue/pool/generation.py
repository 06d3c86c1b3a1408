"""A generation: one listener and one template with its workers, run by one blueprint.

The life of a generation of the group `worker1`, with three workers:

1. *Spawn.* `start` spawns a template as the group's unix user, and a listener as `taskqueue`. They have a link between
   them, and each has a link to the pool. The generation is STARTING.
2. *First order.* `TemplateStart` names the plugin, `ListenerStart` the queue and the broker. The template imports the
   plugin and forks three workers; the listener connects.
3. *Ready.* The listener sends `Ready()`: three workers serve, workitems run. The generation is READY. It can stay so
   for months; a worker that dies is the template's to replace, and the pool does not notice.
4. *Drain.* A new generation has taken over, or the pool stops: the generation is DRAINING. The listener gets `Drain()`,
   consumes no more and finishes what runs. After the stop timeout it gets `StopNow()`: what still runs is requeued.
5. *Ending.* The first helper has died: the generation is ENDING. The other helper finds its link closed and ends, too;
   after five seconds it is killed.
6. *Gone.* Both are reaped. `on_gone` says so, and the generation's cgroup is removed.

From each state it may go to ENDING at once: a helper crashed, or `abandon` killed both. This module must never decide
whether a generation is wanted: that is the group's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from taskqueue.config.settings import to_json
from taskqueue.foundation.contained_loop import EventLoop
from taskqueue.foundation.lifecycle import Lifecycle
from taskqueue.foundation.loop import Timer
from taskqueue.host import cgroup, kernel
from taskqueue.host.spawn import Identity, identity
from taskqueue.link import orders, packets
from taskqueue.link.exits import FAILED
from taskqueue.link.packets import Link
from taskqueue.pool.blueprint import Blueprint
from taskqueue.pool.helper import HOST, Helper, Processes
from taskqueue.pool.states import GENERATION_MOVES, GenerationState

log = logging.getLogger(__name__)

_END_S = 5.0
"""Seconds that a helper may take to end by itself; then it is killed."""
_CGROUP_S = 0.1
"""Seconds between two tries to remove a cgroup, which fail while a killed process in it has not quite died."""


class Generation:
    """Calls, in the loop, `on_ready`, `on_gone`, and `on_error` with a traceback or a line that says what failed."""

    def __init__(
        self,
        loop: EventLoop,
        blueprint: Blueprint,
        *,
        on_ready: Callable[[Generation], None],
        on_gone: Callable[[Generation], None],
        on_error: Callable[[Generation, str], None],
        processes: Processes = HOST,
    ) -> None:
        self.blueprint = blueprint
        self.life = Lifecycle(GenerationState.STARTING, GENERATION_MOVES)
        self.started = time.time()
        """Unix time, for the status document."""
        self.user = ""
        """The unix user of its workers, once it is started."""
        self.ready_at: float | None = None
        """When its workers began to serve, on the monotonic clock."""
        self.last_error: str | None = None
        self.status: dict[str, Any] = {}
        """The listener's part of the status document, as it answered last."""
        self._loop = loop
        self._on_ready, self._on_gone, self._on_error = on_ready, on_gone, on_error
        self._processes = processes
        self._helpers: list[Helper] = []
        self._timers: list[Timer] = []
        self._status_waiters: list[Callable[[], None]] = []
        self._asked_to_end = False
        self._abandoned = False
        self._cgroup: Path | None = None

    @property
    def max_memory_by(self) -> str | None:
        """The mechanism that bounds the memory of a worker; None where nothing does."""
        if self.blueprint.settings.max_memory_bytes is None:
            return None
        return "RLIMIT_DATA" if self._cgroup is None else "cgroup v2"

    @property
    def name(self) -> str:
        """The group's name."""
        return self.blueprint.settings.name

    @property
    def pids(self) -> dict[str, int]:
        """The helpers that are not reaped yet, by role."""
        return {helper.role: helper.pid for helper in self._helpers if helper.alive}

    # -- the start

    def start(self) -> None:
        """Start listener and template; raises `ConfigError` where a user cannot be used, `OSError` where exec fails."""
        b = self.blueprint
        service, worker_user = identity(None), identity(b.settings.user)
        self.user = worker_user.name
        listener_end, template_end = packets.pair()
        group, logs = to_json(b.settings), to_json(b.logging)
        if b.settings.max_memory_bytes is not None:
            if b.cgroup is not None:
                self._cgroup = cgroup.make_group(b.cgroup, self.name, worker_user.uid)
            log.info("max_memory in force: group=%s by=%s", self.name, self.max_memory_by)
        limited = None if self._cgroup is None else str(self._cgroup)
        try:
            template = self._spawn("template", worker_user, template_end)
            if self._cgroup is not None:
                cgroup.enter_template(self._cgroup, template.pid)  # it forks nothing before its first order
            template.send(orders.TemplateStart(group, logs, b.log_fd, b.plugin.entry_value, limited))
            listener = self._spawn("listener", service, listener_end)
            listener.send(orders.ListenerStart(group, to_json(b.amqp), b.results_ttl_s, logs, b.log_fd))
        finally:
            if not self._helpers:
                self._remove_cgroup()
            listener_end.close()
            template_end.close()

    def _spawn(self, role: str, who: Identity, peer: Link) -> Helper:
        helper = Helper(self._loop, role, who, peer, self.blueprint, self._obey, self._processes)
        self._helpers.append(helper)
        return helper

    # -- reports of the helpers

    def _obey(self, order: orders.Order) -> None:
        match order:
            case orders.Ready():
                self._ready()
            case orders.Failed(trace, serving):
                self.last_error = trace
                self._on_error(self, trace)
                if serving:
                    self._ready()
                elif self.life.state is GenerationState.STARTING:
                    self.drain(_END_S)
            case orders.Status(document):
                self.status = document
                waiters, self._status_waiters = self._status_waiters, []
                for waiter in waiters:
                    waiter()

    def _ready(self) -> None:
        if self.life.state is GenerationState.STARTING:
            self.life.move(GenerationState.READY)
            self.ready_at = time.monotonic()
            self._on_ready(self)

    def ask_status(self, done: Callable[[], None]) -> bool:
        """Ask the listener for a new `status`, then call `done`; False where no listener can be asked."""
        if not self._send_to_listener(orders.AskStatus()):
            return False
        self._status_waiters.append(done)
        return True

    def _send_to_listener(self, order: orders.Order) -> bool:
        return any(helper.send(order) for helper in self._helpers if helper.role == "listener" and helper.alive)

    # -- the end

    def drain(self, stop_timeout_s: float) -> None:
        """Finish what runs, hand back the rest, end. A workitem that runs longer than `stop_timeout_s` is requeued."""
        if not self.life.can(GenerationState.DRAINING):
            return
        self.life.move(GenerationState.DRAINING)
        self._asked_to_end = True
        self._send_to_listener(orders.Drain())
        self._timers.append(self._loop.call_later(stop_timeout_s, self.stop_now))

    def stop_now(self) -> None:
        """Kill the workers, requeue what they ran, end."""
        if self.life.can(GenerationState.DRAINING):
            self.life.move(GenerationState.DRAINING)
        self._asked_to_end = True
        self._send_to_listener(orders.StopNow())
        self._timers.append(self._loop.call_later(_END_S, self.kill))

    def kill(self) -> None:
        """SIGKILL to the helpers that are left. The broker requeues what was not settled."""
        for helper in self._helpers:
            if helper.alive:
                log.warning("%s does not end: group=%s pid=%d; killing it", helper.role, self.name, helper.pid)
                helper.kill()

    def abandon(self) -> None:
        """After an unexpected error: SIGKILL to the helpers, and act on nothing that they have sent. The generation is
        gone when the last of `pids` is reaped; where there is none, nothing more happens to it."""
        self._abandoned = True
        for helper in self._helpers:
            helper.kill()
        for timer in self._timers:
            timer.cancel()
        if self.life.can(GenerationState.ENDING):
            self.life.move(GenerationState.ENDING)
        for helper in self._helpers:
            with suppress(OSError):
                helper.close()
        if not self.pids:
            with suppress(OSError):  # the next pool removes it: `cgroup.claim`
                self._remove_cgroup()

    def reaped(self, pid: int, exit_code: int) -> None:
        """The pool has reaped one of `pids`."""
        helper = next(helper for helper in self._helpers if helper.pid == pid and helper.alive)
        helper.reaped(exit_code)
        if not self._abandoned:
            self._explain(helper, exit_code)
            if self.life.can(GenerationState.ENDING):
                self.life.move(GenerationState.ENDING)
                self._timers.append(self._loop.call_later(_END_S, self.kill))  # the other helper follows by itself
        if not self.pids:
            self._gone()

    def _explain(self, helper: Helper, exit_code: int) -> None:
        """Log an end that nobody asked for, unless another message tells why: with 0 the helper has followed the other
        one, whose own end is logged; with FAILED it has sent a traceback."""
        if self._asked_to_end or exit_code in {0, FAILED}:
            return
        text = kernel.exit_text(exit_code)
        log.error("%s died: group=%s pid=%d %s", helper.role, self.name, helper.pid, text)
        if self.last_error is None:
            self.last_error = f"{helper.role} died: {text}"

    def _gone(self) -> None:
        for timer in self._timers:
            timer.cancel()
        if not self._asked_to_end and not self._abandoned and self.last_error is None:
            self._obey(orders.Failed("its processes ended by themselves, with status 0"))
        self.life.move(GenerationState.GONE)
        self._remove_cgroup()
        self._on_gone(self)

    def _remove_cgroup(self) -> None:
        """Kill what its processes have left behind, and remove its cgroup."""
        if self._cgroup is not None:
            cgroup.kill(self._cgroup)
            if not cgroup.remove(self._cgroup):
                self._loop.call_later(_CGROUP_S, self._remove_cgroup)
