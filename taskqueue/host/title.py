"""Process titles that an operator can read in `ps`; needs python3-setproctitle, and does nothing without it."""

from __future__ import annotations

try:
    from setproctitle import setproctitle
except ImportError:
    setproctitle = None


def set_title(title: str) -> None:
    """Show this process as `taskqueue: <title>`; what cannot be printed, in a client's `message_id`, as `?`."""
    if setproctitle is not None:
        if not title.isprintable():
            title = "".join(letter if letter.isprintable() else "?" for letter in title)
        setproctitle("taskqueue: " + title)
