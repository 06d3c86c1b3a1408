"""What may be configured: sections, keys, their defaults and limits, and the rules between them.

`load` gives frozen, typed settings or one ConfigError with every fault of every file. The configspec below is the one
list of keys: parsing, limits, defaults and messages come from it, and a test holds `etc/config.ini` to it.

This module must never import a plugin, never log, and never put a password into a message.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from taskqueue.config import inifile, kinds, rules
from taskqueue.config.inifile import BadValue, Fault
from taskqueue.config.sections import RESERVED, Said, Section, Sections, effective, layers, where
from taskqueue.config.settings import (
    AmqpSettings,
    DispatcherSettings,
    GroupSettings,
    LoggingSettings,
    WorkerpoolSettings,
)
from taskqueue.errors import ConfigError

DEFAULT_PATH = "/etc/taskqueue/config.ini"
URL_VARIABLE = "TASKQUEUE_AMQP_URL"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
CREDENTIAL = "amqp_passwd"
"""The file with the broker's password that systemd puts there for its unit alone: `LoadCredential`, systemd.exec(5)."""

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
        target = choice("syslog", "journal", "stderr", default=None)
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
_UNITS = {"duration": "_s", "seconds": "_s", "size": "_bytes"}


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the files and the environment say. `warnings`: one line each, worth a log line, no reason to stop."""

    amqp: AmqpSettings
    dispatcher: DispatcherSettings
    workerpool: WorkerpoolSettings
    logging: LoggingSettings
    warnings: tuple[str, ...]
    _sections: Sections = field(repr=False)
    _ours: Mapping[str, Mapping[str, Any]] = field(repr=False)
    """The values of each section of taskqueue's own, as its configspec has them."""
    _of_environ: Mapping[str, str]
    """The keys of [amqp] that the environment has said, and by which variable."""

    def groups(self, installed: Iterable[str]) -> tuple[GroupSettings, ...]:
        """The groups to run, of the plugins `installed` and chosen by `[workerpool] plugins`, sorted by type.

        Groups with no workers are left out. Raises ConfigError for sections that are wrong given what is installed.
        """
        every = self.every_group(installed)
        return tuple(group for group in every if group.workers and self.is_chosen(group.worker_type))

    def every_group(self, installed: Iterable[str]) -> tuple[GroupSettings, ...]:
        """As `groups`, with those that are not to run."""
        types = sorted(set(installed))
        _refuse(rules.faults(self._sections, _DEFAULTS["group"], types, known=True))
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
        at = self._sections.get(section, Section(section)).at
        of_environ = self._of_environ if section == "amqp" else {}
        return tuple(
            Said(key, kind, self._ours[section][key], of_environ.get(key) or where(at, key))
            for key, kind in KEYS[section].items()
        )

    def said_of_group(self, worker_type: str, instance: str | None = None) -> tuple[Said, ...]:
        """What holds for a group, of the type `DEFAULT` for one that has no section, and where each value was said."""
        values, own = effective(self._sections, _DEFAULTS["group"], worker_type, instance)
        said: dict[str, str] = {}
        for layer in layers(self._sections, worker_type, instance):
            said |= {key: where(layer.at, key) for key in (*layer.values, *layer.own) if layer.settles(key)}
        known = (Said(key, kind, values[key], said.get(key, "")) for key, kind in KEYS["group"].items())
        return (*known, *(Said(key, "", value, said[key]) for key, value in own.items()))

    def sections_of(self, worker_type: str, instance: str | None = None) -> tuple[str, ...]:
        """The names of the sections that a group takes its values from, the strongest last."""
        return tuple(layer.name for layer in layers(self._sections, worker_type, instance))

    def _groups_of(self, worker_type: str) -> Iterator[GroupSettings]:
        section = self._sections.get(worker_type) if worker_type not in RESERVED else None
        for instance in (section.instances if section else ()) or (None,):
            values, own = effective(self._sections, _DEFAULTS["group"], worker_type, instance)
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
    faults += rules.faults(sections, _DEFAULTS["group"], types, known=bool(types))
    ours = {kind: {**_DEFAULTS[kind], **(sections[kind].values if kind in sections else {})} for kind in RESERVED}
    faults += rules.amqp_faults(sections)
    of_environ: dict[str, str] = {}
    for variable, read in ((CREDENTIALS_VARIABLE, _credential), (URL_VARIABLE, kinds.amqp_url)):  # the last one wins
        try:
            found = read(environ.get(variable, "").strip())
            ours["amqp"] |= found
            of_environ |= dict.fromkeys(found, variable)
        except BadValue as error:
            faults.append(Fault(variable, 0, str(error)))
    ours["amqp"]["port"] = ours["amqp"]["port"] or (5671 if ours["amqp"]["ssl"] else 5672)
    _refuse(faults)
    warnings += rules.warnings(sections, types)
    return Settings(
        _amqp(ours["amqp"]),
        DispatcherSettings(**_fields("dispatcher", ours["dispatcher"])),
        WorkerpoolSettings(**_fields("workerpool", ours["workerpool"])),
        LoggingSettings(**ours["logging"]),
        tuple(str(warning) for warning in sorted(warnings)),
        sections,
        ours,
        of_environ,
    )


def _credential(directory: str) -> dict[str, Any]:
    """The password, where the service manager gives one. Raises BadValue, without it."""
    try:
        given = Path(directory, CREDENTIAL).read_text() if directory else None
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BadValue(f"{CREDENTIAL} cannot be read: {what}; expected a file with the password") from None
    return {"passwd": given.removesuffix("\n")} if given is not None else {}


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


def _merge(
    blocks: Iterable[inifile.Block], checks: inifile.Checks, faults: list[Fault]
) -> tuple[dict[str, Section], list[Fault]]:
    """The sections by name, a later file's keys over an earlier one's, and warnings; `faults` get those of values."""
    sections: dict[str, Section] = {}
    warnings: list[Fault] = []
    for block in blocks:
        kind = block.name if block.name in RESERVED else "group"
        section = sections.setdefault(block.name, Section(block.name))
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
