"""How thorough a test is: a few cases at a desk, all of them in CI (`TASKQUEUE_SLOW_TESTS=1`)."""

from __future__ import annotations

import os

SLOW = os.environ.get("TASKQUEUE_SLOW_TESTS") == "1"
"""Whether what takes long is to be run."""


def examples(all_of_them: int) -> int:
    """Hypothesis examples of a property: all of them in CI, a fifth otherwise."""
    return all_of_them if SLOW else max(20, all_of_them // 5)
