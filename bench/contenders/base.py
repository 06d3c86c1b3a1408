"""What all contenders have in common: workitems are made, published, run somewhere, and accounted for at the end."""

from __future__ import annotations

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import processes
from bench.lab import Room
from bench.workitems import ID, Batch, numbered

_STOP_S = 30.0


@dataclass(frozen=True)
class Account:
    """What came out, against what was put in. `bodies` are the results' by id, where they were asked for."""

    submitted: int
    waiting: int
    """Still in a queue: a duplicate was taken for its result, and all was stopped too early."""
    lost: int
    duplicated: int
    unexpected: int
    bodies: Mapping[str, bytes]


class Contender(ABC):
    """A system under test, in a room of its own.

    `prepare`, then `publish` and `start` in whichever order the figure wants, then `stop` and `collect`. `workers` are
    the worker processes of each of `nodes` hosts.
    """

    name: str
    inlet: str
    outlet: str | None
    """Where results come out; None where there are none."""

    def __init__(self, room: Room, *, workers: int = 2, nodes: int = 1) -> None:
        self.room = room
        self.workers = workers
        self.nodes = nodes
        self._batches: Sequence[Batch] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- in

    @abstractmethod
    def submit_templates(self, bodies: Sequence[tuple[str, bytes]]) -> None:
        """Put one workitem for each task and body, with the id `ID`, into the inlet, by the contender's own client if
        it has one. The inlet and the outlet are there afterwards.
        """

    def prepare(self, *batches: Batch) -> None:
        """Make ready to publish these batches, in this order. Nothing may run yet."""
        self._batches = batches
        self.submit_templates([(batch.task, body) for batch in batches for body in batch.bodies()])
        for index, batch in enumerate(batches):
            self.room.amqp.declare(f"templates_{index}")
            for _ in batch.bodies():
                self._publish(self.inlet, f"templates_{index}", first=0, count=1)

    def publish(self) -> float:
        """Publish what was prepared; returns when the broker has confirmed it all. The moment at which it began."""
        began = time.monotonic()
        first = 0
        for index, batch in enumerate(self._batches):
            kinds = len(batch.bodies())
            self._publish(f"templates_{index}", self.inlet, first=first, count=batch.count, templates=kinds)
            first += batch.count
        return began

    def _publish(self, source: str, target: str, **how: int) -> None:
        self.room.lab.programs.publish(self.room.url, source, target, ID, **how)

    @property
    def submitted(self) -> int:
        """How many workitems were prepared."""
        return sum(batch.count for batch in self._batches)

    # -- the processes

    @abstractmethod
    def start_node(self, index: int) -> None:
        """Start what runs on one host; returns at once."""

    def start(self) -> None:
        """Start them all."""
        for index in range(self.nodes):
            self.start_node(index)

    def start_on_waiting(self) -> None:
        """Start them all where workitems wait already, what takes them from the inlet last."""
        self.start()

    @abstractmethod
    def wait_ready(self) -> None:
        """Return once every worker of the nodes that were started could take a workitem."""

    @abstractmethod
    def roles(self) -> dict[str, set[int]]:
        """The process ids by what they do."""

    def pids(self) -> set[int]:
        """All of them."""
        return set().union(*self.roles().values())

    @abstractmethod
    def tail(self) -> str:
        """The end of what its processes have said."""

    @abstractmethod
    def stop(self) -> None:
        """Stop in good order."""

    @abstractmethod
    def close(self) -> None:
        """End whatever is left, however far it came."""

    # -- out

    def taken(self) -> int:
        """How many workitems do not wait any more."""
        return self.submitted - self.room.amqp.depth(self.inlet)

    def done(self) -> int:
        """How many have come out; of a contender without results, how many were taken."""
        return self.taken() if self.outlet is None else self.room.amqp.depth(self.outlet)

    def queues(self) -> list[str]:
        """Where workitems wait on their way."""
        return [self.inlet]

    def collect(self, *, bodies: bool = False) -> Account:
        """Empty the outlet and compare. To be called when nothing runs any more."""
        waiting = sum(self.room.amqp.depth(queue) for queue in self.queues())
        if self.outlet is None:
            return Account(self.submitted, waiting, 0, 0, 0, {})
        depth = self.room.amqp.depth(self.outlet)
        came = list(self.room.lab.programs.drain(self.room.url, self.outlet, depth, bodies=bodies))
        times = Counter(name for name, _ in came)
        wanted = {numbered(number) for number in range(self.submitted)}
        return Account(
            submitted=self.submitted,
            waiting=waiting,
            lost=max(0, len(wanted - times.keys()) - waiting),
            duplicated=sum(times[name] - 1 for name in wanted & times.keys()),
            unexpected=len(times.keys() - wanted),
            bodies=dict(came) if bodies else {},
        )


class Command:
    """A program of a contender in the foreground, its output in a file."""

    def __init__(self, command: Sequence[str | Path], log: Path, env: Mapping[str, str], directory: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=dict(env), cwd=directory, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def tail(self) -> str:
        """The end of its output."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is left of it."""
        theirs = processes.descendants(self.pid)
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        if self.running:
            self._process.kill()
        self._process.wait()
        for pid in theirs:
            if processes.alive(pid):
                processes.kill(pid)
        processes.left_of(theirs)
