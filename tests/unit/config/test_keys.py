"""The table of keys: the shipped etc/config.ini, and the fields of the settings, have exactly its keys."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace
from pathlib import Path

import pytest

from configs import group, load_text
from taskqueue.config.http_keys import HTTP, HTTP_QUEUE, SCHEDULE
from taskqueue.config.http_settings import HttpSettings, QueueSettings, RetrySettings, ScheduleSettings
from taskqueue.config.keys import DEFAULTS, GROUP, KEYS, RESERVED, kind_of
from taskqueue.config.settings import (
    FIELD_OF_KEY,
    KEY_OF_FIELD,
    AmqpSettings,
    DispatcherSettings,
    GroupSettings,
    LoggingSettings,
    WorkerpoolSettings,
)
from taskqueue.config.webhook_group import OWN_KEYS
from taskqueue.targets.policy import make_policy

SHIPPED = (Path(__file__).resolve().parents[3] / "etc/config.ini").read_text()
SUFFIXES = {"duration": "_s", "seconds": "_s", "size": "_bytes"}
"""What the field of a key ends in, by the kind of its value."""
RETRY = {"max_attempts", "max_age", "min_backoff", "max_backoff", "max_doublings"}
"""The keys of a queue that are in `RetrySettings`."""


def uncommented(text: str) -> str:
    return re.sub(r"^;", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("text", [SHIPPED, uncommented(SHIPPED)], ids=["as it is", "uncommented"])
def test_the_shipped_file_gives_the_defaults_and_so_does_each_line_of_it_uncommented(text: str) -> None:
    defaults, found = load_text(""), load_text(text)
    assert (found.amqp, found.dispatcher, found.workerpool) == (defaults.amqp, defaults.dispatcher, defaults.workerpool)
    assert (found.logging, found.groups(["w"])) == (defaults.logging, defaults.groups(["w"]))
    assert replace(found.http, queues=(), schedules=()) == defaults.http
    assert found.http.queues in [(), (QueueSettings("default"),)]
    assert [warning for warning in found.warnings if "[schedule_nightly]" not in warning] == []


def test_the_examples_in_the_shipped_file() -> None:
    found = load_text(uncommented(SHIPPED))
    url = "https://reports.example/nightly"
    assert found.http.schedules == (ScheduleSettings("nightly", cron="0 3 * * *", url=url),)
    own = dict(group(found, "webhook", ("webhook",)).own)
    assert own.keys() - {"auto_targets", "own_listeners"} == {"targets", "targets_allow", "targets_deny", "secrets"}
    assert make_policy("public", allow=own["targets_allow"], deny=[str(own["targets_deny"])]).allow


def test_the_shipped_file_names_each_key_once_in_its_section() -> None:
    named: dict[str, list[str]] = {}
    for line in uncommented(SHIPPED).splitlines():
        if match := re.match(r"\[(\w+)\]", line):
            kind = "webhook" if match[1] == "webhook" else kind_of(match[1])
            keys = named.setdefault(kind, [])
        elif match := re.match(r"(\w+):", line):
            keys.append(match[1])
    assert set(named.pop("webhook")) == set(OWN_KEYS) - {"ca_file"}
    assert named == {kind: list(keys) for kind, keys in KEYS.items()}


def test_a_default_for_each_key() -> None:
    assert DEFAULTS.keys() == KEYS.keys()
    assert {kind: values.keys() for kind, values in DEFAULTS.items()} == {
        kind: keys.keys() for kind, keys in KEYS.items()
    }


@pytest.mark.parametrize(
    ("settings", "kind", "without_a_key", "without_a_field"),
    [
        (AmqpSettings, "amqp", {"hosts"}, {"host", "port"}),
        (DispatcherSettings, "dispatcher", set(), set()),
        (WorkerpoolSettings, "workerpool", set(), set()),
        (LoggingSettings, "logging", set(), set()),
        (GroupSettings, GROUP, {"worker_type", "instance", "own"}, set()),
        (HttpSettings, HTTP, {"schedules"}, set()),
        (QueueSettings, HTTP_QUEUE, {"name", "retry"}, RETRY),
        (RetrySettings, HTTP_QUEUE, set(), KEYS[HTTP_QUEUE].keys() - RETRY),
        (ScheduleSettings, SCHEDULE, {"name"}, set()),
    ],
)
def test_each_key_has_a_field_that_names_its_unit(
    settings: type, kind: str, without_a_key: set[str], without_a_field: set[str]
) -> None:
    fields = {each.name for each in dataclasses.fields(settings)} - without_a_key
    wanted = {key: key + SUFFIXES.get(what, "") for key, what in KEYS[kind].items() if key not in without_a_field}
    assert {key: FIELD_OF_KEY.get(key, key) for key in wanted} == wanted
    assert fields == set(wanted.values())
    assert {KEY_OF_FIELD.get(name, name) for name in fields} == wanted.keys()


def test_the_table_of_fields_has_no_other_keys() -> None:
    assert FIELD_OF_KEY.keys() <= {key for keys in KEYS.values() for key in keys}


@pytest.mark.parametrize(
    "section",
    [
        "DEFAULT",
        "worker1",
        "worker2_bifh1",
        "group",
        "Amqp",
        "amqp_x",
        "https",
        "Http_x",
        "http-x",
        "schedule",
        "webhook",
    ],
)
def test_any_other_section_is_of_a_group(section: str) -> None:
    assert kind_of(section) == GROUP


@pytest.mark.parametrize("section", RESERVED)
def test_a_reserved_section_is_a_kind_of_its_own(section: str) -> None:
    assert kind_of(section) == section


@pytest.mark.parametrize(
    ("section", "kind"), [("http_emails", HTTP_QUEUE), ("http_http", HTTP_QUEUE), ("schedule_x", SCHEDULE)]
)
def test_a_section_of_a_queue_or_a_schedule(section: str, kind: str) -> None:
    assert kind_of(section) == kind
