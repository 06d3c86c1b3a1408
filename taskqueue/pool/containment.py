"""The one place where an unexpected error in a group ends: it costs that group a restart, and the others nothing.

1. The pool calls into a group inside `contained(group, "reload")`; the loop calls into it through a `ContainedLoop`.
2. The call raises, say `KeyError: 'counts'`, which nobody has foreseen.
3. The error is logged once, with its traceback and with what was being done.
4. `group.broke("…KeyError: 'counts'")`: what is left of the group's processes is killed; the group backs off.
5. The pool goes on, and serves the other groups.

It is for defects only. The group itself handles faults that are to be expected: no such user, no process to be had.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from taskqueue.foundation.loop import Handler, Loop, Timer
from taskqueue.foundation.scheduler import Scheduler

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
        log.exception("unexpected error: group=%s doing=%s", group.name, doing)
        why = f"unexpected error in taskqueue ({doing}): {type(error).__name__}: {error}"
        try:
            group.broke(why)
        except Exception:
            log.exception("unexpected error: group=%s doing=%s", group.name, "ending what is left of it")


class ContainedLoop:
    """The loop as one group has it: each callback that the group registers runs `contained`."""

    READ = Loop.READ
    WRITE = Loop.WRITE

    def __init__(self, loop: Scheduler, group: Breakable) -> None:
        self._loop = loop
        self._group = group

    def add_handler(self, fd: int, handler: Handler, events: int) -> None:
        """Call `handler(fd, events)` when one of `events` happens."""

        def contained_handler(fd: int, events: int) -> None:
            with contained(self._group, _name_of(handler)):
                handler(fd, events)

        self._loop.add_handler(fd, contained_handler, events)

    def remove_handler(self, fd: int) -> None:
        """Forget `fd`."""
        self._loop.remove_handler(fd)

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once after `delay` seconds."""

        def contained_callback() -> None:
            with contained(self._group, _name_of(callback)):
                callback()

        return self._loop.call_later(delay, contained_callback)


def _name_of(callback: Callable[..., object]) -> str:
    """`Helper._on_readable`, for the log."""
    while isinstance(callback, partial):
        callback = callback.func
    return getattr(callback, "__qualname__", repr(callback))
