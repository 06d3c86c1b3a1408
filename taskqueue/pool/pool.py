"""The workerpool: reads config, finds plugins, keeps wanted and actual groups the same, reloads, stops.

1. `start`: the config has `[worker1] workers: 3`, and a plugin `worker1` is installed: the group `worker1` is made, and
   runs by its blueprint.
2. `reload`: config and plugins are read again. A new group is made; a changed one gets its new blueprint; one that is
   no longer wanted stops, and stays in `_ending` until its last process is gone. A fault in the config changes nothing.
3. A child dies: the group that it belongs to is called, and decides what follows.
4. `stop`: every group stops. When the last one has, `on_stopped` is called.

The pool runs as root only to switch users. It must never import a plugin, nor speak AMQP: its helpers do. What goes
wrong in one group must never end the pool: each call into a group is `contained`.
"""

from __future__ import annotations

import grp
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taskqueue import __version__, plugins
from taskqueue.config.load import Settings
from taskqueue.config.settings import LoggingSettings
from taskqueue.foundation.loop import Loop
from taskqueue.host import cgroup
from taskqueue.host.reload import reread
from taskqueue.host.spawn import SERVICE_USER
from taskqueue.plugins import Plugin
from taskqueue.pool.blueprint import Blueprint
from taskqueue.pool.children import Children
from taskqueue.pool.containment import contained
from taskqueue.pool.group import Group
from taskqueue.status.server import Answer, StatusSocket

log = logging.getLogger(__name__)

_STATUS_WAIT_S = 0.5
"""Seconds that `status` waits for the listeners: one that is stuck shows what it answered before."""


