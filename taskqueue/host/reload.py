"""The first step of a daemon's reload (SIGHUP): it reads its config again, and keeps the old one where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from taskqueue.errors import ConfigError

log = logging.getLogger(__name__)

T = TypeVar("T")


def reread(read: Callable[[], T]) -> T | None:
    """The value of `read()`. None where `read` raises: the reason is in the log, and the caller changes nothing."""
    try:
        return read()
    except ConfigError as error:
        for fault in error.faults:
            log.error("%s", fault)
        log.error("not reloaded: the config has %d faults; nothing was changed", len(error.faults))
    except Exception:  # a broken distribution, a full descriptor table: no reason to end a daemon that works
        log.exception("not reloaded: unexpected error; nothing was changed")
    return None
