"""What may be configured: sections, keys, their defaults and limits, and the rules between them.

`load` gives frozen, typed settings or one ConfigError with every fault of every file. The configspec below is the one
list of keys: parsing, limits, defaults and messages come from it, and a test holds `etc/config.ini` to it.

This module must never import a plugin, never log, and never put a password into a message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from taskqueue import inifile, kinds
from taskqueue.errors import ConfigError
from taskqueue.inifile import BadValue, Fault, Raw
from taskqueue.settings import AmqpSettings, DispatcherSettings, GroupSettings, LoggingSettings, WorkerpoolSettings

DEFAULT_PATH = "/etc/taskqueue/config.ini"
URL_VARIABLE = "TASKQUEUE_AMQP_URL"

# RabbitMQ keeps a message's or a queue's TTL in 32 bits of milliseconds: 49.7 days.
# https://www.rabbitmq.com/docs/ttl
CONFIGSPEC = {
    "amqp": """
        host = hosts(default="localhost")
        port = integer(1, 65535, default=None)
        user = text(1, 255, default="guest")
        passwd = text(0, 4096, default="guest")
        vhost = text(1, 255, default="/")
        heartbeat = seconds(0, 65535, default="60")
        ssl = boolean(default="no")
        ca_file = text(1, 4096, default=None)
        cert_file = text(1, 4096, default=None)
        key_file = text(1, 4096, default=None)
        queue_type = choice("quorum", "classic", default="quorum")
        ingress_queue_type = choice("classic", "quorum", default="classic")
        """,
    "dispatcher": """
        prefetch = integer(1, 65535, default="500")
        max_body = size(1, 512M, default="16 MiB")
        """,
    "workerpool": """
        plugins = plugins(default="*")
        stop_timeout = duration(0, 1d, default="30s")
        results_ttl = duration(1s, 49d, default="7d")
        """,
    "logging": """
        level = choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", default="INFO")
        target = choice("syslog", "stderr", default=None)
        format = choice("text", "json", default="text")
        """,
    "group": """
        workers = workers(0, 10000, default="1")
        user = unix_user(default=None)
        results_routing_key = routing_key(default="results")
        report_results = boolean(default="yes")
        max_retries = integer(0, 1000000, default="0")
        retry_delay = duration(0, 49d, default="1s")
        retry_max_delay = duration(0, 49d, default="1h")
        max_crashes = integer(1, 1000, default="3")
        soft_time_limit = duration(10ms, 365d, default=None)
        time_limit = duration(10ms, 365d, default=None)
        max_tasks = integer(1, 1000000000, default=None)
        max_memory = size(1M, 16384G, default=None)
        prefetch = prefetch(1, 65535, default="auto")
        concurrency = integer(1, 10000, default="1")
        preload = boolean(default="yes")
        """,
}
KEYS = {kind: inifile.keys(spec) for kind, spec in CONFIGSPEC.items()}
_DEFAULTS = {kind: inifile.validate({}, spec, kinds.CHECKS)[0] for kind, spec in CONFIGSPEC.items()}
RESERVED = ("amqp", "dispatcher", "workerpool", "logging")
"""Sections of taskqueue's own; all others but [DEFAULT] are worker types and their instances."""

_UNITS = {"duration": "_s", "seconds": "_s", "size": "_bytes"}


@dataclass(frozen=True, slots=True)
class _Section:
    """A section merged from all files. `at`: path and line of its first head ("") and of where each key was last said.

    A value of None in `values["workers"]` stands for one that has a fault.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Raw] = field(default_factory=dict)
    at: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def instances(self) -> tuple[str, ...]:
        workers = self.values.get("workers")
        return workers if isinstance(workers, tuple) else ()

    def settles(self, key: str) -> bool:
        """A type's `workers` that names instances says nothing of how many each has."""
        return key != "workers" or not self.instances

    def fault(self, text: str, key: str = "") -> Fault:
        return Fault(*self.at[key], f"[{self.name}] {key}: {text}" if key else f"[{self.name}]: {text}")


