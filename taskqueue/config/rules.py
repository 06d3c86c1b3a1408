"""The rules of the config between sections: instances and their types, limits that depend on each other, strays.

Pure: it gives faults and warnings, and never judges a single value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from taskqueue.config import inifile
from taskqueue.config.inifile import Fault
from taskqueue.config.sections import RESERVED, Section, Sections, effective


def faults(
    sections: Sections, defaults: Mapping[str, Any], installed: Iterable[str], *, known: bool
) -> Iterator[Fault]:
    """What is wrong between sections. Not `known`: which plugins are installed is not known, so do not judge by it."""
    groups = {name: section for name, section in sections.items() if name not in RESERVED}
    types = {name: section for name, section in groups.items() if name != "DEFAULT"}
    claims: dict[str, list[tuple[str, str | None]]] = {}
    for name, section in types.items():
        for each in section.instances:
            claims.setdefault(f"{name}_{each}", []).append((name, each))
    if "DEFAULT" in groups and groups["DEFAULT"].instances:
        yield groups["DEFAULT"].fault("names instances; expected a whole number or auto", "workers")
    for name, claimants in claims.items():
        parent = claimants[0][0]
        if name in types:
            yield from _instance_faults(types, name, claimants, name in installed)
        elif parent not in claims:  # what an instance names is at fault already
            near = inifile.did_you_mean(name, (each for each in types if each.startswith(f"{parent}_")))
            yield types[parent].fault(f"no section [{name}]; expected a section for each instance{near}", "workers")
    for name, section in types.items():
        if known and name not in claims and name not in installed:
            yield from _orphan_faults(types, section, installed)
    for name in groups:
        parent, instance = claims.get(name, [(name, None)])[0]
        layers = [groups[each] for each in (name, parent, "DEFAULT") if each in groups]
        values, _own = effective(sections, defaults, parent, instance)
        soft, hard = values["soft_time_limit"], values["time_limit"]
        if soft is not None and hard is not None and soft >= hard:
            said = [(layer, key) for layer in layers for key in ("soft_time_limit", "time_limit") if key in layer.at]
            yield said[0][0].fault(
                f"soft_time_limit is {soft:g} s, time_limit {hard:g} s; expected it to be less", said[0][1]
            )


def _instance_faults(
    types: Sections, name: str, claimants: list[tuple[str, str | None]], is_type: bool
) -> Iterator[Fault]:
    """The section `name` is said to be an instance by each of `claimants`, (type, instance)."""
    meanings = [f"instance {instance!r} of [{parent}]" for parent, instance in claimants]
    if is_type or any(f"{name}_{each}" in types for each in types[name].instances):
        meanings.append("a type of its own")
    if len(meanings) > 1:
        yield types[name].fault(f"could be {' or '.join(meanings)}; expected only one: rename an instance")
    elif types[name].instances:
        yield types[name].fault("names instances in an instance; expected a whole number or auto", "workers")


def _orphan_faults(types: Sections, section: Section, installed: Iterable[str]) -> Iterator[Fault]:
    """A section that looks like an instance, but of a type that does not name it."""
    splits = [match.start() for match in re.finditer("_", section.name) if match.start()]
    for at in reversed(splits):
        parent, instance = section.name[:at], section.name[at + 1 :]
        if parent not in RESERVED and (parent in installed or parent in types):
            if parent not in types or types[parent].values.get("workers", 1) is not None:
                near = inifile.did_you_mean(instance, types[parent].instances if parent in types else ())
                yield section.fault(f"no section [{parent}] names {instance!r} in its workers; expected it to{near}")
            return


def amqp_faults(sections: Sections) -> Iterator[Fault]:
    """What is wrong between the keys of [amqp]."""
    section = sections.get("amqp", Section("amqp"))
    for key, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if section.values.get(key) and not section.values.get(other):
            yield section.fault(f"given without {other}; expected both or none", key)


def warnings(sections: Sections, installed: list[str]) -> Iterator[Fault]:
    """Sections and names that mean nothing, as far as is known."""
    claimed = {f"{name}_{each}" for name, section in sections.items() for each in section.instances}
    special = {*RESERVED, "DEFAULT"}
    for section in (sections[name] for name in sections.keys() - special - claimed - set(installed)):
        near = inifile.nearest(section.name, sorted(special), 0.8)
        if installed or near:
            means = f"; did you mean [{near}]?" if near else ""
            told = f"no plugin {section.name!r} is installed" if installed else "taken for a worker type"
            yield section.fault(told + means)
    for name in (name for name in installed if name in special):
        yield Fault(f"plugin {name!r}", 0, "has the name of a section of taskqueue's own; it runs with [DEFAULT]")
    pool = sections.get("workerpool", Section("workerpool"))
    for name in pool.values.get("plugins") or ():
        if installed and name not in installed:
            near = inifile.did_you_mean(name, installed)
            yield pool.fault(f"no plugin {name!r} is installed{near}", "plugins")
