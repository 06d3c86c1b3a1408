"""The exit statuses of a worker that mean something, and how they are read. Data."""

from __future__ import annotations

FAILED = 70
"""Exit status of a worker whose factory or `setup` raised (EX_SOFTWARE of sysexits.h); it has sent the traceback."""

MEMORY = 71
"""Exit status after a MemoryError under `max_memory`: what is left of the heap is not to be trusted."""

LINK_LOST = 72
"""Exit status of a worker that can report no more: its plugin has closed or replaced its link, or left it without
descriptors."""

EXITS = {MEMORY: ": out of memory", LINK_LOST: ": it lost its link, or the descriptors to use it"}
"""What a status of ours means, to be read behind its number."""
