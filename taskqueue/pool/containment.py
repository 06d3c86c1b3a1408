"""Catches an unexpected error in a group: it costs that group a restart, and the other groups nothing.

1. The pool calls into a group inside `contained(group, "reload")`; the loop calls into it through a `ContainedLoop`.
2. The call raises, say `KeyError: 'counts'`, which nobody has foreseen.
3. The error is logged once, with its traceback and with what was being done.
4. `group.broke("…KeyError: 'counts'")`: what is left of the group's processes is killed; the group backs off.
5. The pool goes on, and serves the other groups.

It is for defects only. The group itself handles faults that are to be expected: no such user, no process to be had.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger(__name__)


class Breakable(Protocol):
    """A part that a defect may break, and that can start again."""

    @property
    def name(self) -> str:
        """The name in the log."""

    def broke(self, why: str) -> None:
        """End what is left, and try again later; `why` is one line."""


@contextmanager
def contained(group: Breakable, doing: str) -> Iterator[None]:
    """Run the body, a call into `group`; `doing` says for the log what that call was for."""
    try:
        yield
    except Exception as error:
        end_in(group, doing, error)


def end_in(group: Breakable, doing: str, error: Exception) -> None:
    """Log `error`, which came out of `group` while it was `doing` something, and let the group end and try again."""
    log.error("unexpected error: group=%s doing=%s", group.name, doing, exc_info=error)
    why = f"unexpected error in taskqueue ({doing}): {type(error).__name__}: {error}"
    try:
        group.broke(why)
    except Exception:
        log.exception("unexpected error: group=%s doing=%s", group.name, "ending what is left of it")
