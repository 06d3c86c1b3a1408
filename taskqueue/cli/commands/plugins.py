"""`taskqueue plugins`: the plugins that are installed, whether they are enabled and import, and their settings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from taskqueue.cli.arguments import group_names
from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.columns import Column
from taskqueue.cli.terminal.effective_values import Row, as_json, show_values
from taskqueue.cli.trial.trial import Trial
from taskqueue.config.settings import GroupSettings
from taskqueue.errors import ConfigError, PluginError
from taskqueue.operations.wording import last_line
from taskqueue.plugins import Plugin

_COLUMNS = (
    Column("group", style="bold"),
    Column("distribution"),
    Column("version"),
    Column("entry_point"),
    Column("enabled", styles={"yes": "green"}),
    Column("workers", right=True),
    Column("user"),
    Column("imports", styles={"yes": "green"}, style="bold red"),
    Column("sections"),
)
_WIDE = ("entry_point", "sections")
"""Left out on a terminal with less than this many characters in a line, unless a type is named."""
_WIDTH = 120
_YES = "yes"


@dataclass(frozen=True, slots=True)
class _Found:
    """A group, and what became of the import of its plugin."""

    group: GroupSettings
    plugin: Plugin
    enabled: str
    """`yes`, or why not."""
    imports: str
    """`yes`, `not tried`, or the last line of the error."""
    trace: str

    @property
    def is_at_fault(self) -> bool:
        return self.enabled == _YES and self.imports != _YES


@click.command("plugins", short_help="List the plugins that are installed; try their import.")
@operator_command()
@click.argument("names", metavar="[TYPE]...", nargs=-1, shell_complete=group_names.complete)
@click.option("--no-import", is_flag=True, help="Do not try whether they import.")
def command(operator: Operator, names: Sequence[str], no_import: bool) -> int:
    """List the plugins that are installed on this host: distribution, version, entry point, whether the config enables
    them, how many workers they have, whether they import (tried in a process of its own, as the group's user), and
    which sections of the config apply.

    For each TYPE that is named, also every setting and where it was said, and the traceback of an import that failed.
    Exit status 1 where one that is enabled does not import.
    """
    chosen = group_names.choose(operator, names)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = list(pool.map(partial(_look, operator, not no_import), chosen))
    show = operator.show
    for warning in operator.host_settings.warnings:
        show.note(warning)
    if show.as_json:
        show.document([_document(operator, each) for each in found])
    else:
        narrow = show.on_terminal and not names and show.width < _WIDTH
        shown = [column for column in _COLUMNS if not (narrow and column.key in _WIDE)]
        show.table(shown, ([cells[column.key] for column in shown] for cells in map(partial(_cells, operator), found)))
        if not found:
            show.note("no plugin is installed (entry points worker.plugins)")
        if names:
            show.line("")
            show_values(show, (row for each in found for row in _settings(operator, each.group)))
        for each in found:
            if each.trace and names:
                show.note(f"{each.group.name} does not import:")
                show.trace(each.trace)
    return int(any(each.is_at_fault for each in found) and not no_import)


def _look(operator: Operator, with_import: bool, group: GroupSettings) -> _Found:
    plugin = operator.plugins[group.worker_type]
    enabled = _YES
    if not group.workers:
        enabled = "no: workers is 0"
    elif not operator.host_settings.is_chosen(group.worker_type):
        enabled = "no: not in [workerpool] plugins"
    imports, trace = _import(group, plugin) if with_import else ("not tried", "")
    return _Found(group, plugin, enabled, imports, trace)


def _import(group: GroupSettings, plugin: Plugin) -> tuple[str, str]:
    try:
        with Trial(group, plugin) as trial:
            trial.imported()
    except ConfigError as error:
        return f"not tried: {error}", ""
    except PluginError as error:
        return last_line(str(error)), str(error)
    return _YES, ""


def _settings(operator: Operator, group: GroupSettings) -> Iterator[Row]:
    values = operator.host_settings.effective_of_group(group.worker_type, group.instance)
    return ((group.name, value) for value in values)


def _cells(operator: Operator, found: _Found) -> dict[str, Any]:
    group, plugin = found.group, found.plugin
    sections = operator.host_settings.sections_of(group.worker_type, group.instance)
    user, _why_not = group_names.user_of(group)
    row = (
        group.name, plugin.distribution, plugin.version, plugin.entry_value, found.enabled, group.workers,
        user or group.user, found.imports, ", ".join(f"[{each}]" for each in sections) or None,
    )  # fmt: skip
    return dict(zip((column.key for column in _COLUMNS), row, strict=True))


def _document(operator: Operator, found: _Found) -> dict[str, Any]:
    group = found.group
    return {
        **_cells(operator, found),
        "worker_type": group.worker_type,
        "instance": group.instance,
        "enabled": found.enabled == _YES,
        "imports": {_YES: True, "not tried": None}.get(found.imports, False),
        "error": None if found.imports in {_YES, "not tried"} else found.imports,
        "trace": found.trace or None,
        "sections": operator.host_settings.sections_of(group.worker_type, group.instance),
        "settings": as_json(_settings(operator, group)),
    }
