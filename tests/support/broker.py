#!/usr/bin/env python3
"""A private RabbitMQ node for tests and the demo: the product's own (see there), and what tests ask of it besides.

Standard library only, whether or not taskqueue is installed. As a program:

    broker.py run DIR     start a node in DIR, print its URL, run until Ctrl-C
    broker.py stop DIR    end whatever still runs from DIR or below, whoever started it
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

sys.path.append(str(Path(__file__).resolve().parents[2]))  # where taskqueue is not installed

from taskqueue.cli.trial import private_broker
from taskqueue.cli.trial.broker_guard import (
    MARKER,
    SCRIPTS,
    STOP_TIMEOUT_S,
    BrokerError,
    processes,
    stop_directory,
)
from taskqueue.cli.trial.private_broker import LOOPBACK, POLL_S, free_ports, speaks_amqp

__all__ = [
    "LOOPBACK",
    "MARKER",
    "BrokerError",
    "PrivateBroker",
    "free_ports",
    "processes",
    "speaks_amqp",
    "stop_directory",
]


class PrivateBroker(private_broker.PrivateBroker):
    """A RabbitMQ node whose files are all in `directory`; made anew at the first `start`.

    `stop`, `kill` and `restart` keep ports and data, so that durable queues are there again afterwards.

    `config` are lines of rabbitmq.conf; `plugins` are enabled. For the nodes of a cluster: one `cookie` and one
    `epmd_port`, behind which, on loopback, the cluster's own epmd answers for all; an `address` in the network
    namespace that `inside` enters.
    """

    def __init__(
        self, directory: str | Path, *, cookie: str = "", config: str = "", epmd_port: int = 0,
        address: str = LOOPBACK, inside: Sequence[str] = (), plugins: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(directory)
        self.config = config
        self._plugins = plugins
        self._inside = list(inside)
        self._cookie = cookie or self._cookie
        self._epmd_port = epmd_port or self._epmd_port
        self._shares_epmd = bool(epmd_port) and address == LOOPBACK
        if address != LOOPBACK:
            self.address = address
            self.node = f"{self.node.partition('@')[0]}@{address}"

    def kill(self) -> None:
        """SIGKILL the node, as the kernel would; `start` brings it back with its ports and data."""
        os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def restart(self, *, graceful: bool = True) -> None:
        """Stop and start again, with the same ports and data."""
        self.stop(graceful=graceful)
        self.start()

    def add_vhost(self, name: str) -> None:
        """Make a vhost in which `guest` may do everything (20 ms)."""
        binary, guest = _erlang_binary(name), '<<"guest">>'
        everything = ", ".join(['<<".*">>'] * 3)
        self.eval(
            f"ok = rabbit_vhost:add({binary}, {guest}), "
            f"rabbit_auth_backend_internal:set_permissions({guest}, {binary}, {everything}, {guest})."
        )

    def delete_vhost(self, name: str) -> None:
        """Delete a vhost with its queues and connections (30 ms); harmless when it is gone."""
        binary = _erlang_binary(name)
        self.eval(f'rabbit_vhost:exists({binary}) andalso rabbit_vhost:delete({binary}, <<"guest">>).')

    def eval(self, expression: str) -> str:
        """The value of an Erlang expression (ASCII, ending in a full stop) in the node: 20 ms, not rabbitmqctl's 1 s.

        Raises `BrokerError` with Erlang's own words. A busy node that runs may refuse the connection: asked again.
        """
        command = ["erl_call", "-r", "-address", f"{self.address}:{self._dist_port}", "-timeout", "30", "-e"]
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while True:
            ran = subprocess.run(
                [*self._inside, *command],
                input=expression + "\n", env=self._environment(), text=True, capture_output=True, check=False,
            )  # fmt: skip
            if "failed to connect" not in ran.stderr or not self.running or time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        value = ran.stdout.strip()
        if ran.returncode != 0 or not value.startswith("{ok, "):
            raise BrokerError(f"broker refused: {expression}\n{value}{ran.stderr}")
        return value.removeprefix("{ok, ").removesuffix("}")

    @contextlib.contextmanager
    def max_message_size(self, size: int) -> Iterator[None]:
        """Have channels that are opened meanwhile take no body above `size` bytes; as it was, afterwards."""
        before = self.eval("application:get_env(rabbit, max_message_size).").removeprefix("{ok,").rstrip("}").strip()
        # RabbitMQ 3.10 looks at the environment, 4.x at a term that it has made of it at its start
        limit = "application:set_env(rabbit, max_message_size, {0}), persistent_term:put(max_message_size, {0})."
        self.eval(limit.format(size))
        try:
            yield
        finally:
            self.eval(limit.format(before))

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node (1 s); what it printed. Raises `BrokerError`."""
        ran = subprocess.run(
            [*self._inside, SCRIPTS / "rabbitmqctl", "-q", "-n", self.node, *arguments],
            stdin=subprocess.DEVNULL,
            env=self._environment(),
            cwd=self.directory,
            text=True,
            capture_output=True,
            check=False,
        )
        if ran.returncode != 0:
            raise BrokerError(f"rabbitmqctl {' '.join(arguments)}: status {ran.returncode}\n{ran.stdout}{ran.stderr}")
        return ran.stdout


def _erlang_binary(text: str) -> str:
    return f"<<{','.join(map(str, text.encode()))}>>"


def _exit_on_signal(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str]) -> int:
    """The program; gives its exit status."""
    match arguments:
        case ["run", directory]:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, _exit_on_signal)
            with PrivateBroker(directory) as broker:
                print(broker.url(), flush=True)
                broker.wait()
            print("broker ended", file=sys.stderr)
            return 1
        case ["stop", directory]:
            stop_directory(Path(directory))
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokerError as error:
        sys.exit(f"broker.py: {error}")
