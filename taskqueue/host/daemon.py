"""What makes a process of ours a daemon: detach, pid file with lock, log target, word to the service manager.

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
from daemon.pidfile import TimeoutPIDLockFile
from lockfile import LockFailed, LockTimeout

from taskqueue.config.settings import LoggingSettings
from taskqueue.errors import DaemonError
from taskqueue.host import journal
from taskqueue.host.logs import setup_logging
from taskqueue.host.spawn import Identity

log = logging.getLogger(__name__)

RUNTIME_DIR = Path("/run/taskqueue")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; see section 8 of the design."""

    name: str
    """`taskqueue-dispatcher` or `taskqueue-workerpool`."""
    foreground: bool
    verbose: bool
    pid_file: Path | None

    @property
    def runtime_dir(self) -> Path:
        """Where pid file and sockets are: beside the pid file that was asked for, else `/run/taskqueue`."""
        return self.pid_file.parent if self.pid_file is not None else RUNTIME_DIR


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
        pid_path = RUNTIME_DIR / f"{options.name.removeprefix('taskqueue-')}.pid"
    lock = _pid_file(pid_path, options.name) if pid_path is not None else nullcontext()
    context: AbstractContextManager[object] = lock
    if not options.foreground:
        context = daemon.DaemonContext(
            pidfile=lock,
            umask=0o022,
            signal_map={},  # the loop sets its own handlers
            files_preserve=[log_fd] if log_fd is not None else None,
            detach_process=True,
        )
    # From the pid file on signals may come; they wait until the loop has its handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    try:
        with context:
            setup_logging(in_force, options.name, log_fd)
            if become is not None and become.uid != os.geteuid():
                _become(become, pid_path)
            yield log_fd
    except (LockTimeout, LockFailed) as error:
        raise DaemonError(f"{pid_path}: cannot be written: {error}") from None


class _PidFile(TimeoutPIDLockFile):  # type: ignore[misc]
    """A pid file that is removed at the end; emptied, where its directory is not ours to change."""

    _fd = -1

    def acquire(self, *arguments: object, **keywords: object) -> None:
        super().acquire(*arguments, **keywords)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)

    def release(self) -> None:
        try:
            super().release()
        except OSError:
            os.ftruncate(self._fd, 0)
        os.close(self._fd)


def _pid_file(path: Path, name: str) -> _PidFile:
    """The pid file, checked now, while there is a terminal to complain to; raises `DaemonError`."""
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise DaemonError(f"{path.parent}: cannot be made: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK):
        raise DaemonError(f"{path}: cannot be written: {path.parent} is not writable by this user")
    lock = _PidFile(str(path), acquire_timeout=-1)
    pid = lock.read_pid()
    if pid is not None and _is_running(name, pid):
        raise DaemonError(f"already running: pid {pid} ({path})")
    if path.exists():  # its process is gone, or was cut off while it wrote
        lock.break_lock()
    return lock


def _is_running(name: str, pid: int) -> bool:
    """Whether `pid` lives and is the daemon `name`: after a reboot the number may be anybody's."""
    if pid == os.getpid():
        return False
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    role = name.removeprefix("taskqueue-")
    return any(form.encode() in command for form in (name, f"taskqueue: {role}", f"taskqueue.cli.{role}"))


def _become(who: Identity, pid_path: Path | None) -> None:
    """Give up root for good."""
    if pid_path is not None:
        os.chown(pid_path, who.uid, who.gid)
    os.setgroups(who.groups)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    os.environ.update(HOME=who.home, USER=who.name, LOGNAME=who.name)


# -- word to the service manager
