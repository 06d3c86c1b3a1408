"""One group: it keeps the generation that is wanted running, replaces it without a gap, backs off when it fails.

How the group `worker1` is replaced after a reload that has changed `workers` from 1 to 3:

1. Generation A is `_current`: it serves with one worker. `run_by(blueprint)` brings the new blueprint.
2. The group starts generation B by it. B is `_upcoming`: it imports the plugin while A serves on.
3. B is ready. From now on B is `_current`; A is drained, and `_retiring` until its last process is reaped.
4. Where B fails instead, A serves on. B is tried again after one second, then two, and so on up to a minute.

A group whose current generation dies starts another: at once if that one had served for ten seconds, otherwise after
the same backoff. `broke` is for errors that nobody expected: every generation is killed, and the group backs off.

This module must never touch another group: whatever happens here, the others do not notice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from taskqueue.errors import ConfigError
from taskqueue.foundation.backoff import Backoff
from taskqueue.foundation.contained_loop import Callback, ContainedLoop, EventLoop, name_of
from taskqueue.foundation.lifecycle import Lifecycle
from taskqueue.foundation.loop import Timer
from taskqueue.pool.blueprint import Blueprint
from taskqueue.pool.containment import end_in
from taskqueue.pool.generation import Generation
from taskqueue.pool.states import GROUP_MOVES, GroupState

log = logging.getLogger(__name__)

_BACKOFF = (1.0, 60.0)
"""Seconds: the first and the longest wait before a failed group is tried again."""
_STEADY_S = 10.0
"""Seconds of service after which a generation that dies is replaced at once: its plugin can start."""


class Group:
    """The workers of one type, or one named instance of it. `run_by` starts it; `on_stopped(group)` is called once the
    last process is gone after `stop`. `make_generation` takes what `Generation` takes."""

    def __init__(
        self,
        loop: EventLoop,
        blueprint: Blueprint,
        on_stopped: Callable[[Group], None],
        make_generation: Callable[..., Generation] = Generation,
    ) -> None:
        self.life = Lifecycle(GroupState.STARTING, GROUP_MOVES)
        self.blueprint = blueprint
        self.stop_timeout_s = 0.0
        """Seconds that a workitem may run on while its generation is drained."""
        self.since = time.time()
        """When it came into its state, in Unix time."""
        self.restarts = 0
        """How often its processes were started again because they died or could not start."""
        self.last_error: str | None = None
        self._last_trace: str | None = None
        self._loop = ContainedLoop(loop, self._caught)
        self._on_stopped = on_stopped
        self._make_generation = make_generation
        self._begun = False
        self._current: Generation | None = None
        self._upcoming: Generation | None = None
        self._retiring: list[Generation] = []
        self._backoff = Backoff(*_BACKOFF)
        self._retry: Timer | None = None
        self._retry_at: float | None = None

    @property
    def name(self) -> str:
        """`worker1`, or `worker2/bifh1`."""
        return self.blueprint.settings.name

    @property
    def generations(self) -> list[Generation]:
        """Those that still have processes, the newest last."""
        return [*self._retiring, *filter(None, (self._current, self._upcoming))]

    @property
    def pids(self) -> set[int]:
        """All its helpers that are not reaped yet."""
        return {pid for generation in self.generations for pid in generation.pids.values()}

    # -- orders of the pool

    def run_by(self, blueprint: Blueprint, stop_timeout_s: float) -> None:
        """Run by `blueprint` from now on; a generation that another blueprint made is replaced without a gap."""
        self.stop_timeout_s = stop_timeout_s
        if self._begun:
            if blueprint == self.blueprint and self.life.state is not GroupState.REFUSED:
                return
            log.info("group changed, to be replaced: group=%s", self.name)
        self._begun = True
        self.blueprint = blueprint
        self._backoff.reset()
        if self._upcoming is not None:
            self._retire(self._upcoming)
            self._upcoming = None
        self._start()

    def stop(self) -> None:
        """Finish what runs, up to the stop timeout, then end."""
        if not self.life.can(GroupState.STOPPING):
            return
        self._cancel_retry()
        self._move(GroupState.STOPPING)
        for generation in list(self.generations):
            generation.drain(self.stop_timeout_s)
        self._maybe_stopped()

    def stop_now(self) -> None:
        """Do not wait for what runs: requeue it and end."""
        for generation in list(self.generations):
            generation.stop_now()

    def reaped(self, pid: int, exit_code: int) -> None:
        """The pool has reaped one of `pids`."""
        next(each for each in self.generations if pid in each.pids.values()).reaped(pid, exit_code)

    def ask_status(self, done: Callable[[], None]) -> int:
        """Ask each listener for its part of `status`, and call `done` for each that answers; how many were asked."""
        return sum(generation.ask_status(done) for generation in self.generations)

    def broke(self, why: str) -> None:
        """After an error that nobody expected, `why`: kill every generation, and start anew after the backoff."""
        self._retiring = self.generations
        self._current = self._upcoming = None
        if self.life.can(GroupState.STOPPING):
            self.restarts += 1
            self.last_error = why
            self._back_off()
        for generation in self._retiring:
            generation.abandon()
        self._retiring = [generation for generation in self._retiring if generation.pids]
        self._maybe_stopped()

    # -- reports of the generations

    def _ready(self, generation: Generation) -> None:
        if generation is not self._upcoming:
            return
        self._upcoming = None
        if self._current is not None:
            self._retire(self._current)
        self._current = generation
        self.last_error = None
        if self.life.state is not GroupState.RUNNING:
            self._move(GroupState.RUNNING)
        log.info(
            "group running: group=%s workers=%d user=%s plugin=%s-%s",
            self.name, self.blueprint.settings.workers, generation.user,
            self.blueprint.plugin.distribution, self.blueprint.plugin.version,
        )  # fmt: skip

    def _error(self, generation: Generation, trace: str) -> None:
        """Log what a plugin's author needs, once for as long as it stays the same."""
        if trace == self._last_trace:
            log.error("group failed again: group=%s error=%s", self.name, trace.rstrip().rpartition("\n")[2])
        else:
            log.error("group failed: group=%s\n%s", self.name, trace.rstrip())
        self._last_trace = trace

    def _gone(self, generation: Generation) -> None:
        if generation in self._retiring:
            self._retiring.remove(generation)
        elif generation in (self._current, self._upcoming):
            self._failed(generation)
        self._maybe_stopped()

    def _failed(self, generation: Generation) -> None:
        was_current = generation is self._current
        if was_current:
            self._current = None
        else:
            self._upcoming = None
        if self.life.state is GroupState.STOPPING:
            return
        self.restarts += 1
        self.last_error = generation.last_error
        if was_current and self._upcoming is not None:
            self._move(GroupState.STARTING)
            return  # a replacement is on its way already
        served_s = time.monotonic() - (generation.ready_at or time.monotonic())
        if served_s >= _STEADY_S:
            self._backoff.reset()
            self._start()
        else:
            self._back_off()

    # -- starting and waiting

    def _caught(self, error: Exception, callback: Callback) -> None:
        """An error in a callback of the loop that this group, or a generation of it, has registered."""
        end_in(self, name_of(callback), error)

    def _start(self) -> None:
        """Start a generation of the blueprint; it takes over from the one that serves once it is ready."""
        self._cancel_retry()
        if self._current is None and self.life.state is not GroupState.STARTING:
            self._move(GroupState.STARTING)
        upcoming = self._make_generation(
            self._loop, self.blueprint, on_ready=self._ready, on_gone=self._gone, on_error=self._error
        )
        self._upcoming = upcoming
        try:
            upcoming.start()
        except ConfigError as error:
            self._upcoming = None
            self._refuse(str(error))
        except OSError as error:
            # One of its helpers may run: the generation is gone when that one is reaped, or now.
            upcoming.last_error = f"cannot start processes: {error.strerror}: {error.filename or ''}"
            log.exception("group cannot start: group=%s", self.name)
            upcoming.kill()
            if not upcoming.pids:
                self._gone(upcoming)

    def _back_off(self) -> None:
        """Start a generation later."""
        self._cancel_retry()
        wait_s = self._backoff.next_s()
        self._retry = self._loop.call_later(wait_s, self._start)
        self._retry_at = time.time() + wait_s
        log.warning("group backs off: group=%s next_try_in=%.1fs", self.name, wait_s)
        if self._current is None and self.life.state is not GroupState.BACKOFF:
            self._move(GroupState.BACKOFF)

    def _refuse(self, why: str) -> None:
        log.error("group not started: group=%s reason=%s", self.name, why)
        self.last_error = why
        if self._current is None:
            self._move(GroupState.REFUSED)

    def _retire(self, generation: Generation) -> None:
        self._retiring.append(generation)
        generation.drain(self.stop_timeout_s)

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._retry, self._retry_at = None, None

    def _maybe_stopped(self) -> None:
        if self.life.state is GroupState.STOPPING and not self.generations:
            self._move(GroupState.STOPPED)
            self._on_stopped(self)

    def _move(self, to: GroupState) -> None:
        self.life.move(to)
        self.since = time.time()

    def status(self) -> dict[str, Any]:
        """The group's part of the status document."""
        settings, plugin = self.blueprint.settings, self.blueprint.plugin
        return {
            "name": self.name,
            "worker_type": settings.worker_type,
            "instance": settings.instance,
            "state": self.life.state.value,
            "since": self.since,
            "workers_wanted": settings.workers,
            "user": settings.user,
            "plugin": {"distribution": plugin.distribution, "version": plugin.version, "entry": plugin.entry_value},
            "restarts": self.restarts + sum(g.status.get("counts", {}).get("restarts", 0) for g in self.generations),
            "last_error": self.last_error or next((g.last_error for g in self.generations if g.last_error), None),
            "next_try_at": self._retry_at,
            "generations": [
                {
                    "state": generation.life.state.value,
                    "since": generation.started,
                    "pids": generation.pids,
                    "max_memory_by": generation.max_memory_by,
                    **generation.status,
                }
                for generation in self.generations
            ],
        }
