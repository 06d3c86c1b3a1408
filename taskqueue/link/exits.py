"""The exit statuses that a worker gives on purpose, and their meaning for a person. Data."""

from __future__ import annotations

FAILED = 70
"""Exit status of a worker whose factory or `setup` raised, and of a template whose import of the plugin did. The
traceback was sent before. The number is EX_SOFTWARE of sysexits.h."""

MEMORY = 71
"""Exit status of a worker after a MemoryError under `max_memory`: its heap is not to be trusted any more."""

LINK_LOST = 72
"""Exit status of a worker that cannot report any more: its plugin has closed or replaced the link, or left no free
descriptor for a large packet."""

EXITS = {MEMORY: ": out of memory", LINK_LOST: ": it lost its link, or the descriptors to use it"}
"""The meaning of such a status, to be written behind its number."""
