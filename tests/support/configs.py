"""Settings and faults of a config that a unit test writes as a text; no file is read, and no environment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from taskqueue.config.load import Settings, load
from taskqueue.config.settings import GroupSettings
from taskqueue.errors import ConfigError

EXAMPLES = 300 if os.environ.get("TASKQUEUE_SLOW_TESTS") == "1" else 60
"""Examples of each property, for hypothesis; CI runs all of them."""

AMQP_SECTION = "[amqp]\nhost: file\nport: 1\nuser: me\npasswd: mine\nvhost: there\nheartbeat: 5\nca_file: /ca\n"
"""A section with no default in it."""


def load_text(text: str, *, environ: Mapping[str, str] | None = None, installed: Iterable[str] = ()) -> Settings:
    """The settings of `text`, named config.ini, on a host with the users bifh1, bifh2 and root."""
    users = {"bifh1", "bifh2", "root"}
    return load("config.ini", text=text, environ=environ or {}, installed=installed, user_exists=users.__contains__)


def faults(text: str, *, environ: Mapping[str, str] | None = None, installed: Iterable[str] = ()) -> list[str]:
    """The faults of `text`, also those that only its groups show; none is an empty list."""
    try:
        load_text(text, environ=environ, installed=installed).groups(installed)
    except ConfigError as error:
        return list(error.faults)
    return []


def faults_whatever_is_installed(text: str) -> list[str]:
    """The faults of `text`, which are the same whether or not it is known which plugins are installed."""
    found = faults(text)
    assert faults(text, installed=("v", "w", "a", "a_b")) == found
    return found


def group(found: Settings, name: str = "w", installed: Iterable[str] = ("w",)) -> GroupSettings:
    """The group of that name."""
    return {each.name: each for each in found.groups(installed)}[name]