class Workerpool:
    """The supervisor of all groups on this host. `on_stopped()` is called when the last process is gone.

    `descriptor_limit`: see `Blueprint`. The other arguments are what the pool works with; they differ in tests only.
    """

    def __init__(
        self,
        loop: Loop,
        load: Callable[[], Settings],
        *,
        logs: Callable[[Settings], LoggingSettings],
        log_fd: int | None,
        on_stopped: Callable[[], None],
        descriptor_limit: int | None = None,
        list_plugins: Callable[[], Mapping[str, Plugin]] = plugins.installed,
        make_group: Callable[[Loop, Blueprint, Callable[[Group], None]], Group] = Group,
        children: Children | None = None,
        claim_cgroup: Callable[[], Path] = cgroup.claim,
    ) -> None:
        self._loop = loop
        self._load = load
        self._logs = logs
        self._log_fd = log_fd
        self._on_stopped = on_stopped
        self._descriptor_limit = descriptor_limit
        self._list_plugins = list_plugins
        self._make_group = make_group
        self._children = children or Children()
        self._claim_cgroup = claim_cgroup
        self._groups: dict[str, Group] = {}
        """The groups that are wanted, by name."""
        self._ending: list[Group] = []
        """The groups that stop."""
        self._due: dict[str, Blueprint] = {}
        """The blueprints that groups are to run by, and do not yet."""
        self._stopping = self._stopped = False
        self.stop_timeout_s = 0.0
        """Seconds from SIGTERM until what still runs is handed back, as the config had it last."""
        self._socket: StatusSocket | None = None
        self._started = time.time()
        self._cgroup: Path | None = None

    def start(self, socket_path: Path | None) -> None:
        """Start every group that is wanted; raises `ConfigError`, `DaemonError`."""
        self._children.adopt_orphans()
        self._loop.on_signal(signal.SIGCHLD, self._reap)
        refused: OSError | None = None
        try:
            self._cgroup = self._claim_cgroup()  # while this process is the only one in it
        except OSError as error:
            refused = error
        wanted, self.stop_timeout_s = self._wanted()
        if refused is not None and any(blueprint.settings.max_memory_bytes for blueprint in wanted.values()):
            log.info("no cgroup for max_memory: reason=%s", refused)
        if socket_path is not None:
            self._socket = StatusSocket(self._loop, socket_path, _service_group(), self._gather_status)
        if not wanted:
            log.info("no worker type to run yet: waiting for a plugin (entry points %s) and a reload", plugins.GROUP)
        self._reconcile(wanted)

    # -- wanted and actual

    def _wanted(self) -> tuple[dict[str, Blueprint], float]:
        """The blueprints by group name, and the stop timeout in seconds; raises `ConfigError`."""
        settings = self._load()
        installed = self._list_plugins()
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
                descriptor_limit=self._descriptor_limit,
            )
            for group in settings.groups(installed)
        }
        return wanted, settings.workerpool.stop_timeout_s

    def _reconcile(self, wanted: dict[str, Blueprint]) -> None:
        for name in sorted(self._groups.keys() - wanted.keys()):
            group = self._groups.pop(name)
            log.info("group no longer wanted: group=%s", name)
            self._end(group)
        for name, blueprint in wanted.items():
            if name not in self._groups:
                self._groups[name] = self._make_group(self._loop, blueprint, self._group_stopped)
        self._due = dict(wanted)
        self._run_next()

    def _run_next(self) -> None:
        """One group in each turn of the loop: many at once would keep signals and `status` waiting for seconds."""
        if self._due:
            name = next(iter(self._due))
            blueprint, group = self._due.pop(name), self._groups[name]
            with contained(group, "run by the config"):
                group.run_by(blueprint, self.stop_timeout_s)
            self._loop.call_soon(self._run_next)

    def reload(self) -> None:
        """SIGHUP: read config and plugins again, and replace what changed."""
        if self._stopping or (read := reread(self._wanted)) is None:
            return
        wanted, self.stop_timeout_s = read
        log.info("reloading: groups=%d", len(wanted))
        self._reconcile(wanted)

    # -- children

    def _reap(self) -> None:
        """SIGCHLD: tell each group which of its processes died, then kill the workers that a template left behind."""
        one_of_ours = False
        for pid, exit_code in self._children.reap():
            if (group := self._by_pid().get(pid)) is not None:
                one_of_ours = True
                with contained(group, f"end of process {pid}"):
                    group.reaped(pid, exit_code)
        if one_of_ours:
            self._children.kill_all_but(self._by_pid())

    def _by_pid(self) -> dict[int, Group]:
        """Each group by the pids of its listeners and templates."""
        return {pid: group for group in self._all_groups() for pid in group.pids}

    def _all_groups(self) -> list[Group]:
        return [*self._groups.values(), *self._ending]

    # -- the end

    def stop(self) -> None:
        """SIGTERM: finish what runs, up to `stop_timeout`. The second one stops at once."""
        if self._stopping:
            log.info("stopping at once")
            for group in self._all_groups():
                with contained(group, "stop at once"):
                    group.stop_now()
            return
        self._stopping = True
        log.info("stopping: groups=%d", len(self._groups))
        groups = list(self._groups.values())
        self._groups.clear()
        self._due.clear()
        for group in groups:
            self._end(group)
        self._loop.call_soon(self._maybe_stopped)

    def _end(self, group: Group) -> None:
        self._ending.append(group)
        with contained(group, "stop"):
            group.stop()

    def _group_stopped(self, group: Group) -> None:
        if group in self._ending:
            self._ending.remove(group)
        self._loop.call_soon(self._maybe_stopped)  # outside of the group's call: an error there is not the group's

    def _maybe_stopped(self) -> None:
        if self._stopping and not self._ending and not self._stopped:
            self._stopped = True
            self._children.kill_all_but(())
            if self._socket is not None:
                self._socket.close()
            self._on_stopped()

    # -- status

    def _gather_status(self, answer: Answer) -> None:
        """Answer with the whole document, as soon as each listener has given its part."""
        left = 0
        answered = False

        def one_less() -> None:
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
        for group in self._all_groups():
            with contained(group, "question for its status"):
                left += group.ask_status(one_less)
        if left == 0:
            finish()

    def status(self) -> dict[str, Any]:
        """The document of the status socket. A group that cannot describe itself is left out."""
        groups = []
        for group in self._all_groups():
            with contained(group, "status"):
                groups.append(group.status())
        return {
            "version": __version__,
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "since": self._started,
            "now": time.time(),
            "state": "stopping" if self._stopping else "running",
            "groups": groups,
        }


def _service_group() -> int | None:
    """The unix group that may read the status socket; None where it does not exist, or this process is not root."""
    if os.geteuid() != 0:
        return None
    try:
        return grp.getgrnam(SERVICE_USER).gr_gid
    except KeyError:
        return None
