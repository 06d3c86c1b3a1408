"""`taskqueue`: the operator's command. Finds the subcommand, and is the one place that turns errors into exit statuses.

Each subcommand is in a file of its own, which is imported only when it is asked for: a script that submits one
workitem does not load the code that draws tables.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from taskqueue import __version__
from taskqueue.cli.arguments.common_options import config_option, json_option
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.show import NAME
from taskqueue.cli.terminal.text import safe
from taskqueue.errors import (
    BookUnavailable,
    BrokerRefused,
    BrokerUnavailable,
    ConfigError,
    FrontUnavailable,
    ResultTimeout,
    TaskqueueError,
)

COMMANDS = {
    "submit": "submit",
    "status": "status",
    "results": "results",
    "why": "why",
    "dead": "dead",
    "purge": "purge",
    "doctor": "doctor",
    "plugins": "plugins",
    "run": "run",
    "check-plugin": "check_plugin",
    "dev": "dev",
    "config": "config",
    "tasks": "tasks",
    "queues": "queues",
    "http": "http",
}
"""Subcommands in the order in which help shows them, and the module of `taskqueue.cli.commands` that has each."""

OK = 0
STATUS: tuple[tuple[type[BaseException], int], ...] = (
    (ConfigError, 2),
    (BrokerUnavailable, 3),
    (BrokerRefused, 3),
    (FrontUnavailable, 3),
    (BookUnavailable, 3),
    (ResultTimeout, 4),
    (TaskqueueError, 1),
    (OSError, 1),
)
"""Exit statuses by error; the first that fits. Usage errors are click's: 2. Any other error is a defect of ours: a
traceback, and 1."""
INTERRUPTED = 128 + 2
BROKEN_PIPE = 128 + 13
"""As a shell reports a program that SIGINT or SIGPIPE has ended."""


class _Commands(click.Group):
    """Imports a subcommand when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"taskqueue.cli.commands.{COMMANDS[cmd_name]}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:  # before click sees it, which would say 1
            _no_more_output()
            return BROKEN_PIPE
        return status


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name=NAME, message="%(prog)s %(version)s")
@config_option
@json_option
@click.pass_context
def taskqueue(context: click.Context) -> None:
    """Submit workitems, see what becomes of them, and put right what is stuck.

    The broker is the one of the config file's [amqp], or of TASKQUEUE_AMQP_URL. Tables on a terminal, plain lines in a
    pipe, JSON with --json. Exit status: 0; 1 failed; 2 usage or config; 3 broker, front or book not reachable; 4 timed
    out; 130 after Ctrl-C.
    """
    context.ensure_object(Operator)


def main(argv: list[str] | None = None) -> int:
    """The console script; gives the exit status."""
    logging.getLogger("taskqueue").addHandler(logging.NullHandler())  # errors are raised; `Broker` shows the rest
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = taskqueue.main(argv, prog_name=NAME, standalone_mode=False)
    except click.Abort as abort:
        if not isinstance(abort.__context__, KeyboardInterrupt):
            _complain("not done")
            return 1
        _complain("interrupted")
        return INTERRUPTED
    except click.UsageError as error:
        if error.message.startswith("Usage: "):  # a group without arguments: the message is its help
            error.show()
        else:
            _complain(error.format_message(), error.ctx.command_path if error.ctx is not None else NAME)
        return error.exit_code
    except tuple(kind for kind, _ in STATUS) as error:
        for line in _lines(error):
            _complain(line)
        return next(status for kind, status in STATUS if isinstance(error, kind))
    return status if isinstance(status, int) else OK


def _lines(error: BaseException) -> Sequence[str]:
    if isinstance(error, ConfigError):
        return error.faults
    if isinstance(error, OSError) and error.strerror:
        return [f"{error.filename}: {error.strerror}" if error.filename else error.strerror]
    return [str(error)]


def _complain(line: str, name: str = NAME) -> None:
    print(f"{name}: {safe(line)}", file=sys.stderr)


def _no_more_output() -> None:
    """The reader of standard output has gone: the interpreter must not complain of it when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
