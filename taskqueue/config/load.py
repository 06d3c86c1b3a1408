"""Loads config.ini: frozen, typed settings, or one ConfigError with every fault of every file.

How one key goes from its file to the settings of a group, and on to a plugin:

1. `inifile.read_all` finds `time_limit: 5m` in line 8 of /etc/taskqueue/config.ini, below `[worker1]`: still a text.
2. `values.validate` checks the block by its entry in `keys.CONFIGSPEC`, and converts the text to 300.0.
3. The block is merged into `Section("worker1")`, where `conf.d/*.ini` may put another value over it.
4. `rules.faults` compares it with the `soft_time_limit` of the same group. If anything is wrong, `load` raises here.
5. `Settings.groups` takes the values in force for each group: `GroupSettings("worker1", time_limit_s=300.0, …)`.
6. In a worker `worker.execution.effective` has it as `time_limit` again: `self.settings["time_limit"]`.

This module must never import a plugin, never log, and never put a password into a message.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from taskqueue.config import amqp_url, inifile, rules
from taskqueue.config.http_load import http_settings
from taskqueue.config.http_rules import http_faults, http_warnings
from taskqueue.config.http_settings import HttpSettings
from taskqueue.config.inifile import Block, Fault
from taskqueue.config.keys import CONFIGSPEC, DEFAULTS, GROUP, KEYS, RESERVED, checks, kind_of
from taskqueue.config.sections import EffectiveValue, Origin, Section, Sections, effective, layers
from taskqueue.config.settings import (
    FIELD_OF_KEY,
    AmqpSettings,
    DispatcherSettings,
    GroupSettings,
    LoggingSettings,
    WorkerpoolSettings,
)
from taskqueue.config.values import BadValue, Checks, did_you_mean, nearest, user_exists, validate
from taskqueue.config.webhook_group import (
    WEBHOOK,
    front_is_installed,
    webhook_defaults,
    webhook_faults,
    webhook_own,
    webhook_warnings,
)
from taskqueue.errors import ConfigError

DEFAULT_PATH = "/etc/taskqueue/config.ini"
URL_VARIABLE = "TASKQUEUE_AMQP_URL"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
CREDENTIAL = "amqp_passwd"
"""The file with the broker's password that systemd puts there for its unit alone: `LoadCredential`, systemd.exec(5)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that files and environment give."""

    amqp: AmqpSettings
    dispatcher: DispatcherSettings
    workerpool: WorkerpoolSettings
    logging: LoggingSettings
    http: HttpSettings
    warnings: tuple[str, ...]
    """One line each, worth a log line, no reason to stop."""
    _sections: Sections = field(repr=False)
    _reserved: Mapping[str, Mapping[str, Any]] = field(repr=False)
    """The values in force in each section that is no group's, by key."""
    _from_environ: Mapping[str, str]
    """The keys of [amqp] that the environment gives, each with the name of its variable."""
    _webhook_defaults: Mapping[str, Any]
    """The defaults of the webhook plugin's group, by key."""

    def groups(self, installed: Iterable[str]) -> tuple[GroupSettings, ...]:
        """The groups to run, of the plugins `installed` and chosen by `[workerpool] plugins`, sorted by type.

        Groups without workers are left out. Raises `ConfigError` for sections that do not fit the plugins.
        """
        every = self.every_group(installed)
        return tuple(group for group in every if group.workers and self.is_chosen(group.worker_type))

    def every_group(self, installed: Iterable[str]) -> tuple[GroupSettings, ...]:
        """As `groups`, with those that are not to run."""
        types = sorted({name for name in installed if not rules.is_kept_for_http(name)})
        _refuse(rules.faults(self._sections, DEFAULTS[GROUP], types, known=True))
        return tuple(group for name in types for group in self._groups_of(name))

    def is_chosen(self, worker_type: str) -> bool:
        """Whether `[workerpool] plugins` lets this type run."""
        return self.workerpool.plugins is None or worker_type in self.workerpool.plugins

    def types(self) -> tuple[str, ...]:
        """The worker types that have a section, whether or not they are installed."""
        claimed = {f"{name}_{each}" for name, section in self._sections.items() for each in section.instances}
        groups = {name for name in self._sections if kind_of(name) == GROUP}
        return tuple(sorted(groups - claimed - {"DEFAULT"}))

    def counted(self, groups: int) -> str:
        """What a check has found, for people: `2 groups, 3 queues of tasks, 1 schedule`."""
        queues, schedules = len(self.http.queues), len(self.http.schedules)
        counts = ((groups, "group", ""), (queues, "queue", " of tasks"), (schedules, "schedule", ""))
        return ", ".join(f"{n} {what}{'' if n == 1 else 's'}{of}" for n, what, of in counts if n or what == "group")

    def http_sections(self) -> tuple[str, ...]:
        """The sections of the HTTP half that the files have: `http`, `http_…` and `schedule_…`."""
        return tuple(sorted(name for name in self._sections if rules.is_kept_for_http(name)))

    def files(self) -> tuple[str, ...]:
        """The files that have a section, in the order in which they were read."""
        origins = (origin for section in self._sections.values() for origin in section.origins.values())
        return tuple(dict.fromkeys(origin.path for origin in origins))

    def effective_of_section(self, section: str) -> tuple[EffectiveValue, ...]:
        """The values in force in a section that is no group's. The password is among those of [amqp]."""
        origins = {key: str(origin) for key, origin in self._sections.get(section, Section(section)).origins.items()}
        origins |= self._from_environ if section == "amqp" else {}
        return tuple(
            EffectiveValue(key, kind, self._reserved[section][key], origins.get(key, ""))
            for key, kind in KEYS[kind_of(section)].items()
        )

    def effective_of_group(self, worker_type: str, instance: str | None = None) -> tuple[EffectiveValue, ...]:
        """The values in force for a group; `worker_type` is `DEFAULT` for a type that has no section."""
        values, own = effective(self._sections, self._defaults_of(worker_type), worker_type, instance)
        origins: dict[str, str] = {}
        for layer in layers(self._sections, worker_type, instance):
            origins |= {key: str(layer.origins[key]) for key in (*layer.group_values, *layer.own)}
        known = (EffectiveValue(key, kind, values[key], origins.get(key, "")) for key, kind in KEYS[GROUP].items())
        return (*known, *(EffectiveValue(key, "", value, origins[key]) for key, value in own.items()))

    def sections_of(self, worker_type: str, instance: str | None = None) -> tuple[str, ...]:
        """The names of the sections that a group takes its values from, the strongest last."""
        return tuple(layer.name for layer in layers(self._sections, worker_type, instance))

    def _groups_of(self, worker_type: str) -> Iterator[GroupSettings]:
        section = self._sections.get(worker_type, Section(worker_type))
        for instance in section.instances or (None,):
            values, own = effective(self._sections, self._defaults_of(worker_type), worker_type, instance)
            if worker_type == WEBHOOK:
                has_front = bool(self.http_sections()) or front_is_installed()
                own = webhook_own(own, self.http, has_front=has_front)
            yield GroupSettings(worker_type, instance, own=own, **_fields(values))

    def _defaults_of(self, worker_type: str) -> Mapping[str, Any]:
        return self._webhook_defaults if worker_type == WEBHOOK else DEFAULTS[GROUP]


