"""What the proofs in this directory share: a broker and an installation of their own, removed at the end.

A proof is a module with `prove(seed, count)`: run by `make faults FAULT=<its name>` or, with options, by itself.
It must never import taskqueue.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import processes
from broker import PrivateBroker
from daemons import Stage
from installation import Installation


class Ground:
    """A broker, and stages on vhosts of it."""

    def __init__(self, directory: Path, broker: PrivateBroker) -> None:
        self.directory = directory
        self.broker = broker
        self.installation = Installation(directory)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """A stage on a vhost of its own; its daemons are ended with it."""
        self.broker.add_vhost(name)
        made = Stage(self.installation, self.directory / name, self.broker.url(name))
        try:
            yield made
        finally:
            made.close()
            if self.broker.running:
                self.broker.delete_vhost(name)


@contextmanager
def ground() -> Iterator[Ground]:
    """Everything that a proof stands on."""
    processes.adopt_orphans()
    directory = Path(tempfile.mkdtemp(prefix="taskqueue-proof-", dir="/var/tmp"))
    directory.chmod(0o755)
    run = Path(".run/faults").absolute() / directory.name
    try:
        with PrivateBroker(run) as broker:
            yield Ground(directory, broker)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(run, ignore_errors=True)


def spread(name: str, values: list[float]) -> str:
    """`name` in milliseconds: how many, least, median, 99th percentile, most. `values` are seconds."""
    if not values:
        return f"{name}: none"
    ordered = sorted(values)
    at = [ordered[0], ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1]]
    least, median, high, most = (f"{value * 1000:.1f}" for value in at)
    return f"{name}: n={len(ordered)} min={least} p50={median} p99={high} max={most} ms"


def say(line: str) -> None:
    """One line of a proof, at once."""
    print(f"  {line}", flush=True)


def holds(claim: Callable[[], None], stage: Stage) -> bool:
    """Whether `claim()` raises no `AssertionError`; what it says is printed, with the end of the pool's log."""
    try:
        claim()
    except AssertionError as error:
        say(f"FAILED: {error}\n{stage.pool.tail()}")
        return False
    return True


def main(document: str | None, prove: Callable[[int, int | None], bool]) -> int:
    """The command line of one proof."""
    parser = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, help="workitems, where the proof's own number is too many")
    arguments = parser.parse_args()
    held = prove(arguments.seed, arguments.count)
    print("proof: holds" if held else "proof: FAILED")
    return 0 if held else 1
