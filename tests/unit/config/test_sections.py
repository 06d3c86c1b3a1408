"""Sections merged: [DEFAULT], then the type's, then the instance's; and where each value in force comes from."""

from __future__ import annotations

from configs import group, load_text


def test_default_then_type_then_instance() -> None:
    text = """\
    [DEFAULT]
    workers: 4
    max_retries: 1
    prefetch: 7
    time_limit: 1h
    mine: default
    [w]
    workers: a, b
    max_retries: 2
    user: bifh1
    time_limit: none
    theirs: 1, 2
    [w_a]
    max_retries: 3
    user: none
    mine: instance
    [w_b]
    workers: 2
    prefetch: auto
    """
    found = load_text(text)
    a, b = group(found, "w/a"), group(found, "w/b")
    assert (a.workers, a.max_retries, a.prefetch, a.user, a.time_limit_s) == (4, 3, 7, None, None)
    assert (b.workers, b.max_retries, b.prefetch, b.user, b.time_limit_s) == (2, 2, None, "bifh1", None)
    assert a.own == {"mine": "instance", "theirs": ["1", "2"]}
    assert b.own == {"mine": "default", "theirs": ["1", "2"]}
    other = group(found, "x", ("w", "x"))
    assert (other.workers, other.max_retries, other.time_limit_s, other.own) == (4, 1, 3600.0, {"mine": "default"})


def test_keys_of_other_sections_are_the_plugins_own_in_a_group() -> None:
    assert group(load_text("[w]\nhost: h\nlevel: DEBUG\n")).own == {"host": "h", "level": "DEBUG"}


def test_an_instance_is_in_force_key_by_key_with_the_origin_of_each() -> None:
    text = "[DEFAULT]\nworkers: 4\nmine: 1\n[w]\nworkers: a\nmax_retries: 2\n[w_a]\ntime_limit: 5m\n"
    values = load_text(text).effective_of_group("w", "a")
    named = [(each.key, each.kind, each.value, each.origin) for each in values if each.origin]
    assert named == [
        ("workers", "workers", 4, "config.ini:2"),  # and not line 5, which names the instances
        ("max_retries", "integer", 2, "config.ini:6"),
        ("time_limit", "duration", 300.0, "config.ini:8"),
        ("mine", "", "1", "config.ini:3"),
    ]


def test_a_reserved_section_with_the_origin_of_each_value() -> None:
    found = load_text("[amqp]\nuser: me\nvhost: there\n", environ={"TASKQUEUE_AMQP_URL": "amqp://h/v"})
    values = {each.key: (each.kind, each.value, each.origin) for each in found.effective_of_section("amqp")}
    assert values["user"] == ("text", "me", "config.ini:2")
    assert values["vhost"] == ("text", "v", "TASKQUEUE_AMQP_URL")
    assert values["port"] == ("integer", 5672, "TASKQUEUE_AMQP_URL")
    assert values["heartbeat"] == ("seconds", 60, "")


def test_the_sections_and_types_of_a_config() -> None:
    found = load_text("[amqp]\n[DEFAULT]\n[w]\nworkers: a\n[w_a]\n[v]\n")
    assert found.types() == ("v", "w")
    assert found.sections_of("w", "a") == ("DEFAULT", "w", "w_a")
    assert found.sections_of("x") == ("DEFAULT",)
    assert found.sections_of("amqp") == ("DEFAULT",)
    assert found.files() == ("config.ini",)
