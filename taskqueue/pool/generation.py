"""One generation of a group's processes: a listener, a template and its workers, from start to the last one reaped.

Both helpers end by themselves when the other, or the pool, is gone; this module starts them, hears what they say,
asks them to drain, and kills what does not end in time. It must never decide whether a generation is wanted.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from taskqueue.config.settings import AmqpSettings, GroupSettings, LoggingSettings, to_json
from taskqueue.errors import LinkError
from taskqueue.foundation.lifecycle import Lifecycle
from taskqueue.foundation.loop import Loop, Timer
from taskqueue.host import cgroup, kernel
from taskqueue.host.output import Allowance, Output
from taskqueue.host.spawn import Identity, identity, spawn
from taskqueue.link import orders, packets
from taskqueue.link.exits import FAILED
from taskqueue.link.packets import Link
from taskqueue.plugins import Plugin
from taskqueue.pool.states import GENERATION_MOVES, GenerationState

log = logging.getLogger(__name__)

_END_S = 5.0
"""What must end by itself is killed after so long."""


_MODULES = {"listener": "taskqueue.listener", "template": "taskqueue.worker.template"}
"""The program of each helper, for `python -m`."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """All that makes one generation differ from another: equal blueprints need no replacement."""

    settings: GroupSettings
    plugin: Plugin
    amqp: AmqpSettings
    results_ttl_s: float
    logging: LoggingSettings
    log_fd: int | None
    cgroup: Path | None
    """The pool's own, with the memory controller for others below it; None where the host gives us none."""


class _Helper:
    """A listener or a template: its process, our link to it, its output."""

    def __init__(
        self, role: str, process: subprocess.Popen[bytes], ours: Link, output: Output, allowance: Allowance
    ) -> None:
        self.role = role
        self.process = process
        self.link = ours
        self.output = output
        self.allowance = allowance
        self.alive = True


