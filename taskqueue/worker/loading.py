"""Imports a plugin, and so runs its code: only in a template, in a worker, or in a process of the plugin's author.

It must never be loaded by a process that has rights or credentials: `taskqueue.plugins` finds plugins for those.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

from taskqueue.errors import PluginError
from taskqueue.plugins import GROUP


def load_plugin(worker_type: str, entry_value: str) -> Callable[[], Any]:
    """Import a plugin; gives what its entry point names, a factory or a class.

    `entry_value` is `package.module:object`. Raises whatever the import raises, and `PluginError` for an object that
    cannot be called.
    """
    loaded = EntryPoint(worker_type, entry_value, GROUP).load()
    if not callable(loaded):
        raise PluginError(f"{entry_value} is {loaded!r:.80}; expected a class, or a callable that returns a worker")
    return loaded  # type: ignore[no-any-return]
