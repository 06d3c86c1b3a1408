"""Titles of processes, for an operator who reads `ps`: `taskqueue: worker1 listener`.

They need the package python3-setproctitle; without it, the module does nothing.
"""

from __future__ import annotations

try:
    from setproctitle import setproctitle
except ImportError:
    setproctitle = None


def set_title(title: str) -> None:
    """Show this process as `taskqueue: <title>`. A title may hold a client's `message_id`: a letter that cannot be
    printed becomes `?`."""
    if setproctitle is not None:
        if not title.isprintable():
            title = "".join(letter if letter.isprintable() else "?" for letter in title)
        setproctitle("taskqueue: " + title)
