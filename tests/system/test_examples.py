"""Each example plugin is what a plugin author copies: built and installed as it is, its own tests pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/setup.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: str(path.name))
def test_an_example_installs_and_passes_its_own_tests(example: Path, tmp_path: Path) -> None:
    source = tmp_path / example.name  # pip builds in place
    shutil.copytree(example, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__", ".*"))
    site = tmp_path / "site"
    _run(
        tmp_path, "pip", "install", "--quiet", "--disable-pip-version-check", "--no-build-isolation", "--no-deps",
        "--no-index", "--target", str(site), str(source),
    )  # fmt: skip
    ran = _run(source, "pytest", "-p", "no:cacheprovider", "--override-ini=addopts=", PYTHONPATH=str(site))
    assert " passed" in ran


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: str(path.name))
def test_an_example_is_complete(example: Path) -> None:
    assert {"setup.py", "pyproject.toml", "README.rst", "LICENSE", "tests"} <= {path.name for path in example.iterdir()}
    worker_type = example.name.removeprefix("taskqueue-")
    readme = (example / "README.rst").read_text()
    for said in ("pip install .", f"[{worker_type}]", f"'{worker_type} ", "python -m pytest", "License: MIT"):
        assert said in readme


def _run(directory: Path, module: str, *arguments: str, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=directory, env={**os.environ, **environment}, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
