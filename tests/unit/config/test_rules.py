"""The rules between keys and sections: instances, time limits, plugins that are not there."""

from __future__ import annotations

import pytest

from configs import faults, faults_whatever_is_installed, group, load_text
from taskqueue.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[amqp]\ncert_file: /c\n", "2: [amqp] cert_file: given without key_file; expected both or none"),
        ("[amqp]\nkey_file: /k\n", "2: [amqp] key_file: given without cert_file; expected both or none"),
        (
            "[w]\ntime_limit: 10\nsoft_time_limit: 10\n",
            "3: [w] soft_time_limit: soft_time_limit is 10 s, time_limit 10 s; expected it to be less",
        ),
        (
            "[DEFAULT]\nsoft_time_limit: 1m\n\n[w]\ntime_limit: 30\n",
            "5: [w] time_limit: soft_time_limit is 60 s, time_limit 30 s; expected it to be less",
        ),
        (
            "[DEFAULT]\nsoft_time_limit: 1m\ntime_limit: 30\n[v]\n[w]\n",
            "2: [DEFAULT] soft_time_limit: soft_time_limit is 60 s, time_limit 30 s; expected it to be less",
        ),
        (
            "[w]\nworkers: a\ntime_limit: 5\n[w_a]\nsoft_time_limit: 7\n",
            "5: [w_a] soft_time_limit: soft_time_limit is 7 s, time_limit 5 s; expected it to be less",
        ),
        ("[DEFAULT]\nworkers: a, b\n", "2: [DEFAULT] workers: names instances; expected a whole number or auto"),
        (
            "[w]\nworkers: bifh1, bifh2\n[w_bifh1]\n",
            "2: [w] workers: no section [w_bifh2]; expected a section for each instance; did you mean 'w_bifh1'?",
        ),
        ("[w]\nworkers: one\n", "2: [w] workers: no section [w_one]; expected a section for each instance"),
        (
            "[w]\nworkers: a\n[w_a]\nworkers: x, y\n",
            "4: [w_a] workers: names instances in an instance; expected a whole number or auto",
        ),
    ],
)
def test_a_fault_between_sections(text: str, expected: str) -> None:
    assert faults_whatever_is_installed(text) == [f"config.ini:{expected}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[a]\nworkers: b_c\n[a_b]\nworkers: c\n[a_b_c]\n",
            "5: [a_b_c]: could be instance 'b_c' of [a] or instance 'c' of [a_b]; "
            "expected only one: rename an instance",
        ),
        (
            "[a]\nworkers: b\n[a_b]\nworkers: c\n[a_b_c]\n",
            "3: [a_b]: could be instance 'b' of [a] or a type of its own; expected only one: rename an instance",
        ),
    ],
)
def test_a_section_with_two_meanings(text: str, expected: str) -> None:
    assert faults(text) == [f"config.ini:{expected}"]


def only_in_groups(text: str, installed: tuple[str, ...]) -> list[str]:
    """The faults that need to know what is installed: the same from `load` with it and from `groups`."""
    found = load_text(text)
    with pytest.raises(ConfigError) as late:
        found.groups(installed)
    with pytest.raises(ConfigError) as early:
        load_text(text, installed=installed)
    assert late.value.faults == early.value.faults
    return [line.rpartition("/")[2] for line in late.value.faults]


@pytest.mark.parametrize(
    ("text", "installed", "expected"),
    [
        (
            "[w]\nworkers: bifh1, bifh2\n[w_bifh1]\n[w_bifh2]\n\n[w_bifh3]\n",
            ("w",),
            "6: [w_bifh3]: no section [w] names 'bifh3' in its workers; expected it to; did you mean 'bifh2'?",
        ),
        ("[w_one]\n", ("w",), "1: [w_one]: no section [w] names 'one' in its workers; expected it to"),
        ("[w]\n[w_one]\n", ("v",), "2: [w_one]: no section [w] names 'one' in its workers; expected it to"),
        ("[w_x_one]\n", ("w", "w_x"), "1: [w_x_one]: no section [w_x] names 'one' in its workers; expected it to"),
        (
            "[a]\nworkers: b\n[a_b]\n",
            ("a", "a_b"),
            "3: [a_b]: could be instance 'b' of [a] or a type of its own; expected only one: rename an instance",
        ),
    ],
)
def test_faults_that_need_the_installed_types(text: str, installed: tuple[str, ...], expected: str) -> None:
    assert only_in_groups(text, installed) == [f"config.ini:{expected}"]


