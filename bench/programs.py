"""The programs in C: built where they are older than their sources, and run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).parent / "native"
COMMAND = ["gcc", "-O2", "-std=gnu11", "-Wall", "-Wextra"]

PREFETCH = 1000
"""Of the forwarder: above it, it gets no faster."""


class Programs:
    """`forwarder`, `publisher` and `drainer`, in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        newest = max(path.stat().st_mtime for path in SOURCES.iterdir())
        for name in ("forwarder", "publisher", "drainer"):
            program = directory / name
            if not program.exists() or program.stat().st_mtime < newest:
                sources = [SOURCES / f"{name}.c", SOURCES / "link.c"]
                subprocess.run([*COMMAND, "-o", program, *sources, "-lrabbitmq"], check=True)

    def forward(self, url: str, source: str, target: str, count: int) -> subprocess.Popen[bytes]:
        """Start a forwarder; it ends once it has settled `count` messages."""
        arguments = [url, source, target, str(count), str(PREFETCH)]
        return subprocess.Popen([self._directory / "forwarder", *arguments], stdin=subprocess.DEVNULL)

    def publish(
        self, url: str, source: str, target: str, template_id: str, *, first: int, count: int, templates: int = 1
    ) -> None:
        """Take so many templates from `source`; put `count` copies of them, numbered from `first`, into `target`."""
        arguments = [url, source, str(templates), target, template_id, str(first), str(count)]
        subprocess.run([self._directory / "publisher", *arguments], stdin=subprocess.DEVNULL, check=True)

    def drain(self, url: str, queue: str, count: int, *, bodies: bool = False) -> Iterator[tuple[str, bytes]]:
        """The ids of `count` messages that are in a queue, and their bodies if wanted; they are gone from there."""
        arguments = [url, queue, str(count), *(["bodies"] if bodies else [])]
        ran = subprocess.run(
            [self._directory / "drainer", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True
        )
        for line in ran.stdout.splitlines():
            name, _, body = line.partition(b"\t")
            yield name.decode(), body
