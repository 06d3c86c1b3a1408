"""The workerpool: reads config, finds plugins, keeps wanted and actual groups the same, reloads, stops.

It runs as root only to switch users. It must never import a plugin, nor speak AMQP: it starts others that do.
"""

from __future__ import annotations

import grp
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskqueue import __version__, plugins
from taskqueue.config.load import Settings
from taskqueue.config.settings import LoggingSettings
from taskqueue.errors import ConfigError
from taskqueue.foundation.loop import Loop
from taskqueue.host import cgroup, kernel
from taskqueue.host.spawn import SERVICE_USER
from taskqueue.host.title import set_title
from taskqueue.pool.generation import Blueprint
from taskqueue.pool.group import Group
from taskqueue.status.server import Answer, StatusSocket

log = logging.getLogger(__name__)

_STATUS_WAIT_S = 0.5


class Workerpool:
    """The supervisor of all groups on this host. `on_stopped()` is called when the last process is gone."""

    def __init__(
        self,
        loop: Loop,
        load: Callable[[], Settings],
        *,
        logs: Callable[[Settings], LoggingSettings],
        log_fd: int | None,
        on_stopped: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._load = load
        self._logs = logs
        self._log_fd = log_fd
        self._on_stopped = on_stopped
        self._groups: dict[str, Group] = {}
        self._ending: list[Group] = []
        self._due: dict[str, Blueprint] = {}
        """What groups are to be run by, and are not yet."""
        self._stopping = False
        self.stop_timeout_s = 0.0
        """Seconds from SIGTERM until what still runs is handed back, as the config said last."""
        self._socket: StatusSocket | None = None
        self._started = time.time()
        self._cgroup: Path | None = None

    def start(self, socket_path: Path | None) -> None:
        """Start every group that is wanted; raises `ConfigError`, `DaemonError`."""
        set_title("workerpool")
        kernel.adopt_orphans()
        self._loop.on_signal(signal.SIGCHLD, self._reap)
        refused: OSError | None = None
        try:
            self._cgroup = cgroup.claim()  # before there is any other process of ours in it
        except OSError as error:
            refused = error
        wanted, self.stop_timeout_s = self._wanted()
        if refused is not None and any(blueprint.settings.max_memory_bytes for blueprint in wanted.values()):
            log.info("no cgroup for max_memory: reason=%s", refused)
        if socket_path is not None:
            self._socket = StatusSocket(self._loop, socket_path, _service_group(), self._ask)
        if not wanted:
            log.info("no worker type to run yet: waiting for a plugin (entry points %s) and a reload", plugins.GROUP)
        self._reconcile(wanted)

    # -- wanted and actual

    def _wanted(self) -> tuple[dict[str, Blueprint], float]:
        """What is to run, by group name, and the stop timeout in seconds; raises `ConfigError`."""
        settings = self._load()
        installed = plugins.installed()
        for warning in settings.warnings:
            log.warning("%s", warning)
        wanted = {
            group.name: Blueprint(
                settings=group,
                plugin=installed[group.worker_type],
                amqp=settings.amqp,
                results_ttl_s=settings.workerpool.results_ttl_s,
                logging=self._logs(settings),
                log_fd=self._log_fd,
                cgroup=self._cgroup,
            )
            for group in settings.groups(installed)
        }
        return wanted, settings.workerpool.stop_timeout_s

    def _reconcile(self, wanted: dict[str, Blueprint]) -> None:
        for name in sorted(self._groups.keys() - wanted.keys()):
            group = self._groups.pop(name)
            log.info("group no longer wanted: group=%s", name)
            self._ending.append(group)
            group.stop()
        for name, blueprint in wanted.items():
            if name not in self._groups:
                self._groups[name] = Group(self._loop, blueprint, self.stop_timeout_s, self._group_stopped)
        self._due = dict(wanted)
        self._run_next()

    def _run_next(self) -> None:
        """One group in each turn of the loop: many at once would keep signals and `status` waiting for seconds."""
        if self._due:
            name = next(iter(self._due))
            self._groups[name].run(self._due.pop(name), self.stop_timeout_s)
            self._loop.call_soon(self._run_next)

    def reload(self) -> None:
        """Read config and plugins anew and replace what changed; a fault in the config changes nothing."""
        if self._stopping:
            return
        try:
            wanted, self.stop_timeout_s = self._wanted()
        except ConfigError as error:
            for fault in error.faults:
                log.error("%s", fault)
            log.error("not reloaded: the config has %d faults; nothing was changed", len(error.faults))
            return
        log.info("reloading: groups=%d", len(wanted))
        self._reconcile(wanted)

    # -- children

    def _reap(self) -> None:
        for pid, exit_code in kernel.reap():
            known = any(
                generation.reaped(pid, exit_code) for group in self._all_groups() for generation in group.generations
            )
            if known:
                self._end_orphans()

    def _all_groups(self) -> list[Group]:
        return [*self._groups.values(), *self._ending]

    def _end_orphans(self) -> None:
        """What a dead template's workers left behind became ours: kill it. It is reaped with the next SIGCHLD."""
        ours = {pid for group in self._all_groups() for gen in group.generations for pid in gen.pids.values()}
        for pid in kernel.children(os.getpid()) - ours:
            log.warning("orphan killed: pid=%d", pid)
            kernel.kill(pid)

    # -- the end

    def stop(self) -> None:
        """SIGTERM: finish what runs, up to `stop_timeout`. The second one stops at once."""
        if self._stopping:
            log.info("stopping at once")
            for group in self._all_groups():
                group.stop_now()
            return
        self._stopping = True
        log.info("stopping: groups=%d", len(self._groups))
        groups = list(self._groups.values())
        self._ending.extend(groups)
        self._groups.clear()
        self._due.clear()
        for group in groups:
            group.stop()
        self._maybe_stopped()

    def _group_stopped(self, group: Group) -> None:
        if group in self._ending:
            self._ending.remove(group)
        self._maybe_stopped()

    def _maybe_stopped(self) -> None:
        if self._stopping and not self._ending and not self._groups:
            self._end_orphans()
            if self._socket is not None:
                self._socket.close()
            self._on_stopped()

    # -- status

    def _ask(self, answer: Answer) -> None:
        """Answer with the whole picture, as soon as each listener has said what its workers do."""
        left = 0
        answered = False

        def one_more() -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                finish()

        def finish() -> None:
            nonlocal answered
            if not answered:
                answered = True
                timer.cancel()
                answer(self.status())

        timer = self._loop.call_later(_STATUS_WAIT_S, finish)
        generations = [generation for group in self._all_groups() for generation in group.generations]
        left = sum(generation.ask_status(one_more) for generation in generations)
        if left == 0:
            finish()

    def status(self) -> dict[str, Any]:
        """The document of the status socket."""
        return {
            "version": __version__,
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "since": self._started,
            "now": time.time(),
            "state": "stopping" if self._stopping else "running",
            "groups": [group.status() for group in self._all_groups()],
        }


def _service_group() -> int | None:
    """The group that may read the status socket; None where it does not exist, or we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        return grp.getgrnam(SERVICE_USER).gr_gid
    except KeyError:
        return None