def test_a_plugin_with_the_name_of_a_reserved_section_has_no_instances() -> None:
    assert faults("[amqp_x]\n", installed=("amqp",)) == []


def test_an_installed_type_with_an_underscore_is_no_instance() -> None:
    found = load_text("[a]\n[a_None]\nworkers: 3\nmine: 1\n")
    assert [(each.workers, each.own) for each in found.groups(["a", "a_None"])] == [(1, {}), (3, {"mine": "1"})]
    text = "[a]\n[a_b]\nworkers: 2\n"
    assert [(each.name, each.workers) for each in load_text(text).groups(["a", "a_b"])] == [("a", 1), ("a_b", 2)]


def test_an_instance_of_a_type_whose_workers_are_wrong_is_not_a_second_fault() -> None:
    assert len(faults("[w]\nworkers: 'a, b\n[w_a]\n", installed=("w",))) == 1
    assert len(faults("[w]\nworkers: a, a\n[w_a]\n", installed=("w",))) == 1


@pytest.mark.parametrize(
    ("text", "installed", "expected"),
    [
        ("[w]\nworker: 2\n", ("w",), ["config.ini:2: [w] worker: left to the plugin; did you mean 'workers'?"]),
        (
            "[DEFAULT]\nmax_retrys: 2\n",
            (),
            ["config.ini:2: [DEFAULT] max_retrys: left to the plugin; did you mean 'max_retries'?"],
        ),
        ("[w]\nspeed: 2\n", ("w",), []),
        ("[w]\n", (), []),
        ("[w]\n", ("v",), ["config.ini:1: [w]: no plugin 'w' is installed"]),
        ("[w]\nworkers: a\n[w_a]\n", ("v",), ["config.ini:1: [w]: no plugin 'w' is installed"]),
        ("[ampq]\n", (), ["config.ini:1: [ampq]: taken for a worker type; did you mean [amqp]?"]),
        ("[ampq]\n", ("v",), ["config.ini:1: [ampq]: no plugin 'ampq' is installed; did you mean [amqp]?"]),
        ("[ampq]\n", ("ampq",), []),
        ("\n[Logging]\n", (), ["config.ini:2: [Logging]: taken for a worker type; did you mean [logging]?"]),
        ("[default]\n", (), ["config.ini:1: [default]: taken for a worker type; did you mean [DEFAULT]?"]),
        ("[worker]\n[worker1]\n", (), []),
        (
            "[workerpool]\nplugins: w, x\n",
            ("w",),
            ["config.ini:2: [workerpool] plugins: no plugin 'x' is installed"],
        ),
        ("[workerpool]\nplugins: w, x\n", (), []),
        (
            "",
            ("amqp",),
            ["plugin 'amqp': has the name of a section of taskqueue's own; it runs with [DEFAULT]"],
        ),
        *(
            ("", (name,), [f"plugin {name!r}: has the name of a section of taskqueue's own; it is left out: rename it"])
            for name in ("http", "http_x", "schedule_x")
        ),
        ("[http_x]\n", ("v",), []),
        ("[htpt]\n", (), ["config.ini:1: [htpt]: taken for a worker type; did you mean [http]?"]),
        (
            "[http-emails]\n",
            ("v",),
            ["config.ini:1: [http-emails]: no plugin 'http-emails' is installed; did you mean [http_emails]?"],
        ),
        ("[Schedules_x]\n", (), ["config.ini:1: [Schedules_x]: taken for a worker type; did you mean [schedule_x]?"]),
    ],
)
def test_warnings(text: str, installed: tuple[str, ...], expected: list[str]) -> None:
    assert [line.rpartition("/")[2] for line in load_text(text, installed=installed).warnings] == expected


def test_a_plugin_with_the_name_of_a_section_of_ours_runs_with_the_defaults() -> None:
    found = load_text("[amqp]\nuser: bifh1\nheartbeat: 9\n[DEFAULT]\nworkers: 2\n")
    assert (group(found, "amqp", ("amqp",)).workers, group(found, "amqp", ("amqp",)).user) == (2, None)


def test_a_plugin_with_the_name_of_a_section_of_the_http_half_does_not_run() -> None:
    found = load_text("[http_x]\n[DEFAULT]\nworkers: 2\n", installed=("http", "http_x", "schedule_x", "w"))
    assert [each.name for each in found.groups(("http", "http_x", "schedule_x", "w"))] == ["w"]
    assert found.types() == ()