_Sections = Mapping[str, _Section]


class Said(NamedTuple):
    """A value in force, and where it was said: `path:line`, the environment variable, or nowhere: "" for a default."""

    key: str
    kind: str
    """The kind of value, as in the configspec; "" for a key that only the plugin knows, whose value is text."""
    value: Any
    where: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the files and the environment say. `warnings`: one line each, worth a log line, no reason to stop."""

    amqp: AmqpSettings
    dispatcher: DispatcherSettings
    workerpool: WorkerpoolSettings
    logging: LoggingSettings
    warnings: tuple[str, ...]
    _sections: _Sections = field(repr=False)
    _ours: Mapping[str, Mapping[str, Any]] = field(repr=False)
    """The values of each section of taskqueue's own, as its configspec has them."""
    _from_url: frozenset[str]
    """The keys of [amqp] that the environment has said."""

    def groups(self, installed: Iterable[str]) -> tuple[GroupSettings, ...]:
        """The groups to run, of the plugins `installed` and chosen by `[workerpool] plugins`, sorted by type.

        Groups with no workers are left out. Raises ConfigError for sections that are wrong given what is installed.
        """
        every = self.every_group(installed)
        return tuple(group for group in every if group.workers and self.is_chosen(group.worker_type))

    def every_group(self, installed: Iterable[str]) -> tuple[GroupSettings, ...]:
        """As `groups`, with those that are not to run."""
        types = sorted(set(installed))
        _refuse(_section_faults(self._sections, types, known=True))
        return tuple(group for name in types for group in self._groups_of(name))

    def is_chosen(self, worker_type: str) -> bool:
        """Whether `[workerpool] plugins` lets this type run."""
        return self.workerpool.plugins is None or worker_type in self.workerpool.plugins

    def types(self) -> tuple[str, ...]:
        """The worker types that have a section, whether or not they are installed."""
        claimed = {f"{name}_{each}" for name, section in self._sections.items() for each in section.instances}
        return tuple(sorted(self._sections.keys() - claimed - {*RESERVED, "DEFAULT"}))

    def files(self) -> tuple[str, ...]:
        """The files that have a section, in the order in which they were read."""
        return tuple(dict.fromkeys(path for section in self._sections.values() for path, _line in section.at.values()))

    def said(self, section: str) -> tuple[Said, ...]:
        """What holds in one of the `RESERVED` sections. The password is among it."""
        at = self._sections.get(section, _Section(section)).at
        return tuple(
            Said(key, kind, self._ours[section][key], URL_VARIABLE if self._is_of_url(section, key) else _at(at, key))
            for key, kind in KEYS[section].items()
        )

    def said_of_group(self, worker_type: str, instance: str | None = None) -> tuple[Said, ...]:
        """What holds for a group, of the type `DEFAULT` for one that has no section, and where each value was said."""
        values, own = _effective(self._sections, worker_type, instance)
        where: dict[str, str] = {}
        for layer in _layers(self._sections, worker_type, instance):
            where |= {key: _at(layer.at, key) for key in (*layer.values, *layer.own) if layer.settles(key)}
        known = (Said(key, kind, values[key], where.get(key, "")) for key, kind in KEYS["group"].items())
        return (*known, *(Said(key, "", value, where[key]) for key, value in own.items()))

    def sections_of(self, worker_type: str, instance: str | None = None) -> tuple[str, ...]:
        """The names of the sections that a group takes its values from, the strongest last."""
        return tuple(layer.name for layer in _layers(self._sections, worker_type, instance))

    def _is_of_url(self, section: str, key: str) -> bool:
        return section == "amqp" and key in self._from_url

    def _groups_of(self, worker_type: str) -> Iterator[GroupSettings]:
        section = self._sections.get(worker_type) if worker_type not in RESERVED else None
        for instance in (section.instances if section else ()) or (None,):
            values, own = _effective(self._sections, worker_type, instance)
            yield GroupSettings(worker_type, instance, own=own, **_fields("group", values))


