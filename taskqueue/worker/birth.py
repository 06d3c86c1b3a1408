"""The birth of a worker: what the child does between a fork of the template and its first workitem.

1. It asks the kernel for SIGKILL at the template's death, and ends at once if the template is dead already.
2. It leads a session of its own, so that a kill of its process group takes along what the plugin starts.
3. Its stdout and stderr become pipes, which the template reads into the log.
4. It closes what belongs to the template: links, loop, the other workers' pipes. Signals are as a plugin expects them.
5. It limits itself: descriptors, memory, core dumps. A mark says which worker it is, also on all that it will start.
6. It serves, and ends with `_exit(status)`.

It must never return into the template's code, whatever the plugin raises.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from os import _exit  # imported before a plugin can replace it
from pathlib import Path
from typing import NamedTuple, NoReturn

from taskqueue.host import cgroup, kernel
from taskqueue.link.exits import MEMORY


class Birth(NamedTuple):
    """Everything that a new worker gets from its template."""

    template_pid: int
    number: int
    """The worker's number in its template, from 1: its mark (`kernel.mark`)."""
    streams: tuple[int, int]
    """The writing ends of the pipes for stdout and stderr."""
    max_descriptors: int
    max_memory_bytes: int | None
    cgroup: Path | None
    """The worker's own cgroup, which limits its memory; None where RLIMIT_DATA has to, or where there is no limit."""


def become_worker(birth: Birth, leave_template: Callable[[], None], serve: Callable[[], int]) -> NoReturn:
    """Be a worker until `serve()` gives an exit status. `leave_template` closes what belongs to the template."""
    status = 1
    try:
        kernel.die_with_parent(signal.SIGKILL)
        if os.getppid() != birth.template_pid:
            _exit(1)
        os.setsid()
        for standard, stream in enumerate(birth.streams, start=1):
            os.dup2(stream, standard)
            os.close(stream)
        leave_template()
        _reset_signals()
        kernel.limit_descriptors(birth.max_descriptors)
        kernel.mark(birth.number)
        _limit_memory(birth.max_memory_bytes, birth.cgroup)
        status = serve()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except MemoryError:
        status = MEMORY
    except BaseException:
        traceback.print_exc()
    finally:
        for text in (sys.stdout, sys.stderr):
            with suppress(BaseException):  # the plugin may have replaced it by anything
                text.flush()
        _exit(status)


def _reset_signals() -> None:
    for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the pool


def _limit_memory(max_bytes: int | None, own: Path | None) -> None:
    if max_bytes is None:
        return
    if own is not None:
        cgroup.enter(own)
    else:
        resource.setrlimit(resource.RLIMIT_DATA, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
