"""What makes a process of ours a daemon: it detaches, holds its pid file, logs, and gives up root.

The only user of python-daemon. It must never know which daemon it is.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import daemon

from taskqueue.config.settings import LoggingSettings
from taskqueue.host import journal
from taskqueue.host.logs import setup_logging
from taskqueue.host.pid_file import PidFile
from taskqueue.host.spawn import Identity

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; see section 8 of the design."""

    name: str
    """`taskqueue-dispatcher` or `taskqueue-workerpool`."""
    foreground: bool
    verbose: bool
    pid_file: Path | None
    """The pid file that was asked for."""
    runtime_dir: Path
    """Where sockets are, and the pid file where none was asked for."""


def log_settings(options: Options, settings: LoggingSettings) -> LoggingSettings:
    """The log settings in force: the target by mode where config names none, DEBUG with `--verbose`."""
    in_foreground = "journal" if journal.is_stream(2) else "stderr"
    target = settings.target or (in_foreground if options.foreground else "syslog")
    return replace(settings, target=target, level="DEBUG" if options.verbose else settings.level)


@contextmanager
def daemonized(options: Options, settings: LoggingSettings, become: Identity | None = None) -> Iterator[int | None]:
    """Run the body as a daemon, or in the foreground; gives the descriptor that the log goes to, if it is one.

    `become`: the user that runs the body, where that is not the one who started it. Raises `DaemonError` where
    another one runs, or the pid file cannot be written.
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
            files_preserve=[fd for fd in (log_fd, pid_file) if fd is not None],
            detach_process=True,
        )
    # From the pid file on signals may come; they wait until the loop has its handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    with context:
        setup_logging(in_force, options.name, log_fd)
        if become is not None and become.uid != os.geteuid():
            _become(become, pid_path)
        yield log_fd


def _become(who: Identity, pid_path: Path | None) -> None:
    """Give up root for good."""
    if pid_path is not None:
        os.chown(pid_path, who.uid, who.gid)
    os.setgroups(who.groups)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    os.environ.update(HOME=who.home, USER=who.name, LOGNAME=who.name)
