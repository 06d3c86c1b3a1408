"""Makes this process a daemon: detached, the only holder of its pid file, with its log set up, without root.

1. `daemonized` locks `/run/taskqueue/dispatcher.pid`, while there is still a terminal for an error message.
2. python-daemon detaches the process: two forks, a session of its own, working directory /. Not in the foreground.
3. The log is set up; then the process becomes the user `become`, for good.
4. The body runs. At its end, or when it raises, the pid file is removed.

This module is the only user of python-daemon. It must never know which daemon it makes.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import daemon

from taskqueue.config.settings import LoggingSettings
from taskqueue.errors import DaemonError
from taskqueue.host import journal
from taskqueue.host.logs import setup_logging
from taskqueue.host.pid_file import PidFile
from taskqueue.host.spawn import Identity

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """The options that all daemons have on their command line."""

    name: str
    """`taskqueue-dispatcher`, `taskqueue-workerpool` or `taskqueue-http`."""
    foreground: bool
    """Do not detach, and hold no pid file but one that `--pid-file` names."""
    verbose: bool
    """Log at level DEBUG, whatever the config has."""
    pid_file: Path | None
    """The path that `--pid-file` names."""
    runtime_dir: Path
    """The directory of the sockets, and of the pid file where the command line names none."""


def log_settings(options: Options, settings: LoggingSettings) -> LoggingSettings:
    """`settings` with a target and the level in force.

    Where the config names no target, a daemon logs to syslog. In the foreground the target is the journal, where
    standard error leads there, or else standard error.
    """
    in_foreground = "journal" if journal.is_stream(2) else "stderr"
    target = settings.target or (in_foreground if options.foreground else "syslog")
    return replace(settings, target=target, level="DEBUG" if options.verbose else settings.level)


@contextmanager
def daemonized(
    options: Options, settings: LoggingSettings, become: Identity | None = None, keep: Sequence[socket.socket] = ()
) -> Iterator[int | None]:
    """Run the body as a daemon, or in the foreground; gives the descriptor that the log goes to, None for syslog and
    journal.

    The body runs as the user `become`, or else as the user who started it; of what is open, the sockets `keep` stay so.
    Raises `DaemonError` where another process holds the pid file, or where that cannot be written; one that the body
    raises is logged where no terminal is left to read it.
    """
    in_force = log_settings(options, settings)
    log_fd = os.dup(2) if in_force.target == "stderr" else None
    pid_path = options.pid_file
    if pid_path is None and not options.foreground:
        pid_path = options.runtime_dir / f"{options.name.removeprefix('taskqueue-')}.pid"
    pid_file = PidFile(pid_path) if pid_path is not None else None
    context: AbstractContextManager[object] = pid_file or nullcontext()
    if not options.foreground:
        context = daemon.DaemonContext(
            pidfile=pid_file,
            umask=0o022,
            signal_map={},  # the loop sets its own handlers
            files_preserve=[each for each in (log_fd, pid_file, *keep) if each is not None],
            detach_process=True,
        )
    # A reader of the pid file may send signals from now on: they wait until the loop has its handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    with context:
        setup_logging(in_force, options.name, log_fd)
        if become is not None and become.uid != os.geteuid():
            give_up_root(become, pid_path)
        try:
            yield log_fd
        except DaemonError as error:
            if not options.foreground:
                log.critical("%s", error)
            raise


def give_up_root(who: Identity, pid_path: Path | None) -> None:
    """Become `who` for good: in this order, for each step needs the rights that the next one gives up."""
    if pid_path is not None:
        os.chown(pid_path, who.uid, who.gid)
    os.setgroups(who.groups)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    os.environ.update(HOME=who.home, USER=who.name, LOGNAME=who.name)
