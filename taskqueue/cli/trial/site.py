"""The plugins of a directory as if they were installed: their metadata, made anew when a file changes.

Nothing is written into the directory, and no plugin is imported. A process with `path` in front of its own search path
finds the metadata as distributions whose RECORD, and so their fingerprint, changes with their sources.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PathDistribution
from pathlib import Path

from taskqueue.errors import PluginError
from taskqueue.plugins import GROUP

_PROJECT = ("pyproject.toml", "setup.py", "setup.cfg")
_NOT_SOURCES = {"__pycache__", "build", "dist", "node_modules"}
_HOOK = """
import importlib, pathlib, runpy, sys, tomllib
directory = sys.argv[1]
project = pathlib.Path("pyproject.toml")
build = tomllib.loads(project.read_text()).get("build-system", {}) if project.exists() else {}
sys.path[:0] = build.get("backend-path", [])
module, _, names = build.get("build-backend", "setuptools.build_meta").partition(":")
if module == "setuptools.build_meta":
    import setuptools
    sys.argv = ["setup.py", "--quiet", "egg_info", "--egg-base", directory]
    if pathlib.Path("setup.py").exists():
        runpy.run_path("setup.py", run_name="__main__")
    else:
        setuptools.setup()
else:
    backend = importlib.import_module(module)
    for name in filter(None, names.split(".")):
        backend = getattr(backend, name)
    backend.prepare_metadata_for_build_wheel(directory)
"""
"""The program that makes a project's metadata (PEP 517), in a process of its own: build backends change their
process. Setuptools (Debian 12's) needs `wheel` for PEP 517, and does without in its older form, `egg_info`."""

State = dict[Path, tuple[int, int]]
"""The files of a project, each with its time of change and its size."""


@dataclass(frozen=True, slots=True)
class _Project:
    root: Path

    def files(self) -> Iterator[os.DirEntry[str]]:
        """Its sources and data: nothing hidden, made, or of a virtual environment."""
        left = [str(self.root)]
        while left:
            with os.scandir(left.pop()) as entries:
                inside = [entry for entry in entries if not entry.name.startswith(".") and not entry.name.endswith("~")]
            if any(entry.name == "pyvenv.cfg" for entry in inside):
                continue
            for entry in inside:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in _NOT_SOURCES and not entry.name.endswith(".egg-info"):
                        left.append(entry.path)
                elif entry.is_file():
                    yield entry

    def state(self) -> State:
        """As it is now; what vanishes meanwhile is not there."""
        found: State = {}
        try:
            for entry in self.files():
                status = entry.stat()
                found[Path(entry.path)] = (status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            return self.state()
        return found


class Site:
    """The projects of `root`, which is one, or has some in it, made into the empty directory `directory`."""

    def __init__(self, root: Path, directory: Path) -> None:
        self.directory = directory
        self._projects = [_Project(each) for each in _projects(root)]
        if not self._projects:
            raise PluginError(f"{root}: no plugin here; expected a project with one of {', '.join(_PROJECT)}")

    @property
    def path(self) -> list[Path]:
        """Directories to search for modules before all others."""
        roots = (each.root / place for each in self._projects for place in ("src", "."))
        return [self.directory, *(root.resolve() for root in roots if root.is_dir())]

    def state(self) -> State:
        """All files, as they are now."""
        return {path: stamp for project in self._projects for path, stamp in project.state().items()}

    def build(self, state: State) -> list[str]:
        """Make the metadata anew, of the files as they are in `state`; gives the worker types. Raises `PluginError`
        with the output of the build backend, and leaves all as it was."""
        with tempfile.TemporaryDirectory(dir=self.directory.parent, prefix="metadata-") as made:
            infos = [_make(each, Path(made, str(number)), state) for number, each in enumerate(self._projects)]
            types = sorted(
                entry.name for info in infos for entry in PathDistribution(info).entry_points if entry.group == GROUP
            )
            if not types:
                raise PluginError(f"{', '.join(str(each.root) for each in self._projects)}: no entry point {GROUP}")
            for old in self.directory.iterdir():
                shutil.rmtree(old)
            for info in infos:
                info.rename(self.directory / info.name)
        return types


def _projects(root: Path) -> list[Path]:
    """`root` where it is a project, else the projects in it."""
    candidates = [root] if _is_project(root) else sorted(each for each in root.iterdir() if each.is_dir())
    return [each for each in candidates if _is_project(each)]


def _is_project(directory: Path) -> bool:
    return any((directory / name).is_file() for name in _PROJECT)


def _make(project: _Project, directory: Path, state: State) -> Path:
    """Make the metadata of one project; gives its place below `directory`."""
    directory.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", _HOOK, str(directory)], cwd=project.root, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    infos = [each for each in directory.iterdir() if each.suffix in {".egg-info", ".dist-info"}]
    if ran.returncode != 0 or len(infos) != 1:
        raise PluginError(f"{project.root}: its metadata cannot be made:\n{ran.stdout.rstrip()}")
    (info,) = infos
    ours = sorted((str(path), *stamp) for path, stamp in state.items() if project.root in path.parents)
    digest = hashlib.sha256(repr(ours).encode()).hexdigest()
    (info / "RECORD").write_text(f"{info.name}/RECORD,sha256={digest},\n")
    info.chmod(0o755)
    for file in info.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    return info
