"""A private RabbitMQ node: own name, ports, cookie, epmd, data, logs, all on loopback. For `taskqueue dev` and tests.

A broker that already runs on the host is neither used nor disturbed. Nothing outlives whoever started the node: epmd
and the node are children of a guard process (`broker_guard`).

Standard library only: tests use it where taskqueue is not installed.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from taskqueue.cli.trial import broker_guard
from taskqueue.cli.trial.broker_guard import MARKER, SCRIPTS, STOP_TIMEOUT_S, BrokerError, stop_directory

LOOPBACK = "127.0.0.1"

START_TIMEOUT_S = 90.0
"""Seconds from the start until the node must answer; then the start has failed."""
POLL_S = 0.05
"""Seconds between two tries to connect to a node that starts."""


class PrivateBroker:
    """A RabbitMQ node whose files are all in `directory`; made anew at the first `start`.

    `stop` keeps ports and data, so that durable queues are there again after the next `start`.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).absolute()
        self.port, self._dist_port, self._epmd_port = free_ports(3)
        self.address = LOOPBACK
        self.config = ""
        """More lines of rabbitmq.conf."""
        self.node = f"taskqueue-{secrets.token_hex(4)}@localhost"
        self._plugins: Sequence[str] = ()
        self._cookie = secrets.token_hex(16)
        self._shares_epmd = False
        self._inside: list[str] = []
        """A command that starts its processes, such as `ip netns exec NAME`; empty for none."""
        self._guard: subprocess.Popen[str] | None = None
        self._pid: int | None = None
        self._prepared = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- the node's life

    @property
    def pid(self) -> int:
        """Process id of the running node (the Erlang VM). Raises `BrokerError` when it does not run."""
        if self._pid is None or not self.running:
            raise BrokerError(f"broker is not running: node={self.node}")
        return self._pid

    @property
    def running(self) -> bool:
        """Whether the node's processes are alive."""
        return self._guard is not None and self._guard.poll() is None

    def start(self) -> None:
        """Start the node and return once it answers AMQP: 3 to 5 s the first time. Raises `BrokerError`."""
        if self.running:
            return
        stop_directory(self.directory)
        if not self._prepared:
            self._prepare()
            self._prepared = True
        try:
            with (self.directory / "output.log").open("ab") as output:
                self._guard = subprocess.Popen(
                    [*self._inside, sys.executable, "-I", "-S", broker_guard.__file__, *self._epmd()],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    text=True,
                    env=self._environment(),
                    cwd=self.directory,
                    start_new_session=True,
                )
            assert self._guard.stdout is not None
            pid = self._guard.stdout.readline()
            if not pid:
                raise BrokerError(f"broker did not start:\n{self.last_words()}")
            self._pid = int(pid)
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self, *, graceful: bool = False) -> None:
        """Stop the node; no process and no socket of it is left. Harmless when it does not run.

        With `graceful` it closes its connections and queues in order (1 to 2 s); without, it is killed: confirmed
        messages are safe in either case.
        """
        guard, pid = self._guard, self._pid
        if guard is not None:
            assert guard.stdin is not None and guard.stdout is not None
            if graceful and pid is not None and guard.poll() is None:
                os.kill(pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    guard.wait(STOP_TIMEOUT_S)
            guard.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                guard.wait(STOP_TIMEOUT_S)
            guard.stdout.close()
        stop_directory(self.directory)
        if guard is not None:
            guard.wait()
        self._guard = self._pid = None

    def wait(self) -> None:
        """Return when the node has ended by itself (or was killed by someone else)."""
        if self._guard is not None:
            self._guard.wait()

    def last_words(self, lines: int = 30) -> str:
        """The end of what the node wrote to its log and to its output."""
        logs = [*sorted((self.directory / "log").glob("*.log")), self.directory / "output.log"]
        tails = (log.read_text(errors="replace").splitlines()[-lines:] for log in logs if log.exists())
        return "\n".join(line for tail in tails for line in tail)

    # -- what is asked of it

    def url(self, vhost: str = "/", user: str = "guest", password: str = "guest") -> str:
        """An AMQP URL of this node."""
        who = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"amqp://{who}@{self.address}:{self.port}/{quote(vhost, safe='')}"

    # -- inside

    def _prepare(self) -> None:
        """Lay out an empty node: only what it needs to find none of the host's files."""
        if not (SCRIPTS / "rabbitmq-server").exists():
            raise BrokerError("rabbitmq-server is not installed: apt-get install rabbitmq-server")
        for name in ("data", "home", "log"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
            (self.directory / name).mkdir(parents=True)
        cookie = self.directory / "home" / ".erlang.cookie"
        cookie.touch(0o600)
        cookie.write_text(self._cookie)
        (self.directory / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        (self.directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {self.address}:{self.port}\n"
            "log.console = false\n"
            # a nearly full disk would block every publish
            "disk_free_limit.absolute = 1MB\n" + self.config
        )

    def _epmd(self) -> list[str]:
        """The epmd that goes with the node, as its command; empty where the node shares one that runs already."""
        port = str(self._epmd_port)
        return [] if self._shares_epmd else ["epmd", "-address", self.address, "-port", port]

    def _environment(self) -> dict[str, str]:
        """All that the node and its tools see: nothing of the caller's, nothing of /etc/rabbitmq."""
        data, home, log = (self.directory / name for name in ("data", "home", "log"))
        interface = "-kernel inet_dist_use_interface {" + self.address.replace(".", ",") + "}"
        return {
            MARKER: f"{self.directory}/",
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "ERL_EPMD_ADDRESS": self.address,
            "ERL_EPMD_PORT": str(self._epmd_port),
            # makes the script become the VM instead of waiting for it
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_USE_LONGNAME": "true" if "." in self.node else "false",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(data),
            "RABBITMQ_SCHEMA_DIR": str(data / "schema"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(data / "config"),
            "RABBITMQ_LOG_BASE": str(log),
            "RABBITMQ_PID_FILE": str(self.directory / "node.pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": interface,
            "RABBITMQ_CTL_ERL_ARGS": interface,
        }

    def _wait_ready(self) -> None:
        """Wait until the node greets an AMQP client: it listens only once all else is up."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not speaks_amqp(self.port, self.address):
            if not self.running:
                raise BrokerError(f"broker ended while starting:\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise BrokerError(f"broker not up after {START_TIMEOUT_S:.0f} s:\n{self.last_words()}")
            time.sleep(POLL_S)


def speaks_amqp(port: int, address: str = LOOPBACK) -> bool:
    """Whether a broker answers AMQP's protocol header with a method frame (connection.start)."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=2.0) as link:
        link.sendall(b"AMQP\x00\x00\x09\x01")
        return link.recv(1) == b"\x01"
    return False


def free_ports(count: int) -> list[int]:
    """Ports free on loopback, and outside the kernel's ephemeral range.

    While a server is down, a client that reconnects to an ephemeral port may be given that very port as its own, and
    then is connected to itself. RabbitMQ's and epmd's usual ports are left alone too.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(16384, min(24576, low)) if low > 17000 else range(10240, 15000)
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for port in random.sample(candidates, len(candidates)):
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise BrokerError("no free port on loopback")