def load(
    path: str = DEFAULT_PATH,
    *,
    environ: Mapping[str, str] = os.environ,
    must_exist: bool = False,
    installed: Iterable[str] = (),
    user_exists: Callable[[str], bool] | None = None,
) -> Settings:
    """The settings of `path`, of `conf.d/*.ini` beside it, and of the environment; without any, the defaults.

    Raises ConfigError with all faults at once. `installed` are the worker types that have a plugin, where the caller
    knows; without it, what depends on them is left to `Settings.groups`.
    """
    types = sorted(set(installed))
    exists = user_exists or kinds.user_exists
    checks: inifile.Checks = {**kinds.CHECKS, "unix_user": partial(kinds.unix_user, exists=exists)}
    blocks, faults = inifile.read_all(path, must_exist)
    sections, warnings = _merge(blocks, checks, faults)
    faults += _section_faults(sections, types, known=bool(types))
    ours = {kind: {**_DEFAULTS[kind], **(sections[kind].values if kind in sections else {})} for kind in RESERVED}
    faults += _amqp_faults(sections)
    of_url: dict[str, Any] = {}
    try:
        of_url = kinds.amqp_url(environ.get(URL_VARIABLE, "").strip())
    except BadValue as error:
        faults.append(Fault(URL_VARIABLE, 0, str(error)))
    ours["amqp"] |= of_url
    ours["amqp"]["port"] = ours["amqp"]["port"] or (5671 if ours["amqp"]["ssl"] else 5672)
    _refuse(faults)
    warnings += _section_warnings(sections, types)
    return Settings(
        _amqp(ours["amqp"]),
        DispatcherSettings(**_fields("dispatcher", ours["dispatcher"])),
        WorkerpoolSettings(**_fields("workerpool", ours["workerpool"])),
        LoggingSettings(**ours["logging"]),
        tuple(str(warning) for warning in sorted(warnings)),
        sections,
        ours,
        frozenset(of_url),
    )


def _refuse(faults: Iterable[Fault]) -> None:
    if lines := [str(fault) for fault in sorted(set(faults))]:
        raise ConfigError(lines)


