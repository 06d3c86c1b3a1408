"""Becoming a daemon, as far as it goes without detaching: the log's target, the pid file, giving up root."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskqueue.config.settings import LoggingSettings
from taskqueue.errors import DaemonError
from taskqueue.host import daemon
from taskqueue.host.daemon import Options, daemonized, give_up_root, log_settings
from taskqueue.host.spawn import Identity

LOGGING = LoggingSettings("INFO", "syslog", "text")
WHO = Identity("worker", 1001, 1002, (1002, 1003), "/home/worker")


def options(path: Path | None = None, *, foreground: bool = True, verbose: bool = False) -> Options:
    """As the command line gives them."""
    return Options("taskqueue-dispatcher", foreground, verbose, path, Path("/run/taskqueue"))


@pytest.fixture
def undone() -> Iterator[None]:
    """Put back what a daemon changes in its process for good."""
    root, mask = logging.getLogger(), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    handlers, level, environ = root.handlers[:], root.level, dict(os.environ)
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.environ.clear()
    os.environ.update(environ)


@pytest.mark.parametrize(
    ("configured", "foreground", "in_journal", "target"),
    [
        (None, False, False, "syslog"),
        (None, False, True, "syslog"),
        (None, True, False, "stderr"),
        (None, True, True, "journal"),
        ("syslog", True, True, "syslog"),
        ("stderr", False, False, "stderr"),
    ],
)
def test_the_target_of_the_log(
    monkeypatch: pytest.MonkeyPatch, configured: str | None, foreground: bool, in_journal: bool, target: str
) -> None:
    monkeypatch.setattr(daemon.journal, "is_stream", lambda fd: in_journal)
    for verbose, level in ((False, "WARNING"), (True, "DEBUG")):
        settings = LoggingSettings("WARNING", configured, "json")
        found = log_settings(options(foreground=foreground, verbose=verbose), settings)
        assert found == LoggingSettings(level, target, "json")


def test_in_the_foreground(tmp_path: Path, undone: None, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "made" / "x.pid"
    with daemonized(options(path), LoggingSettings("INFO", "stderr", "text")) as log_fd:
        assert path.read_text() == f"{os.getpid()}\n"
        assert log_fd is not None and os.path.samestat(os.fstat(log_fd), os.fstat(2))
        logging.getLogger("taskqueue").info("it runs")
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert {signal.SIGTERM, signal.SIGINT, signal.SIGHUP} <= blocked, "the loop has no handlers yet"
        with pytest.raises(DaemonError, match="already running"), daemonized(options(path), LOGGING):
            raise AssertionError("two at a time")
    os.close(log_fd)
    assert not path.exists()
    assert capfd.readouterr().err.endswith(f" INFO taskqueue-dispatcher[{os.getpid()}]: it runs\n")


def test_in_the_foreground_without_a_pid_file(tmp_path: Path, undone: None) -> None:
    with daemonized(options(), LOGGING) as log_fd:
        assert log_fd is None and not list(tmp_path.iterdir())


def test_root_is_given_up_in_the_right_order(tmp_path: Path, undone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    for name in ("chown", "setgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, lambda *arguments, name=name: calls.append((name, *arguments)))
    give_up_root(WHO, tmp_path / "x.pid")
    assert calls == [
        ("chown", tmp_path / "x.pid", 1001, 1002),
        ("setgroups", (1002, 1003)),
        ("setresgid", 1002, 1002, 1002),
        ("setresuid", 1001, 1001, 1001),
    ]
    assert [os.environ[name] for name in ("HOME", "USER", "LOGNAME")] == ["/home/worker", "worker", "worker"]


@pytest.mark.parametrize("other", [True, False])
def test_the_user_changes_only_where_it_is_another(undone: None, monkeypatch: pytest.MonkeyPatch, other: bool) -> None:
    became: list[Identity] = []
    monkeypatch.setattr(daemon, "give_up_root", lambda who, path: became.append(who))
    monkeypatch.setattr(os, "geteuid", lambda: 0 if other else 1001)
    with daemonized(options(), LOGGING, become=WHO):
        assert became == ([WHO] if other else [])
