"""The oldest pika that is supported does what the newest does: the AMQP tests again, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TESTS = [
    str(ROOT / name)
    for name in (
        "tests/integration/test_amqp.py",
        "tests/integration/test_amqp_in_asyncio.py",
        "tests/unit/amqp/test_frames.py",
        "tests/unit/amqp/test_seams.py",
    )
]
RUN = """
import sys, pika, pytest
assert pika.__version__ == sys.argv[1] and pika.__file__.startswith(sys.argv[2]), (pika.__version__, pika.__file__)
sys.exit(pytest.main(sys.argv[3:]))
"""


def test_the_oldest_pika() -> None:
    (directory,) = (ROOT / ".venv").glob("pika-*")  # tests/support/prepare test puts it there
    version = directory.name.removeprefix("pika-")
    path = os.pathsep.join(filter(None, [str(directory), os.environ.get("PYTHONPATH")]))
    # a heartbeat takes 12 s to be missed, and is none of the versions' differences
    arguments = ["-q", "-p", "no:cacheprovider", "-k", "not heartbeat", *TESTS]
    ran = subprocess.run(
        [sys.executable, "-c", RUN, version, str(directory), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"pika {version}\n{ran.stdout[-8000:]}{ran.stderr[-2000:]}"
