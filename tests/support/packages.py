"""Packages of HEAD, built in a clean root of a Debian release: ours, a later version of them, the example plugin's."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from hosts import ROOT, in_root, prepared

_BUILD_ROOT = "tests/support/prepare deb && apt-get install --yes --no-install-recommends lintian"
_NEXT = "0.1.0-1+next1"
_BUILD = f"""
cd /srv/taskqueue
make --silent deb
lintian --info --display-info --pedantic --fail-on error,warning dist/*.changes >dist/lintian.log
cp -R examples/taskqueue-primes /srv/primes && cd /srv/primes
dpkg-buildpackage --build=binary --unsigned-changes
cd /srv/taskqueue
git clean -xdfq --exclude=dist
sed -i '1s/(.*)/({_NEXT})/' debian/changelog
echo '# a new comment' >>etc/config.ini
dpkg-buildpackage --build=binary --unsigned-changes
"""


@dataclass(frozen=True, slots=True)
class Packages:
    """What was built for a release."""

    release: str
    directory: Path
    """Where roots for this release may be made."""
    dist: tuple[Path, ...]
    """The four packages."""
    next: tuple[Path, ...]
    """Those of a later version, with another config.ini."""
    plugin: Path
    """The example plugin's."""
    next_version: str = _NEXT

    @property
    def installed(self) -> str:
        """What is given to `apt-get install` on a host: the three daemons, and what they depend on."""
        return " ".join(f"/root/{file.name}" for file in self.dist)


def build(release: str, directory: Path) -> Packages:
    """Build them; `lintian` has found no error and no warning."""
    root = directory / "build"
    kept = prepared(release, "build", _BUILD_ROOT, "tests/support/prepare", "debian/control")
    subprocess.run(["cp", "-a", "--reflink=auto", kept, root], check=True)
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, root / "srv" / "taskqueue"], check=True)
    in_root(root, _BUILD)
    dist = root / "srv" / "taskqueue" / "dist"
    built = Packages(
        release,
        directory,
        dist=tuple(sorted(dist.glob("*.deb"))),
        next=tuple(sorted((root / "srv").glob(f"*{_NEXT}_all.deb"))),
        plugin=next((root / "srv").glob("python3-taskqueue-primes_*.deb")),
    )
    assert len(built.dist) == len(built.next) == 4
    return built
