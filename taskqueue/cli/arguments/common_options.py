"""The options that every subcommand takes (`-c`, `--json`), and `--socket` of those that ask the workerpool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from taskqueue.cli.operator import Operator
from taskqueue.config.load import DEFAULT_PATH
from taskqueue.status import document

Function = Callable[..., Any]


def _set_config(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.ensure_object(Operator).config_path = value


def _set_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Operator).show.as_json = True


config_option = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="PATH",
    expose_value=False,
    is_eager=True,
    callback=_set_config,
    help=f"Config file (default: {DEFAULT_PATH}).",
)
json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_json,
    help="Print JSON: one document, or one a line where output never ends.",
)
socket_option = click.option(
    "--socket",
    type=click.Path(path_type=Path, readable=False),
    metavar="PATH",
    help=f"The workerpool's status socket (default: {document.SOCKET}).",
)
"""For the commands that ask the pool; the value is passed as `socket`, None by default."""


def operator_command(*, json: bool = True) -> Callable[[Function], Function]:
    """Decorate the function of a command, below `@click.command`: it is given the `Operator`, and `-c` and `--json`.

    `json=False` is for the one command whose own `--json` means something else.
    """

    def decorate(function: Function) -> Function:
        wrapped: Function = click.pass_obj(function)
        return config_option(json_option(wrapped) if json else wrapped)

    return decorate
