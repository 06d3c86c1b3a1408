"""Fixtures of the package tests: packages built in a clean root of each release, and hosts to install them on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hosts import ROOT, Host, base, in_root, remove
from packages import Packages, build

_HOSTS = ROOT / ".run" / "packages"
_ARCHIVE = "rabbitmq-server amqp-tools curl"
"""What an operator installs from Debian beside ours."""


@pytest.fixture(scope="session", params=["bookworm", "trixie"])
def release(request: pytest.FixtureRequest) -> str:
    """A Debian release. All its tests share what was built: the tests of one release run in one process."""
    assert os.geteuid() == 0, "only root can make and enter a root"
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def packages(release: str) -> Iterator[Packages]:
    """What this session has built; what one that was killed has left is removed."""
    _HOSTS.mkdir(parents=True, exist_ok=True)
    for old in _HOSTS.glob(f"*-{release}"):
        if not Path("/proc", old.name.partition("-")[0]).exists():
            remove(old)
    directory = _HOSTS / f"{os.getpid()}-{release}"
    directory.mkdir(parents=True)
    yield build(release, directory)
    remove(directory)


@pytest.fixture(scope="session")
def template(packages: Packages) -> Path:
    """A clean root in which all that `apt-get` will install is fetched, ours in /root, and nothing is installed."""
    root = packages.directory / "host"
    subprocess.run(["cp", "-a", "--reflink=auto", base(packages.release), root], check=True)
    for file in (*packages.dist, *packages.next, packages.plugin):
        shutil.copy(file, root / "root")
    in_root(root, f"apt-get update && apt-get install --yes --download-only {packages.installed} {_ARCHIVE}")
    # services are started as on a host with an init
    policy = root / "usr" / "sbin" / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    policy.chmod(0o755)
    return root


@pytest.fixture(scope="session")
def systemd_template(packages: Packages, template: Path) -> Path:
    """As `template`, with systemd as its init."""
    root = packages.directory / "systemd"
    subprocess.run(["cp", "-a", "--reflink=auto", template, root], check=True)
    (root / "usr" / "sbin" / "policy-rc.d").unlink()
    in_root(root, "apt-get install --yes --no-install-recommends systemd-sysv dbus")
    return root


@pytest.fixture
def make_host(packages: Packages) -> Iterator[Callable[[Path, str], Host]]:
    """Makes hosts, by template and name, and removes them after the test."""
    made: list[Host] = []

    def make(template: Path, name: str) -> Host:
        made.append(Host(template, packages.directory, name))
        return made[-1]

    yield make
    for host in made:
        host.remove()
