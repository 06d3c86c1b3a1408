"""The table of keys: the shipped etc/config.ini, and the fields of the settings, have exactly its keys."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from configs import load_text
from taskqueue.config.http_keys import SCHEDULE
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

SHIPPED = (Path(__file__).resolve().parents[3] / "etc/config.ini").read_text()
SUFFIXES = {"duration": "_s", "seconds": "_s", "size": "_bytes"}
"""What the field of a key ends in, by the kind of its value."""


def uncommented(text: str) -> str:
    return re.sub(r"^;", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("text", [SHIPPED, uncommented(SHIPPED)], ids=["as it is", "uncommented"])
def test_the_shipped_file_gives_the_defaults_and_so_does_each_line_of_it_uncommented(text: str) -> None:
    defaults, found = load_text(""), load_text(text)
    assert (found.amqp, found.dispatcher, found.workerpool) == (defaults.amqp, defaults.dispatcher, defaults.workerpool)
    assert (found.logging, found.groups(["w"]), found.warnings) == (defaults.logging, defaults.groups(["w"]), ())


def test_the_shipped_file_names_each_key_once_in_its_section() -> None:
    named: dict[str, list[str]] = {}
    for line in uncommented(SHIPPED).splitlines():
        if match := re.match(r"\[(\w+)\]", line):
            keys = named.setdefault(kind_of(match[1]), [])
        elif match := re.match(r"(\w+):", line):
            keys.append(match[1])
    assert named == {kind: list(keys) for kind, keys in KEYS.items() if kind != SCHEDULE}


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


@pytest.mark.parametrize("section", ["DEFAULT", "worker1", "worker2_bifh1", "group", "Amqp", "amqp_x"])
def test_any_other_section_is_of_a_group(section: str) -> None:
    assert kind_of(section) == GROUP


@pytest.mark.parametrize("section", RESERVED)
def test_a_reserved_section_is_a_kind_of_its_own(section: str) -> None:
    assert kind_of(section) == section
