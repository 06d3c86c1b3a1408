"""The descriptors that this process has open, for tests that nothing leaks."""

from __future__ import annotations

import gc
from pathlib import Path


def descriptors() -> set[str]:
    """Their numbers. What earlier tests have left to the garbage collector is closed first: it must not go between two
    calls, which are to be compared."""
    gc.collect()
    return {path.name for path in Path("/proc/self/fd").iterdir()}