def load(
    path: str = DEFAULT_PATH,
    *,
    text: str | None = None,
    environ: Mapping[str, str] = os.environ,
    must_exist: bool = False,
    installed: Iterable[str] = (),
    user_exists: Callable[[str], bool] = user_exists,
) -> Settings:
    """The settings of `path`, of `conf.d/*.ini` beside it, and of the environment; without any, the defaults.

    With `text` no file is read: `text` stands for the file, and `path` only names it in faults. `installed` are the
    worker types that have a plugin, where the caller knows them; without them, faults that depend on them are left to
    `Settings.groups`. Raises `ConfigError` with all faults at once.
    """
    types = sorted(set(installed))
    if text is None:
        blocks, faults = inifile.read_all(path, must_exist)
    else:
        blocks, faults = inifile.parse(path, text.encode("utf-8", "surrogatepass"))
    merged = _merge(blocks, checks(user_exists))
    sections = merged.sections
    faults += [
        *merged.faults,
        *rules.faults(sections, DEFAULTS[GROUP], types, known=bool(types)),
        *rules.amqp_faults(sections),
    ]
    singular = dict.fromkeys((*RESERVED, *(name for name in sections if rules.is_kept_for_http(name))))
    reserved = {
        name: DEFAULTS[kind_of(name)] | (sections[name].values if name in sections else {}) for name in singular
    }
    faults += [*http_faults(sections, reserved), *webhook_faults(sections)]
    from_environ: dict[str, str] = {}
    for variable, read in ((CREDENTIALS_VARIABLE, _credential), (URL_VARIABLE, amqp_url.parse)):  # the last one wins
        try:
            found = read(environ.get(variable, "").strip())
            reserved["amqp"] |= found
            from_environ |= dict.fromkeys(found, variable)
        except BadValue as error:
            faults.append(Fault(variable, 0, str(error)))
    reserved["amqp"]["port"] = reserved["amqp"]["port"] or (5671 if reserved["amqp"]["ssl"] else 5672)
    _refuse(faults)
    warnings = [
        *merged.warnings,
        *rules.warnings(sections, types),
        *http_warnings(sections),
        *webhook_warnings(sections),
    ]
    return Settings(
        _amqp(reserved["amqp"]),
        DispatcherSettings(**_fields(reserved["dispatcher"])),
        WorkerpoolSettings(**_fields(reserved["workerpool"])),
        LoggingSettings(**_fields(reserved["logging"])),
        http_settings(reserved),
        tuple(str(warning) for warning in sorted(warnings)),
        sections,
        reserved,
        from_environ,
        webhook_defaults(DEFAULTS[GROUP]),
    )