def _fields(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` by the names of the dataclass, which end in the unit."""
    return {key + _UNITS.get(what, ""): values[key] for key, what in KEYS[kind].items()}


def _amqp(values: Mapping[str, Any]) -> AmqpSettings:
    fields = _fields("amqp", values)
    del fields["host"], fields["port"]
    return AmqpSettings(hosts=tuple((host, own or values["port"]) for host, own in values["host"]), **fields)


def _effective(sections: _Sections, name: str, instance: str | None = None) -> tuple[dict[str, Any], dict[str, Raw]]:
    """What holds for a group, and the plugin's own keys: [DEFAULT], then its type's section, then its instance's."""
    values = dict(_DEFAULTS["group"])
    own: dict[str, Raw] = {}
    for section in _layers(sections, name, instance):
        values |= {key: value for key, value in section.values.items() if section.settles(key)}
        own |= section.own
    return values, own


def _layers(sections: _Sections, name: str, instance: str | None) -> tuple[_Section, ...]:
    names = ("DEFAULT",) if name in RESERVED else ("DEFAULT", name, f"{name}_{instance}")
    return tuple(sections[each] for each in dict.fromkeys(names[: 3 if instance else 2]) if each in sections)


def _at(at: Mapping[str, tuple[str, int]], key: str) -> str:
    return "{}:{}".format(*at[key]) if key in at else ""


def _merge(
    blocks: Iterable[inifile.Block], checks: inifile.Checks, faults: list[Fault]
) -> tuple[dict[str, _Section], list[Fault]]:
    """The sections by name, a later file's keys over an earlier one's, and warnings; `faults` get those of values."""
    sections: dict[str, _Section] = {}
    warnings: list[Fault] = []
    for block in blocks:
        kind = block.name if block.name in RESERVED else "group"
        section = sections.setdefault(block.name, _Section(block.name))
        section.at.setdefault("", (block.path, block.line))
        section.at.update({key: (block.path, line) for key, line in block.lines.items()})
        values, wrong = inifile.validate(block.values, CONFIGSPEC[kind], checks)
        section.values.update({key: values[key] for key in values if key in block.values})
        faults += [section.fault(text, key) for key, text in wrong.items()]
        if "workers" in block.lines and "workers" not in section.values:
            section.values["workers"] = None
        for key in (key for key in block.lines if key not in KEYS[kind]):
            if kind != "group":
                near = inifile.did_you_mean(key, KEYS[kind])
                faults.append(section.fault(f"unknown key; expected one of {', '.join(KEYS[kind])}{near}", key))
                continue
            if key in block.values:
                section.own[key] = block.values[key]
            if near_key := inifile.nearest(key, KEYS[kind], 0.8):
                warnings.append(section.fault(f"left to the plugin; did you mean {near_key!r}?", key))
    return sections, warnings


# --- rules between sections -------------------------------------------------------------------------------------------


def _section_faults(sections: _Sections, installed: Iterable[str], *, known: bool) -> Iterator[Fault]:
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
        values, _own = _effective(sections, parent, instance)
        soft, hard = values["soft_time_limit"], values["time_limit"]
        if soft is not None and hard is not None and soft >= hard:
            said = [(layer, key) for layer in layers for key in ("soft_time_limit", "time_limit") if key in layer.at]
            yield said[0][0].fault(
                f"soft_time_limit is {soft:g} s, time_limit {hard:g} s; expected it to be less", said[0][1]
            )


def _instance_faults(
    types: _Sections, name: str, claimants: list[tuple[str, str | None]], is_type: bool
) -> Iterator[Fault]:
    """The section `name` is said to be an instance by each of `claimants`, (type, instance)."""
    meanings = [f"instance {instance!r} of [{parent}]" for parent, instance in claimants]
    if is_type or any(f"{name}_{each}" in types for each in types[name].instances):
        meanings.append("a type of its own")
    if len(meanings) > 1:
        yield types[name].fault(f"could be {' or '.join(meanings)}; expected only one: rename an instance")
    elif types[name].instances:
        yield types[name].fault("names instances in an instance; expected a whole number or auto", "workers")


def _orphan_faults(types: _Sections, section: _Section, installed: Iterable[str]) -> Iterator[Fault]:
    """A section that looks like an instance, but of a type that does not name it."""
    splits = [match.start() for match in re.finditer("_", section.name) if match.start()]
    for at in reversed(splits):
        parent, instance = section.name[:at], section.name[at + 1 :]
        if parent not in RESERVED and (parent in installed or parent in types):
            if parent not in types or types[parent].values.get("workers", 1) is not None:
                near = inifile.did_you_mean(instance, types[parent].instances if parent in types else ())
                yield section.fault(f"no section [{parent}] names {instance!r} in its workers; expected it to{near}")
            return


def _amqp_faults(sections: _Sections) -> Iterator[Fault]:
    section = sections.get("amqp", _Section("amqp"))
    for key, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if section.values.get(key) and not section.values.get(other):
            yield section.fault(f"given without {other}; expected both or none", key)


def _section_warnings(sections: _Sections, installed: list[str]) -> Iterator[Fault]:
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
    pool = sections.get("workerpool", _Section("workerpool"))
    for name in pool.values.get("plugins") or ():
        if installed and name not in installed:
            near = inifile.did_you_mean(name, installed)
            yield pool.fault(f"no plugin {name!r} is installed{near}", "plugins")
