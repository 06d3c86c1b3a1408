"""The command line that both daemons share: its options, the config file that it names, and its exit statuses.

`taskqueue-dispatcher --check` and `taskqueue-workerpool -f -c ./config.ini` are parsed here; then `run` calls the body
of that daemon. A fault of the config is printed, in one line, and never logged: there is no log yet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskqueue import __version__, plugins
from taskqueue.config.load import DEFAULT_PATH, Settings, load
from taskqueue.errors import ConfigError, DaemonError
from taskqueue.host.daemon import Options
from taskqueue.status.document import RUNTIME_DIR

OK, FAILURE, USAGE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Command:
    """A parsed command line, and a function that reads the config file that it names: again for each reload."""

    options: Options
    settings: Settings
    """The settings that the config had at the start."""
    load: Callable[[], Settings]


def run(name: str, description: str, argv: Sequence[str] | None, body: Callable[[Command], int]) -> int:
    """Parse `argv`, read the config, run `body`; gives the exit status: 0, 1 for a failure, 2 for usage or config."""
    arguments = _parser(name, description).parse_args(argv)
    path: Path | None = arguments.config

    def load_config() -> Settings:
        return load(str(path or DEFAULT_PATH), must_exist=path is not None, installed=plugins.installed().keys())

    pid_file: Path | None = arguments.pid_file
    runtime_dir = RUNTIME_DIR if pid_file is None else pid_file.parent
    options = Options(name, arguments.foreground, arguments.verbose, pid_file, runtime_dir)
    try:
        settings = load_config()
        groups = settings.groups(plugins.installed())
        if arguments.check:
            complain(name, *settings.warnings)
            print(f"{name}: config is valid: {settings.counted(len(groups))}")
            return OK
        return body(Command(options, settings, load_config))
    except ConfigError as error:
        complain(name, *error.faults)
        return USAGE
    except DaemonError as error:
        complain(name, str(error))
        return FAILURE


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=name, description=description, allow_abbrev=False)
    add = parser.add_argument
    add("-f", "--foreground", action="store_true", help="stay in the foreground, log to standard error")
    add("-c", "--config", type=_path, metavar="PATH", help=f"config file (default: {DEFAULT_PATH})")
    add("-p", "--pid-file", type=_path, metavar="PATH", help="pid file; sockets are made beside it")
    add("-v", "--verbose", action="store_true", help="log what is done in detail (level DEBUG)")
    add("--check", action="store_true", help="check the config and exit")
    add("--version", action="version", version=version_line(name))
    return parser


def _path(text: str) -> Path:
    return Path(text).absolute()  # the daemon's working directory is /


def version_line(name: str) -> str:
    """The line that `--version` prints."""
    return f"{name} {__version__}"


def complain(name: str, *lines: str) -> None:
    """Print `lines` on standard error, each with the name of the program."""
    for line in lines:
        print(f"{name}: {line}", file=sys.stderr)
