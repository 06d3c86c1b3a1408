"""The rules of the config between keys and sections: instances and their types, time limits, sections without a plugin.

An example of each kind: `workers: bifh1, bifh2` in [worker2] needs a section [worker2_bifh1] and a [worker2_bifh2];
`soft_time_limit` must be less than `time_limit`, whichever sections they come from; [ampq] gives a warning. This
module gives faults and warnings, and must never judge a value alone: `config.values` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from taskqueue.config.http_keys import http_kind_of
from taskqueue.config.inifile import Fault
from taskqueue.config.keys import GROUP, RESERVED, kind_of
from taskqueue.config.sections import Section, Sections, effective, layers
from taskqueue.config.values import did_you_mean, nearest

_Claims = Mapping[str, list[tuple[str, str]]]
"""By the name of a section: each (type, instance) whose `workers` says that the section is its instance."""


def faults(
    sections: Sections, defaults: Mapping[str, Any], installed: Iterable[str], *, known: bool
) -> Iterator[Fault]:
    """Every fault between the sections of groups; `defaults` are those of a group's keys.

    `installed` are the worker types that have a plugin; where the caller does not know them (not `known`), faults that
    depend on them are left out.
    """
    groups = {name: section for name, section in sections.items() if kind_of(name) == GROUP}
    types = {name: section for name, section in groups.items() if name != "DEFAULT"}
    claims = _claims(types)
    if "DEFAULT" in groups and groups["DEFAULT"].instances:
        yield groups["DEFAULT"].fault("names instances; expected a whole number or auto", "workers")
    for name, claimants in claims.items():
        parent = claimants[0][0]
        if name in types:
            yield from _instance_faults(types, name, claimants, name in installed)
        elif parent not in claims:  # else the fault is that an instance names instances, and there is one already
            near = did_you_mean(name, (each for each in types if each.startswith(f"{parent}_")))
            yield types[parent].fault(f"no section [{name}]; expected a section for each instance{near}", "workers")
    for name, section in types.items():
        if known and name not in claims and name not in installed:
            yield from _orphan_faults(types, section, installed)
    for name in groups:
        worker_type, instance = claims[name][0] if name in claims else (name, None)
        yield from _time_limit_faults(sections, defaults, worker_type, instance)


def _claims(types: Sections) -> _Claims:
    claims: dict[str, list[tuple[str, str]]] = {}
    for name, section in types.items():
        for instance in section.instances:
            claims.setdefault(f"{name}_{instance}", []).append((name, instance))
    return claims


def _instance_faults(types: Sections, name: str, claimants: list[tuple[str, str]], is_type: bool) -> Iterator[Fault]:
    """The section `name`, which is an instance, must be the instance of one type, and no type itself."""
    meanings = [f"instance {instance!r} of [{parent}]" for parent, instance in claimants]
    if is_type or any(f"{name}_{each}" in types for each in types[name].instances):
        meanings.append("a type of its own")
    if len(meanings) > 1:
        yield types[name].fault(f"could be {' or '.join(meanings)}; expected only one: rename an instance")
    elif types[name].instances:
        yield types[name].fault("names instances in an instance; expected a whole number or auto", "workers")


def _orphan_faults(types: Sections, section: Section, installed: Iterable[str]) -> Iterator[Fault]:
    """A section that has the name of an instance must be among its type's `workers`."""
    underscores = [match.start() for match in re.finditer("_", section.name) if match.start()]
    for at in reversed(underscores):
        parent, instance = section.name[:at], section.name[at + 1 :]
        if kind_of(parent) == GROUP and (parent in installed or parent in types):
            if parent not in types or types[parent].values.get("workers", 1) is not None:
                near = did_you_mean(instance, types[parent].instances if parent in types else ())
                yield section.fault(f"no section [{parent}] names {instance!r} in its workers; expected it to{near}")
            return


def _time_limit_faults(
    sections: Sections, defaults: Mapping[str, Any], worker_type: str, instance: str | None
) -> Iterator[Fault]:
    """A group's soft time limit must be less than its time limit; the fault is of the strongest section with either."""
    values, _own = effective(sections, defaults, worker_type, instance)
    soft_s, hard_s = values["soft_time_limit"], values["time_limit"]
    if soft_s is not None and hard_s is not None and soft_s >= hard_s:
        strongest_first = reversed(layers(sections, worker_type, instance))
        section, key = next(
            (section, key)
            for section in strongest_first
            for key in ("soft_time_limit", "time_limit")
            if key in section.origins
        )
        yield section.fault(f"soft_time_limit is {soft_s:g} s, time_limit {hard_s:g} s; expected it to be less", key)


def amqp_faults(sections: Sections) -> Iterator[Fault]:
    """Every fault between the keys of [amqp]."""
    section = sections.get("amqp", Section("amqp"))
    for key, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if section.values.get(key) and not section.values.get(other):
            yield section.fault(f"given without {other}; expected both or none", key)


def is_kept_for_http(name: str) -> bool:
    """Whether a section, or a worker type, of that name is one of the HTTP half's."""
    return http_kind_of(name) is not None


def _like_one_of_http(name: str) -> str | None:
    """`http_emails` for `http-emails`, `Http_emails` or `http.emails`; None for a name that is not like these."""
    found = re.fullmatch(r"(http|schedule)s?[_.-](.+)", name, re.IGNORECASE)
    return f"{found[1].lower()}_{found[2]}" if found else None


def warnings(sections: Sections, installed: list[str]) -> Iterator[Fault]:
    """Sections and plugins that are there without effect; fewer where it is not known which plugins are `installed`."""
    claimed = {f"{name}_{each}" for name, section in sections.items() for each in section.instances}
    special = {*RESERVED, "DEFAULT"}
    ours = {name for name in sections if is_kept_for_http(name)}
    for section in (sections[name] for name in sections.keys() - special - claimed - ours - set(installed)):
        near = _like_one_of_http(section.name) or nearest(section.name, sorted(special), 0.8)
        if installed or near:
            means = f"; did you mean [{near}]?" if near else ""
            reason = f"no plugin {section.name!r} is installed" if installed else "taken for a worker type"
            yield section.fault(reason + means)
    for name in filter(is_kept_for_http, installed):
        yield Fault(f"plugin {name!r}", 0, "has the name of a section of taskqueue's own; it is left out: rename it")
    for name in (name for name in installed if name in special and not is_kept_for_http(name)):
        yield Fault(f"plugin {name!r}", 0, "has the name of a section of taskqueue's own; it runs with [DEFAULT]")
    pool = sections.get("workerpool", Section("workerpool"))
    for name in pool.values.get("plugins") or ():
        if installed and name not in installed:
            near = did_you_mean(name, installed)
            yield pool.fault(f"no plugin {name!r} is installed{near}", "plugins")
