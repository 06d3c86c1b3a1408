"""Three private RabbitMQ nodes that are one cluster, on loopback; or each behind a link of its own, which can be cut.

What already runs on the host is neither used nor disturbed, and nothing outlives whoever made it: a network namespace
ends with its last process, and with it its links.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from broker import LOOPBACK, MARKER, BrokerError, PrivateBroker, free_ports, stop_directory
from waiting import wait_for

_CONNECTIONS = (
    "length(case erlang:function_exported(rabbit_networking, connections_local, 0) of "
    "true -> rabbit_networking:connections_local(); false -> rabbit_networking:local_connections() end)."
)
"""How many clients a node has; RabbitMQ 4 has another name for it."""
SIZE = 3
WHOLE_TIMEOUT_S = 60.0

_CONFIG = "cluster_partition_handling = pause_minority\nloopback_users = none\n"
_WHOLE = f"""
    length(rabbit_mnesia:cluster_nodes(running)) =:= {SIZE}
    andalso rabbit_quorum_queue:list_with_minimum_quorum() =:= [].
"""
_CLONE_NEWNET = 0x40000000  # <linux/sched.h>


class Switch:
    """Links to `SIZE` hosts, each a network namespace. The thread that makes it moves to a namespace of its own first,
    which is the switch: only that thread, and the threads and processes that it then starts, reach the hosts."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "no network namespace of our own: root only")
        _ip("link set lo up", "link add switch type bridge", "addr add 10.0.0.254/24 dev switch", "link set switch up")
        self._holders = [self._connect(number) for number in range(SIZE)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the hosts go."""
        for holder in self._holders:
            holder.kill()
            holder.wait()

    def address(self, number: int) -> str:
        """The address of a host."""
        return f"10.0.0.{number + 1}"

    def inside(self, number: int) -> list[str]:
        """The command that runs another on a host."""
        return ["nsenter", f"--net=/proc/{self._holders[number].pid}/ns/net"]

    def cut(self, number: int) -> None:
        """Pull the cable of a host: no packet says so to the other end."""
        _ip(f"link set host{number} down")

    def mend(self, number: int) -> None:
        """Plug it in again."""
        _ip(f"link set host{number} up")

    def _connect(self, number: int) -> subprocess.Popen[bytes]:
        holder = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"])
        ours = Path("/proc/thread-self/ns/net").readlink()
        wait_for(lambda: Path(f"/proc/{holder.pid}/ns/net").readlink() != ours, 10, "a network namespace")
        _ip(
            f"link add host{number} type veth peer name eth0 netns {holder.pid}",
            f"link set host{number} master switch up",
        )
        _ip(
            "link set lo up", f"addr add {self.address(number)}/24 dev eth0", "link set eth0 up",
            inside=["nsenter", f"--net=/proc/{holder.pid}/ns/net"],
        )  # fmt: skip
        return holder


def _ip(*commands: str, inside: list[str] | None = None) -> None:
    for command in commands:
        subprocess.run([*(inside or []), "ip", *command.split()], check=True)


class PrivateCluster:
    """A cluster whose files are all in `directory`: on loopback, or on the hosts of a `switch`.

    `config`: more lines of rabbitmq.conf.
    """

    def __init__(self, directory: Path, *, switch: Switch | None = None, config: str = "") -> None:
        self.directory = directory.absolute()
        self._switch = switch
        self._epmd: subprocess.Popen[bytes] | None = None
        (self._epmd_port,) = free_ports(1)
        cookie = secrets.token_hex(16)
        self.nodes = [
            PrivateBroker(
                self.directory / f"node{number}", cookie=cookie, epmd_port=self._epmd_port,
                address=LOOPBACK if switch is None else switch.address(number),
                inside=() if switch is None else switch.inside(number),
            )
            for number in range(SIZE)
        ]  # fmt: skip
        for node in self.nodes:
            node.config = _CONFIG + config
        for node in self.nodes[1:]:
            node.config += f"cluster_formation.classic_config.nodes.1 = {self.nodes[0].node}\n"

    def __enter__(self) -> Self:
        """Start it: 10 to 20 s."""
        try:
            if self._switch is None:  # on loopback all nodes share one: who looks for a node asks his own port's
                self.directory.mkdir(parents=True)
                self._epmd = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", "epmd", "-address", LOOPBACK, "-port", str(self._epmd_port)],
                    env={**os.environ, MARKER: f"{self.directory}/"},
                    start_new_session=True,
                )
            for node in self.nodes:  # one after the other: together they wait for each other's locks
                node.start()
            self.wait_whole()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all of it."""
        for node in self.nodes:
            node.stop()
        stop_directory(self.directory)
        if self._epmd is not None:
            self._epmd.wait()

    # -- what is asked of it

    def urls(self, vhost: str) -> list[str]:
        """An AMQP URL of each node."""
        return [node.url(vhost) for node in self.nodes]

    def hosts(self) -> str:
        """All nodes, as `[amqp] host` names them."""
        return ", ".join(f"{node.address}:{node.port}" for node in self.nodes)

    def add_vhost(self, name: str) -> None:
        """Make a vhost in which a queue is a quorum queue where its declaration does not say otherwise."""
        self.nodes[0].ctl("add_vhost", name, "--default-queue-type", "quorum")
        self.nodes[0].ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")

    def leader_of(self, vhost: str, queue: str) -> int:
        """The number of the node that leads a quorum queue."""
        name = f'rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>)'
        leader = next(node for node in self.nodes if node.running).eval(
            f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), "
            "{_, Node} = ra_leaderboard:lookup_leader(element(1, amqqueue:get_pid(Q))), Node."
        )
        return [node.node for node in self.nodes].index(leader.strip("'"))

    def connections(self) -> list[int]:
        """How many clients each node has."""
        return [int(node.eval(_CONNECTIONS)) for node in self.nodes]

    def whole(self) -> bool:
        """Whether every node runs, sees the others run, and no replica of a queue is missing."""
        try:
            return all(node.eval(_WHOLE) == "true" for node in self.nodes)
        except BrokerError:
            return False

    def wait_whole(self, deadline_s: float = WHOLE_TIMEOUT_S) -> None:
        """Return once it is whole."""
        wait_for(self.whole, deadline_s, "the cluster is whole", otherwise=self.nodes[0].last_words)
