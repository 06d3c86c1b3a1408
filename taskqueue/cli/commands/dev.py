"""`taskqueue dev`: a private broker, both daemons and the plugins of a directory, in the foreground, until Ctrl-C.

A plugin author keeps it open in a terminal. All files that it makes are in one temporary directory, removed at the end.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.operator import Operator
from taskqueue.cli.trial.broker_guard import BrokerError
from taskqueue.cli.trial.private_broker import PrivateBroker
from taskqueue.cli.trial.site import Site, State
from taskqueue.config.load import URL_VARIABLE
from taskqueue.errors import PluginError, PoolUnavailable, TaskqueueError
from taskqueue.host import kernel
from taskqueue.host.spawn import identity
from taskqueue.status.document import read

_LOOK_S = 0.3
"""Seconds between two looks at the files; a change is seen at the second look after it."""
_START_S = 30.0
"""Seconds for the workerpool to answer; then the start has failed."""
_STOP_S = 10.0
"""Seconds between the signals that end a daemon: TERM, TERM, KILL."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOP_TIMEOUT = "2s"
"""Of the workerpool: an author does not want to wait for workitems that still run when the plugin changes."""


@click.command("dev", short_help="Run broker, daemons and the plugins of a directory.")
@operator_command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@click.option("-v", "--verbose", is_flag=True, help="Log what is done in detail.")
def command(operator: Operator, directory: Path, verbose: bool) -> int:
    """Run a private broker, dispatcher and workerpool with the plugins of DIRECTORY (default: the current one), a
    project or a directory of projects, in the foreground until Ctrl-C. Nothing has to be installed but what the
    plugins need themselves, rabbitmq-server, and the build backend of the projects (python3-setuptools).

    When a file changes, the workers of its plugin are replaced. The log is on standard error. The config is the one
    that -c names, or taskqueue's defaults; started as root, workers run as the owner of DIRECTORY.
    """
    if operator.config_path is not None:
        operator.load()  # reports its faults now, under its own name
    for number in _SIGNALS:
        signal.signal(number, _end)
    try:
        _run(operator, directory.resolve(), ["-v"] if verbose else [])
    except (PluginError, BrokerError) as error:  # a line of ours, then the output of another program
        first, _, rest = str(error).partition("\n")
        operator.show.note(first)
        if rest:
            operator.show.trace(rest)
    return 1


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """The first signal ends all in good order; the others change nothing."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _run(operator: Operator, root: Path, options: list[str]) -> NoReturn:
    with ExitStack() as stack:
        made = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskqueue-dev-")))
        made.chmod(0o755)
        (made / "site").mkdir(0o755)
        site = Site(root, made / "site")
        configure = partial(_configure, made, root, operator.config_path)
        state = site.state()
        types = site.build(state)
        path = configure(types)
        broker = stack.enter_context(PrivateBroker(made / "broker"))
        environ = _environment(site, broker)
        socket = made / "run" / "workerpool.sock"
        pid_file = ["-p", str(socket.with_suffix(".pid"))]
        daemons = {
            role: stack.enter_context(_daemon(role, ["-c", str(path), *options, *more], environ))
            for role, more in {"dispatcher": [], "workerpool": pid_file}.items()
        }
        _announce(operator, broker, socket, types, daemons)
        _Watch(operator, site, state, types, configure, daemons, broker).run()


def _configure(made: Path, root: Path, config: Path | None, types: Sequence[str]) -> Path:
    """Write the config and give its path. The file `config` is copied into its conf.d, is read after it and so wins."""
    lines = ["[workerpool]", f"plugins: {', '.join(types)},", f"stop_timeout: {_STOP_TIMEOUT}"]
    if os.geteuid() == 0:
        lines += ["[DEFAULT]", f"user: {_owner(root)}"]
    path = made / "config.ini"
    path.write_text("\n".join([*lines, ""]))
    path.chmod(0o644)
    if config is not None:
        copy = made / "conf.d" / "from-the-command-line.ini"
        copy.parent.mkdir(exist_ok=True)
        copy.touch(0o640)
        os.chown(copy, -1, identity(None).gid)  # the dispatcher's group: it may not be allowed to read the original
        copy.write_bytes(config.read_bytes())
    return path


def _owner(directory: Path) -> str:
    uid = directory.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise TaskqueueError(f"{directory}: its owner, uid {uid}, is no user of this host") from None


def _environment(site: Site, broker: PrivateBroker) -> dict[str, str]:
    path = [*map(str, site.path), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **os.environ,
        URL_VARIABLE: broker.url(),
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@contextmanager
def _daemon(role: str, options: Sequence[str], environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """One of the daemons, out of reach of the terminal's Ctrl-C; it dies with us, whatever ends us.

    The dispatcher is its own user from the start: to become another undoes that.
    """
    who = identity(None)
    become: dict[str, Any] = {}
    if role == "dispatcher" and who.uid != os.geteuid():
        become = {"user": who.uid, "group": who.gid, "extra_groups": who.groups}
    command = [sys.executable, "-P", "-m", f"taskqueue.cli.{role}", "--foreground", *options]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=environ, cwd="/", start_new_session=True,
        preexec_fn=partial(kernel.die_with_parent, signal.SIGKILL), **become,
    )  # fmt: skip
    try:
        yield process
    finally:
        for step in (process.terminate, process.terminate, process.kill):
            step()
            try:
                process.wait(_STOP_S)
                break
            except subprocess.TimeoutExpired:
                continue


def _announce(
    operator: Operator, broker: PrivateBroker, socket: Path, types: Sequence[str], daemons: Mapping[str, object]
) -> None:
    """Say where it is, once the pool answers."""
    deadline = time.monotonic() + _START_S
    while True:
        _still_runs(daemons)
        try:
            read(socket)
            break
        except PoolUnavailable as error:
            if time.monotonic() > deadline:
                raise TaskqueueError(f"not up after {_START_S:g} s: {error}") from None
            time.sleep(0.05)
    show = operator.show
    if show.as_json:
        show.document({"event": "running", "url": broker.url(), "socket": str(socket), "types": list(types)})
    show.line(f"running: {', '.join(types)}; Ctrl-C ends it. In another terminal:")
    show.line(f"  export {URL_VARIABLE}={broker.url()}")
    show.line(f"  taskqueue submit {types[0]} --wait BODY")


def _still_runs(daemons: Mapping[str, object]) -> None:
    for name, process in daemons.items():
        assert isinstance(process, subprocess.Popen)
        if process.poll() is not None:
            raise TaskqueueError(f"the {name} has ended: {kernel.exit_text(process.returncode)}; see its log above")


@dataclass(slots=True)
class _Watch:
    """Looks at the files, and has the daemons read anew what has changed."""

    operator: Operator
    site: Site
    state: State
    types: list[str]
    configure: Callable[[Sequence[str]], Path]
    daemons: Mapping[str, subprocess.Popen[bytes]]
    broker: PrivateBroker

    def run(self) -> NoReturn:
        """Until one of the daemons or the broker has ended, or an exception comes."""
        before, config = self.site.state(), self._config()
        while True:
            time.sleep(_LOOK_S)
            _still_runs(self.daemons)
            if not self.broker.running:
                raise TaskqueueError(f"the broker has ended:\n{self.broker.last_words()}")
            now = self.site.state()
            if now != self.state and now == before:  # an editor may still be writing
                self._changed(now)
            if self._config() != config:
                config = self._config()
                self.configure(self.types)
                self._reload("dispatcher", "workerpool")
            before = now

    def _changed(self, now: State) -> None:
        files = sorted(str(path) for path in now.keys() | self.state.keys() if now.get(path) != self.state.get(path))
        self.state = now
        show = self.operator.show
        if show.as_json:
            show.document({"event": "changed", "files": files})
        show.line(f"changed: {', '.join(files)}")
        try:
            self.types = self.site.build(now)
            self.configure(self.types)
        except PluginError as error:
            show.note(str(error).partition("\n")[0])
            show.trace(str(error).partition("\n")[2])
        else:
            self._reload("workerpool")

    def _reload(self, *names: str) -> None:
        for name in names:
            self.daemons[name].send_signal(signal.SIGHUP)

    def _config(self) -> tuple[int, int] | None:
        """The config that the command line names, as it is now."""
        if self.operator.config_path is None:
            return None
        try:
            status = self.operator.config_path.stat()
        except OSError:  # it is being replaced
            return None
        return status.st_mtime_ns, status.st_size
