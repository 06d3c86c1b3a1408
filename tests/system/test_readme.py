"""Every command of README.rst is run, as it is written, in a fresh copy of the tree.

The first block, `make demo` and `make test`, is what `tests/system/from_nothing` runs in clean roots.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from documents import blocks, copy_of_venv
from taskqueue.config.keys import KEYS
from taskqueue.config.load import load
from waiting import wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fresh_copy() -> Iterator[Path]:
    """The tree as git has it, with the virtual environment that runs the tests, where every user can read it."""
    directory = Path(tempfile.mkdtemp(prefix="taskqueue-readme-", dir="/var/tmp"))
    directory.chmod(0o755)
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, directory / name)
        copy_of_venv(directory / ".venv")
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def running_from(directory: Path) -> list[Path]:
    """Processes whose environment names the virtual environment in `directory`, as `activate` has exported it."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"VIRTUAL_ENV={directory}/.venv".encode() in environ.read_bytes().split(b"\0"):
                found.append(environ)
    return found


def test_first_block_is_what_from_nothing_runs() -> None:
    first = blocks((ROOT / "README.rst").read_text(), "sh")[0]
    assert [line.split("#")[0].strip() for line in first.strip().splitlines()] == ["make demo", "make test"]


def test_tour(fresh_copy: Path) -> None:
    tour = "\n".join(blocks((fresh_copy / "README.rst").read_text(), "sh")[1:])
    env = {name: value for name, value in os.environ.items() if name not in {"TASKQUEUE_AMQP_URL", "VIRTUAL_ENV"}}
    ran = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", tour],
        cwd=fresh_copy, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    logs = "\n".join(path.read_text() for path in (fresh_copy / ".run/tour").glob("*.log"))
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}\n{logs}"
    assert "Good morning, Ada!" in ran.stdout
    assert "Good morning, Grace!" in ran.stdout
    assert "1 groups" in ran.stdout or "config is valid" in ran.stdout
    wait_for(lambda: not running_from(fresh_copy), 15)


def test_configuration_of_the_design_is_shown_and_valid() -> None:
    (example,) = blocks((ROOT / "README.rst").read_text(), "ini")
    installed = ["worker1", "worker2"]
    settings = load(text=example, environ={}, installed=installed, user_exists=lambda _name: True)
    assert settings.warnings == ()
    assert [(group.name, group.workers, group.user) for group in settings.groups(installed)] == [
        ("worker1", 3, None), ("worker2/bifh1", 1, "bifh1"), ("worker2/bifh2", 1, "bifh2"),
    ]  # fmt: skip


def test_table_names_every_key() -> None:
    text = (ROOT / "README.rst").read_text()
    table = text[text.index("``[amqp]``") : text.index("When it does not work")]
    rows = [row for row in table.splitlines() if row.startswith("``")]
    named = {name for row in rows for name in re.findall(r"``([a-z_]+)``", row[:30])}
    assert named == {key for keys in KEYS.values() for key in keys}
