"""The group of our own plugin, `webhook`: its defaults, the keys that are its own, and what this host's front decides.

`[webhook]` with `targets_allow: 10.0.0.0/8` is an ordinary group, whose own keys reach the plugin as text. Two more do
that no file has: `auto_targets`, what `targets: auto` means here, and `own_listeners`, where a front of ours listens.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from taskqueue.config.http_settings import HttpSettings
from taskqueue.config.inifile import Fault
from taskqueue.config.keys import GROUP, KEYS
from taskqueue.config.sections import Section, Sections
from taskqueue.config.values import Raw, did_you_mean, items, nearest, user_exists
from taskqueue.targets.policy import parse_entry

WEBHOOK = "webhook"
"""The worker type, and so the section."""
USER = "taskqueue-webhook"
"""The unix user of its workers, where the package has made it."""
OWN_KEYS = ("targets", "targets_allow", "targets_deny", "secrets", "ca_file")
"""The keys that the plugin knows."""
_TARGETS = ("auto", "public", "private", "any")
_ENTRY_IS = "an address, a network such as 10.0.0.0/8, a name or *.name, each with or without :port"


def webhook_defaults(group: Mapping[str, Any], exists: Callable[[str], bool] = user_exists) -> dict[str, Any]:
    """The defaults of its group's keys; `group` are those of any group. Its workers wait for the network, many requests
    at a time. Only root can give them a unix user of their own, and only one that `exists`: a default is no fault."""
    own_user = USER if os.geteuid() == 0 and exists(USER) else None
    return {**group, "concurrency": 200, "user": own_user}


def webhook_faults(sections: Sections) -> Iterator[Fault]:
    """What is wrong in its own keys: the plugin would refuse it, and none of its workers start."""
    for section in _sections_of(sections):
        targets = section.own.get("targets", "auto")
        if targets not in _TARGETS:
            near = did_you_mean(targets, _TARGETS) if isinstance(targets, str) else ""
            given = "a list" if isinstance(targets, list) else f"{targets[:60]!r} is wrong"
            yield section.fault(f"{given}; expected one of {', '.join(_TARGETS)}{near}", "targets")
        for key in ("targets_allow", "targets_deny"):
            for each in items(section.own.get(key, [])):
                try:
                    parse_entry(each)
                except ValueError:
                    yield section.fault(f"{each[:60]!r} is wrong; expected {_ENTRY_IS}, or a list of them", key)
        for key in ("secrets", "ca_file"):
            path = section.own.get(key, "/")
            if not isinstance(path, str) or not path.startswith("/"):
                yield section.fault("no absolute path; expected that of a file", key)


def webhook_warnings(sections: Sections) -> Iterator[Fault]:
    """Keys that neither taskqueue nor its plugin knows: a misspelt `targets_deny` denies nothing."""
    for section in _sections_of(sections):
        for key in section.own.keys() - set(OWN_KEYS):
            if nearest(key, KEYS[GROUP], 0.8) is None:  # else there is a warning already
                near = did_you_mean(key, OWN_KEYS)
                yield section.fault(f"no key of this plugin's; expected one of {', '.join(OWN_KEYS)}{near}", key)


def _sections_of(sections: Sections) -> list[Section]:
    """Its own section, and those of its instances."""
    own = sections.get(WEBHOOK, Section(WEBHOOK))
    names = (WEBHOOK, *(f"{WEBHOOK}_{each}" for each in own.instances))
    return [sections[name] for name in names if name in sections]


def webhook_own(own: Mapping[str, Raw], http: HttpSettings, *, has_front: bool) -> dict[str, Raw]:
    """The plugin's own keys, `own`, with the two that this host's front decides.

    Private targets are reached, with `targets: auto`, where `has_front` and the front is not exposed: only people of
    this host can send it tasks.
    """
    reach = "private" if has_front and not http.exposed else "public"
    listening = [each for each in http.listen if not each.startswith("unix:")] if has_front else []
    return {**own, "auto_targets": reach, "own_listeners": listening}


def front_is_installed() -> bool:
    """Whether a front can run on this host. One that no section of the config names runs with the defaults, and these
    expose it to nobody."""
    return find_spec("aiohttp") is not None
