"""The guard of a private RabbitMQ node: its parent process, with which epmd and the node end.

1. `private_broker` starts `python broker_guard.py epmd …` with a pipe as standard input.
2. The guard starts epmd and the node, and prints the node's pid.
3. It ends when its standard input closes (whoever started it has ended, or stops the node), or when epmd or the node
   ends. Before it ends it kills every process of the node.

Every process of a node has the node's directory in its environment, so `stop_directory` finds whatever is left of it.

Standard library only, and no other module of taskqueue: it is run by its path, with `-I -S`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

SCRIPTS = Path("/usr/lib/rabbitmq/bin")
"""The server's own scripts: those in /usr/sbin change to user rabbitmq, who may not be able to reach our directory."""

MARKER = "TASKQUEUE_PRIVATE_BROKER"
"""Environment variable of every process of a node: the node's directory."""

STOP_TIMEOUT_S = 15.0
"""Seconds from SIGKILL until a process of a node that is still there is an error."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>


class BrokerError(Exception):
    """The private node could not be started, or refused a command. The text says why, with the node's last words."""


def processes(directory: Path) -> list[int]:
    """Ids of the processes that belong to nodes in `directory` or below, by their environment; no zombies."""
    mark = f"{MARKER}={directory.absolute()}/".encode()
    return sorted(pid for pid in _pids() if any(field.startswith(mark) for field in _fields(pid)))


def _pids() -> Iterator[int]:
    return (
        int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and int(entry.name) != os.getpid()
    )


def _fields(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # ended meanwhile, or another user's
        return []


def stop_directory(directory: Path, *, kill_after_s: float = 2.0) -> None:
    """End what runs from `directory` or below: SIGTERM, then SIGKILL. Raises `BrokerError`."""
    started, asked = time.monotonic(), False
    while left := processes(directory):
        waited = time.monotonic() - started
        if waited > kill_after_s + STOP_TIMEOUT_S:
            raise BrokerError(f"broker could not be stopped: pids={left}")
        if waited >= kill_after_s:
            _signal(left, signal.SIGKILL)
        elif not asked:
            _signal(left, signal.SIGTERM)
            asked = True
        time.sleep(0.01)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _guard(epmd: Sequence[str]) -> int:
    """Run epmd, where it is given, and the node until one ends or standard input closes; print the node's pid."""
    libc = ctypes.CDLL(None)
    # the node's own children are left to this process, not to a PID 1 that may not reap
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def die_with_guard() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def spawn(*command: str) -> int:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True, preexec_fn=die_with_guard
        ).pid

    def end_with_input() -> None:
        sys.stdin.read()
        stop_directory(directory, kill_after_s=0.0)

    directory = Path(os.environ[MARKER])
    signal.signal(signal.SIGTERM, lambda *_: None)  # it ends epmd, and that all the rest, with nothing left to reap
    vital = [spawn(*command) for command in (epmd, [str(SCRIPTS / "rabbitmq-server")]) if command]
    print(vital[-1], flush=True)
    threading.Thread(target=end_with_input, daemon=True).start()
    while os.wait()[0] not in vital:
        pass
    stop_directory(directory, kill_after_s=0.0)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    return 0


if __name__ == "__main__":
    sys.exit(_guard(sys.argv[1:]))
