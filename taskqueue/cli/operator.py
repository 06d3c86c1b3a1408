"""The context of one run of `taskqueue`: config, output, broker, pool, each made when a command asks."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from taskqueue import plugins
from taskqueue.cli.terminal.interrupts import Interrupts
from taskqueue.cli.terminal.show import Show
from taskqueue.cli.terminal.text import safe
from taskqueue.config.http_settings import HttpSettings
from taskqueue.config.load import CREDENTIAL, CREDENTIALS_VARIABLE, DEFAULT_PATH, Settings, load
from taskqueue.config.settings import AmqpSettings
from taskqueue.operations.broker import Broker
from taskqueue.operations.front import TOKEN_VARIABLE, Front
from taskqueue.operations.management import Management
from taskqueue.protocol import queues
from taskqueue.status import document

FRONT_VARIABLE = "TASKQUEUE_HTTP_URL"
"""Where the front is."""
_CREDENTIALS = [Path("/run/credentials", f"python-taskqueue-{role}.service") for role in ("dispatcher", "workerpool")]
"""Where systemd keeps the credentials of a unit that runs (systemd.exec(5), CREDENTIALS_DIRECTORY)."""


@dataclass
class Operator:
    """One run of the command. Options may stand before the subcommand or behind it; the last one counts."""

    config_path: Path | None = None
    show: Show = field(default_factory=Show)
    interrupts: Interrupts = field(default_factory=Interrupts)
    """Ctrl-C, while a connection to the broker is open."""

    @cached_property
    def settings(self) -> Settings:
        """The settings; raises `ConfigError`. A file named by `-c` must exist, the default one need not."""
        return self.load()

    @cached_property
    def host_settings(self) -> Settings:
        """`settings`, checked as the workerpool does: against the plugins that are installed on this host."""
        return self.load(installed=self.plugins)

    def load(self, **keywords: Any) -> Settings:
        """Read the config anew; `keywords` are those of `config.load`."""
        path = str(self.config_path or DEFAULT_PATH)
        return load(path, **{"must_exist": self.config_path is not None, "environ": _environ(), **keywords})

    @cached_property
    def plugins(self) -> dict[str, plugins.Plugin]:
        """The plugins that are installed, by worker type; none of them is imported."""
        return plugins.installed()

    def results_of(self, worker_type: str | None = None) -> list[str]:
        """The queues that results go to: of all groups here, or of one worker type, whether it is installed or not."""
        types = self.plugins.keys() if worker_type is None else {*self.plugins, worker_type}
        groups = self.settings.groups(types)
        named = {each.results_routing_key for each in groups if worker_type in (None, each.worker_type)}
        return sorted(named) or [queues.RESULTS]

    def worker_types(self, seen: document.Pool | None = None) -> set[str]:
        """The worker types that are known here: of plugins that are installed, and of groups of the pool."""
        return {*self.plugins, *(group.worker_type for group in (seen.groups if seen else ()))}

    def broker(self, amqp: AmqpSettings | None = None, **keywords: Any) -> Broker:
        """A connection to the broker of `amqp`, by default the config's, for a `with`. `keywords`: of `Broker`."""
        return Broker(
            amqp or self.settings.amqp, **{"trouble": self.show.note, "interrupts": self.interrupts, **keywords}
        )

    def management(self, broker: Broker, amqp: AmqpSettings | None = None) -> Management:
        """The management API of the broker that `broker` is connected to; it may be absent."""
        return Management(amqp or self.settings.amqp, broker.server.host, broker.server.cluster_name)

    def front(self, url: str | None = None, *, wait_s: float = 30.0) -> Front:
        """The front at `url`, by default TASKQUEUE_HTTP_URL's or this host's own, with the token of the environment."""
        named = url or os.environ.get(FRONT_VARIABLE)
        return self.own_front(wait_s=wait_s) if named is None else Front(named, _token(), wait_s=wait_s)

    @property
    def front_is_named(self) -> bool:
        """Whether the environment names a front."""
        return bool(os.environ.get(FRONT_VARIABLE))

    def own_front(self, *, wait_s: float = 30.0) -> Front:
        """This host's own front, where [http] says that it listens."""
        return self.front_of(self.settings.http, wait_s=wait_s)

    def front_of(self, http: HttpSettings, *, wait_s: float) -> Front:
        """The front of this host with the settings `http`."""
        return Front(own_address(http), _token(), root=http.base_path, certificate=http.tls_cert, wait_s=wait_s)

    def pool(self, socket: Path | None = None) -> document.Pool:
        """The status document of this host's workerpool; raises `PoolUnavailable`."""
        return document.read(socket or document.SOCKET)

    def confirm(self, question: str) -> None:
        """Have a person say yes, or end the command."""
        self.interrupts.at_once = True
        click.confirm(safe(question), abort=True, err=True)
        self.interrupts.at_once = False


def own_address(http: HttpSettings) -> str:
    """The address of this host's front: a unix socket, which needs no token, where there is one that we may use."""
    sockets = [each for each in http.listen if each.startswith("unix:")]
    usable = [each for each in sockets if os.access(each.removeprefix("unix:"), os.W_OK)]
    first = [*usable, *(each for each in http.listen if each not in sockets), *sockets][0]
    if first.startswith("unix:"):
        return first
    host, _, port = first.rpartition(":")
    if host in {"", "0.0.0.0", "*"}:
        host = "127.0.0.1"
    elif host in {"::", "[::]"}:
        host = "[::1]"
    return f"{'https' if http.tls_cert else 'http'}://{host}:{port}"


def _token() -> str | None:
    return os.environ.get(TOKEN_VARIABLE) or None


def _environ() -> dict[str, str]:
    """The environment of this process, and the credentials directory of a service that runs here, where this user may
    read it: systemd names that directory to the unit alone."""
    environ = dict(os.environ)
    given = (str(each) for each in _CREDENTIALS if os.access(each / CREDENTIAL, os.R_OK))
    if (directory := next(given, None)) is not None:
        environ.setdefault(CREDENTIALS_VARIABLE, directory)
    return environ
