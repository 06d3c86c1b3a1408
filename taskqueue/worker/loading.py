"""Imports a plugin. It runs plugin code: only in a template, a worker, or a process of the plugin's author."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

from taskqueue.errors import PluginError
from taskqueue.plugins import GROUP


def load_plugin(worker_type: str, entry_value: str) -> Callable[[], Any]:
    """Import a plugin and give what its entry point names: a factory or a class. Runs as the group's user.

    Raises whatever the plugin's import raises.
    """
    loaded = EntryPoint(worker_type, entry_value, GROUP).load()
    if not callable(loaded):
        raise PluginError(f"{entry_value} is {loaded!r:.80}; expected a class, or a callable that returns a worker")
    return loaded  # type: ignore[no-any-return]
