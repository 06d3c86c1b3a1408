"""What Debian itself runs on packages: autopkgtest and piuparts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from hosts import ROOT, Host, base, in_root
from packages import Packages

TOOLS = "autopkgtest dpkg-dev python3-pytest python3-hypothesis curl"


def test_autopkgtest(packages: Packages, template: Path, make_host: Callable[..., Host]) -> None:
    host = make_host(template, f"autopkgtest-{packages.release}")
    in_root(host.root, f"apt-get install --yes --download-only {packages.installed} {TOOLS} rabbitmq-server amqp-tools")
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, host.root / "srv" / "taskqueue"], check=True)
    host.start()
    host.run(f"apt-get install --yes --no-install-recommends {TOOLS}")
    # the host is the container that a test may ask for
    options = "--no-built-binaries --ignore-restrictions=isolation-container"
    host.run(f"cd /srv && autopkgtest {options} {packages.installed} taskqueue/ -- null", deadline_s=400)


def test_piuparts(packages: Packages) -> None:
    ran = subprocess.run(
        [
            "piuparts", "--no-eatmydata", "--warn-on-debsums-errors", f"--distribution={packages.release}",
            "--ignore-regex=/var/cache/debconf/tmp.ci/?",  # left by Debian 13's debconf, whatever is installed
            f"--existing-chroot={base(packages.release)}", *packages.dist,
        ],
        capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-6000:]
