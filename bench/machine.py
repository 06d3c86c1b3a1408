"""What it was measured on: the hardware, the versions, and whether anything else was running."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from broker import PrivateBroker

PEERS = (
    "celery",
    "kombu",
    "amqp",
    "dramatiq",
    "taskiq",
    "taskiq-aio-pika",
    "aio-pika",
    "fastapi",
    "uvicorn",
    "requests",
)
OURS = ("taskqueue", "pika", "aiohttp", "pycurl", "psycopg")
QUIET = 0.2
"""Load by core, above which figures are doubtful."""


def describe(broker: PrivateBroker, peers_python: Path, ours_python: Path, load_before: float) -> dict[str, Any]:
    """For the head of the table and for the JSON. `load_before`: the load average before anything of ours began."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_before": load_before,
        "system": _system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rabbitmq": broker.eval("rabbit_misc:version().").strip('"'),
        "erlang": broker.eval("erlang:system_info(otp_release).").strip('"'),
        "versions": {**_versions(ours_python, OURS), **_versions(peers_python, PEERS)},
    }


def doubts(machine: dict[str, Any]) -> list[str]:
    """Why the figures may mean little."""
    load, cores = machine["load_before"], machine["cores"]
    if load > QUIET * cores:
        return [f"the machine was not quiet: load {load:.2f} on {cores} cores before anything began"]
    return []


def _versions(python: Path, names: tuple[str, ...]) -> dict[str, str]:
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]), sep='\\n')"
    ran = subprocess.run([python, "-c", code, *names], stdout=subprocess.PIPE, text=True, check=True)
    return dict(zip(names, ran.stdout.splitlines(), strict=True))


def _system() -> str:
    release = platform.freedesktop_os_release()
    return release.get("PRETTY_NAME", release.get("NAME", "Linux"))


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"
