"""Sections of the config, merged from all files: what each says, where it says it, and which of them hold for a group.

Data. Which keys there are, and what is wrong between sections, is for `config` and `rules` to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from taskqueue.config.inifile import Fault, Raw

RESERVED = ("amqp", "dispatcher", "workerpool", "logging")
"""Sections of taskqueue's own; all others but [DEFAULT] are worker types and their instances."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section merged from all files. `at`: path and line of its first head ("") and of where each key was last said.

    A value of None in `values["workers"]` stands for one that has a fault.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Raw] = field(default_factory=dict)
    at: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def instances(self) -> tuple[str, ...]:
        """The instances that its `workers` names."""
        workers = self.values.get("workers")
        return workers if isinstance(workers, tuple) else ()

    def settles(self, key: str) -> bool:
        """A type's `workers` that names instances says nothing of how many each has."""
        return key != "workers" or not self.instances

    def fault(self, text: str, key: str = "") -> Fault:
        """What is wrong with it, or with one of its keys."""
        return Fault(*self.at[key], f"[{self.name}] {key}: {text}" if key else f"[{self.name}]: {text}")


Sections = Mapping[str, Section]


class Said(NamedTuple):
    """A value in force, and where it was said: `path:line`, the environment variable, or nowhere: "" for a default."""

    key: str
    kind: str
    """The kind of value, as in the configspec; "" for a key that only the plugin knows, whose value is text."""
    value: Any
    where: str


def effective(
    sections: Sections, defaults: Mapping[str, Any], name: str, instance: str | None = None
) -> tuple[dict[str, Any], dict[str, Raw]]:
    """What holds for a group, and the plugin's own keys: [DEFAULT], then its type's section, then its instance's."""
    values = dict(defaults)
    own: dict[str, Raw] = {}
    for section in layers(sections, name, instance):
        values |= {key: value for key, value in section.values.items() if section.settles(key)}
        own |= section.own
    return values, own


def layers(sections: Sections, name: str, instance: str | None) -> tuple[Section, ...]:
    """The sections that a group takes its values from, the strongest last."""
    names = ("DEFAULT",) if name in RESERVED else ("DEFAULT", name, f"{name}_{instance}")
    return tuple(sections[each] for each in dict.fromkeys(names[: 3 if instance else 2]) if each in sections)


def where(at: Mapping[str, tuple[str, int]], key: str) -> str:
    """`path:line` of a key; "" where it was not said."""
    return "{}:{}".format(*at[key]) if key in at else ""
