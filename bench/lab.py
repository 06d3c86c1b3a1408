"""Where it is measured: a broker, an installation of taskqueue, the peers' environment; a fresh vhost for each run."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeVar

from bench.programs import Programs
from broker import PrivateBroker
from installation import Installation
from plain_amqp import PlainAmqp

T = TypeVar("T")

_numbers = count(1)


@dataclass(frozen=True)
class Lab:
    """All that figures share. `rounds` and `count`, where given, are for every figure that has them."""

    directory: Path
    """World-readable: workers run as other users."""
    broker: PrivateBroker
    installation: Installation
    programs: Programs
    peers_python: Path
    """The interpreter of the peers' virtual environment."""
    quick: bool = False
    rounds: int | None = None
    count: int | None = None

    def pick(self, full: T, quick: T) -> T:
        """The one that this run calls for."""
        return quick if self.quick else full

    def rounds_of(self, usual: int) -> range:
        """The rounds of a figure that has `usual` ones."""
        return range(self.rounds or (1 if self.quick else usual))

    def count_of(self, full: int, quick: int) -> int:
        """The workitems of a run."""
        return self.count or self.pick(full, quick)

    @contextmanager
    def room(self, name: str) -> Iterator[Room]:
        """A vhost and a directory for one run; both are gone afterwards."""
        vhost = f"{next(_numbers)}-{re.sub('[^A-Za-z0-9]+', '-', name)}"
        self.broker.add_vhost(vhost)
        directory = self.directory / vhost
        directory.mkdir(mode=0o755)
        room = Room(self, vhost, directory)
        try:
            yield room
        finally:
            room.amqp.close()
            self.broker.delete_vhost(vhost)


class Room:
    """One run's part of the lab."""

    def __init__(self, lab: Lab, vhost: str, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        self.url = lab.broker.url(vhost)
        self.amqp = PlainAmqp(self.url)


def say(text: str) -> None:
    """A line of progress."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)
