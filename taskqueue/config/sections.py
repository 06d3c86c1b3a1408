"""Sections of the config, merged from all files: the values of each, their origins, and which of them hold for a group.

Of `config.ini` with `[worker1]` and `time_limit: 5m` in line 8, and `conf.d/w.ini` with `[worker1]` and `user: bifh1`
in line 2, comes one `Section("worker1", values={"time_limit": 300.0, "user": "bifh1"}, own={}, origins={"time_limit":
("config.ini", 8), "user": ("conf.d/w.ini", 2), …})`. Faults between sections are for `config.rules` to find.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from taskqueue.config.inifile import Fault
from taskqueue.config.keys import GROUP, kind_of
from taskqueue.config.values import Raw


class Origin(NamedTuple):
    """The place in a file where a key, or a section's head, stands."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


class EffectiveValue(NamedTuple):
    """A value in force, and where it comes from."""

    key: str
    kind: str
    """The kind of value, as in the configspec; "" for a key that only the plugin knows, whose value is text."""
    value: Any
    origin: str
    """`path:line`, the name of an environment variable, or "" for a default."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section, merged from all files."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    """By key, checked and converted. `workers` is None where its value has a fault."""
    own: dict[str, Raw] = field(default_factory=dict)
    """Keys that only the plugin knows, as text or lists of text."""
    origins: dict[str, Origin] = field(default_factory=dict)
    """Of the first head, under the key "", and of each key's last mention."""

    @property
    def instances(self) -> tuple[str, ...]:
        """The instances that its `workers` names; none where `workers` is a number."""
        workers = self.values.get("workers")
        return workers if isinstance(workers, tuple) else ()

    @property
    def group_values(self) -> dict[str, Any]:
        """Its values for its groups: without a `workers` that names the groups, for that is no number for each."""
        return {key: value for key, value in self.values.items() if key != "workers" or not self.instances}

    def fault(self, text: str, key: str = "") -> Fault:
        """A fault of the section, or of one of its keys."""
        return Fault(*self.origins[key], f"[{self.name}] {key}: {text}" if key else f"[{self.name}]: {text}")


Sections = Mapping[str, Section]
"""By name."""


def layers(sections: Sections, worker_type: str, instance: str | None = None) -> tuple[Section, ...]:
    """The sections that a group takes its values from, the strongest last: [DEFAULT], its type's, its instance's.

    `worker_type` may be `DEFAULT`, for a type without a section. A type with the name of a reserved section has none.
    """
    names = ["DEFAULT"]
    if kind_of(worker_type) == GROUP:
        names += [worker_type] if instance is None else [worker_type, f"{worker_type}_{instance}"]
    return tuple(sections[name] for name in dict.fromkeys(names) if name in sections)


def effective(
    sections: Sections, defaults: Mapping[str, Any], worker_type: str, instance: str | None = None
) -> tuple[dict[str, Any], dict[str, Raw]]:
    """The values in force for a group, and the plugin's own keys."""
    values = dict(defaults)
    own: dict[str, Raw] = {}
    for section in layers(sections, worker_type, instance):
        values |= section.group_values
        own |= section.own
    return values, own
