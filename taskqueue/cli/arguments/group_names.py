"""Arguments that name groups of this host, running or not: `worker1`, or `worker2/bifh1` for one instance."""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

from taskqueue import plugins
from taskqueue.cli.operator import Operator
from taskqueue.config.settings import GroupSettings
from taskqueue.config.values import did_you_mean
from taskqueue.errors import ConfigError
from taskqueue.host.spawn import identity
from taskqueue.plugins import Plugin


def every(operator: Operator) -> tuple[GroupSettings, ...]:
    """All groups of the plugins that are installed; raises `ConfigError`."""
    return operator.host_settings.every_group(operator.plugins)


def choose(operator: Operator, names: Iterable[str]) -> list[GroupSettings]:
    """The groups that `names` name: each by its own name or, with its siblings, by its type; without names all groups.
    An unknown name is a usage error."""
    found = every(operator)
    known = list(dict.fromkeys(each for group in found for each in (group.worker_type, group.name)))
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            raise click.UsageError(
                f"no plugin {name!r} is installed; expected one of {', '.join(known) or '(there is none)'}{near}"
            )
    wanted = set(names)
    return [group for group in found if not wanted or wanted & {group.name, group.worker_type}]


def choose_one(operator: Operator, name: str) -> tuple[GroupSettings, Plugin]:
    """The one group that `name` names, and its plugin; a type with several instances is a usage error."""
    chosen = choose(operator, [name])
    if len(chosen) > 1:
        raise click.UsageError(f"{name} has instances; expected one of {', '.join(group.name for group in chosen)}")
    return chosen[0], operator.plugins[chosen[0].worker_type]


def user_of(group: GroupSettings) -> tuple[str | None, str]:
    """The unix user that the group's workers run as, and ""; or None, and the reason why they cannot."""
    try:
        return identity(group.user).name, ""
    except ConfigError as error:
        return None, str(error)


def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shell completion: the worker types that are installed."""
    return [
        CompletionItem(name, help=f"{plugin.distribution} {plugin.version}")
        for name, plugin in plugins.installed().items()
        if name.startswith(incomplete)
    ]