class Generation:
    """`on_ready`, `on_gone` and `on_error` (with a traceback) are called in the loop."""

    def __init__(
        self,
        loop: Loop,
        blueprint: Blueprint,
        *,
        on_ready: Callable[[Generation], None],
        on_gone: Callable[[Generation], None],
        on_error: Callable[[Generation, str], None],
    ) -> None:
        self.blueprint = blueprint
        self.life = Lifecycle(GenerationState.STARTING, GENERATION_MOVES)
        self.started = time.time()
        self.user = ""
        """The unix user of its workers, once it is started."""
        self.ready_at: float | None = None
        """Monotonic."""
        self.last_error: str | None = None
        self.status: dict[str, Any] = {}
        self._loop = loop
        self._on_ready, self._on_gone, self._on_error = on_ready, on_gone, on_error
        self._helpers: list[_Helper] = []
        self._timers: list[Timer] = []
        self._status_waiters: list[Callable[[], None]] = []
        self._told_to_end = False
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
        """The helpers that live, by role."""
        return {helper.role: helper.process.pid for helper in self._helpers if helper.alive}

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
            self._start(
                "template", worker_user, template_end,
                orders.TemplateStart(group, logs, b.log_fd, b.plugin.entry_value, limited),
            )  # fmt: skip
            self._start(
                "listener", service, listener_end,
                orders.ListenerStart(group, to_json(b.amqp), b.results_ttl_s, logs, b.log_fd),
            )  # fmt: skip
        finally:
            if not self._helpers:
                self._remove_cgroup()
            listener_end.close()
            template_end.close()

    def _start(self, role: str, who: Identity, peer: Link, start: orders.Order) -> None:
        ours, theirs = packets.pair()
        try:
            process = spawn(_MODULES[role], [theirs.fileno(), peer.fileno()], who, self.blueprint.log_fd)
        finally:
            theirs.close()
        if role == "template" and self._cgroup is not None:
            cgroup.enter_template(self._cgroup, process.pid)  # it waits for the settings, before it forks
        assert process.stdout is not None
        pipe = os.dup(process.stdout.fileno())
        process.stdout.close()
        line = partial(self._log_line, role, process.pid)
        allowance = Allowance(self._loop, line)
        helper = _Helper(role, process, ours, Output(self._loop, pipe, line, allowance), allowance)
        self._helpers.append(helper)
        self._loop.add_handler(ours.fileno(), partial(self._on_order, helper), self._loop.READ)
        self._tell(helper, start)  # one that has died already is reaped as one that died later

    def _log_line(self, role: str, pid: int, line: str) -> None:
        log.info("%s output: group=%s pid=%d: %s", role, self.name, pid, line)

    # -- what helpers say

    def _on_order(self, helper: _Helper, fd: int, events: int) -> None:
        try:
            while (received := orders.receive(helper.link)) is not None:
                self._obey(received.order)
        except EOFError:
            self._loop.remove_handler(fd)  # its death comes by SIGCHLD
        except LinkError as error:
            log.error(
                "%s broke the protocol: group=%s pid=%d error=%s", helper.role, self.name, helper.process.pid, error
            )
            self._loop.remove_handler(fd)
            kernel.kill(helper.process.pid)

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
        """Have the listener say what its workers do, then call `done`; False where there is none to ask."""
        listener = next((helper for helper in self._helpers if helper.role == "listener" and helper.alive), None)
        if listener is None or not self._tell(listener, orders.AskStatus()):
            return False
        self._status_waiters.append(done)
        return True

    def _tell(self, helper: _Helper, order: orders.Order) -> bool:
        try:
            return orders.send(helper.link, order)
        except LinkError:
            return False

    # -- the end

    def drain(self, stop_timeout_s: float) -> None:
        """Finish what runs, hand back the rest, end; what runs longer than `stop_timeout_s` is requeued."""
        if not self.life.can(GenerationState.DRAINING):
            return
        self.life.move(GenerationState.DRAINING)
        self._told_to_end = True
        self._tell_listener(orders.Drain())
        self._timers.append(self._loop.call_later(stop_timeout_s, self.stop_now))

    def stop_now(self) -> None:
        """Kill the workers, requeue what they ran, end."""
        if self.life.can(GenerationState.DRAINING):
            self.life.move(GenerationState.DRAINING)
        self._told_to_end = True
        self._tell_listener(orders.StopNow())
        self._timers.append(self._loop.call_later(_END_S, self.kill))

    def kill(self) -> None:
        """SIGKILL to all that is left; what was not settled goes back to the broker by itself."""
        for helper in self._helpers:
            if helper.alive:
                log.warning("%s does not end: group=%s pid=%d; killing it", helper.role, self.name, helper.process.pid)
                kernel.kill(helper.process.pid, signal.SIGKILL)

    def _tell_listener(self, order: orders.Order) -> None:
        for helper in self._helpers:
            if helper.role == "listener" and helper.alive:
                self._tell(helper, order)

    def reaped(self, pid: int, exit_code: int) -> bool:
        """A child of the pool died; whether it was one of ours."""
        helper = next((helper for helper in self._helpers if helper.process.pid == pid), None)
        if helper is None or not helper.alive:
            return False
        helper.process.returncode = exit_code
        helper.alive = False
        self._on_order(helper, helper.link.fileno(), 0)
        self._loop.remove_handler(helper.link.fileno())
        helper.link.close()
        helper.output.close()
        helper.allowance.end()
        # With 0 it has followed the other one, whose own end tells why; with FAILED it has sent a traceback.
        if not self._told_to_end and exit_code not in {0, FAILED}:
            text = kernel.exit_text(exit_code)
            log.error("%s died: group=%s pid=%d %s", helper.role, self.name, pid, text)
            if self.last_error is None:
                self.last_error = f"{helper.role} died: {text}"
        if self.life.can(GenerationState.ENDING):
            self.life.move(GenerationState.ENDING)
            self._timers.append(self._loop.call_later(_END_S, self.kill))  # the other one follows by itself
        if not any(other.alive for other in self._helpers):
            for timer in self._timers:
                timer.cancel()
            if not self._told_to_end and self.last_error is None:
                self._obey(orders.Failed("its processes ended by themselves, with status 0"))
            self.life.move(GenerationState.GONE)
            self._remove_cgroup()
            self._on_gone(self)
        return True

    def _remove_cgroup(self) -> None:
        """What its processes have left behind dies, and it goes."""
        if self._cgroup is not None:
            cgroup.kill(self._cgroup)
            if not cgroup.remove(self._cgroup):
                self._loop.call_later(0.1, self._remove_cgroup)