def _credential(directory: str) -> dict[str, Any]:
    """The password, where the service manager gives one. Raises `BadValue` without it."""
    try:
        given = Path(directory, CREDENTIAL).read_text() if directory else None
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BadValue(f"{CREDENTIAL} cannot be read: {reason}; expected a file with the password") from None
    return {"passwd": given.removesuffix("\n")} if given is not None else {}


def _refuse(faults: Iterable[Fault]) -> None:
    """Raises `ConfigError` where there is any fault: one line for each, by file and line."""
    if lines := [str(fault) for fault in sorted(set(faults))]:
        raise ConfigError(lines)


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` by the fields of their dataclass instead of by their keys."""
    return {FIELD_OF_KEY.get(key, key): value for key, value in values.items()}


def _amqp(values: Mapping[str, Any]) -> AmqpSettings:
    fields = _fields(values)
    port = fields.pop("port")
    return AmqpSettings(hosts=tuple((host, own or port) for host, own in fields.pop("host")), **fields)


class _Merged(NamedTuple):
    sections: dict[str, Section]
    faults: list[Fault]
    """Of values and unknown keys."""
    warnings: list[Fault]


def _merge(blocks: Iterable[Block], kinds: Checks) -> _Merged:
    """The sections by name, with a later file's keys over those of an earlier one."""
    sections: dict[str, Section] = {}
    faults: list[Fault] = []
    warnings: list[Fault] = []
    for block in blocks:
        kind = kind_of(block.name)
        section = sections.setdefault(block.name, Section(block.name))
        section.origins.setdefault("", Origin(block.path, block.line))
        section.origins.update({key: Origin(block.path, line) for key, line in block.lines.items()})
        values, wrong = validate(block.values, CONFIGSPEC[kind], kinds)
        section.values.update({key: value for key, value in values.items() if key in block.values})
        faults += [section.fault(text, key) for key, text in wrong.items()]
        if "workers" in block.lines and "workers" not in section.values:
            section.values["workers"] = None
        for key in (key for key in block.lines if key not in KEYS[kind]):
            if kind != GROUP:
                near = did_you_mean(key, KEYS[kind])
                faults.append(section.fault(f"unknown key; expected one of {', '.join(KEYS[kind])}{near}", key))
                continue
            if key in block.values:
                section.own[key] = block.values[key]
            if near_key := nearest(key, KEYS[kind], 0.8):
                warnings.append(section.fault(f"left to the plugin; did you mean {near_key!r}?", key))
    return _Merged(sections, faults, warnings)
