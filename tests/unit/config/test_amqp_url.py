"""The broker's URL: which keys of [amqp] it gives, and that no fault shows its password."""

from __future__ import annotations

from typing import Any

import pytest

from configs import AMQP_SECTION, faults, load_text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://u:p@h:5673/v", {"hosts": (("h", 5673),), "user": "u", "passwd": "p", "vhost": "v"}),
        ("amqp://u:p@h", {"hosts": (("h", 5672),), "user": "u", "passwd": "p", "vhost": "/"}),
        ("amqp://u:p@h/", {"hosts": (("h", 5672),), "vhost": "/"}),
        ("amqp://u:p@h/%2F", {"vhost": "/"}),
        ("amqp://u:p@h/a/b", {"vhost": "a/b"}),
        ("AMQPS://u:p@h", {"hosts": (("h", 5671),), "ssl": True}),
        ("amqps://u%40x:p%3A%2f%40%25@h", {"user": "u@x", "passwd": "p:/@%"}),
        ("amqp://u:a:b@h", {"passwd": "a:b"}),
        ("amqp://u:@h", {"user": "u", "passwd": ""}),
        ("amqp://h1,h2:5673,[::1]:5674/v", {"hosts": (("h1", 5672), ("h2", 5673), ("::1", 5674))}),
        ("amqp://h", {"user": "me", "passwd": "mine", "heartbeat_s": 5, "ca_file": "/ca", "ssl": False}),
        ("amqp://u:p@h?heartbeat=30", {"heartbeat_s": 30, "vhost": "/"}),
        ("amqp:///v", {"hosts": (("localhost", 5672),), "vhost": "v"}),
        ("", {"hosts": (("file", 1),), "vhost": "there"}),
    ],
)
def test_the_url_of_the_environment_wins(url: str, expected: dict[str, Any]) -> None:
    found = load_text(AMQP_SECTION, environ={"TASKQUEUE_AMQP_URL": url}).amqp
    assert {key: getattr(found, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://u:s3cret@h", "not a URL"),
        ("u:s3cret@h", "not a URL"),
        ("amqp://u:s3cret@x@h", "not a URL"),
        ("amqp://u:s3cret#x@h", "not a URL"),
        ("amqp://u:12/s3cret@h", "not a URL"),
        ("amqp://u:x?s3cret@h", "not a URL"),
        ("amqp://u:s3cret@h x", "not a URL"),
        ("amqp://u:s3cret@h:x", "host 1 of 1 is wrong"),
        ("amqp://u:s3cret@h:70000", "host 1 of 1 is wrong"),
        ("amqp://u:s3cret@h,[::g]", "host 2 of 2 is wrong"),
        ("amqp://u:s3cret@h?s3cret=1", "unknown parameter"),
        ("amqp://u:s3cret@h?heartbeat=1.5", "'1.5' is wrong; expected whole seconds"),
        ("amqp://u:s3cret@h?heartbeat=65536", "'65536' is wrong"),
        ("amqp://u:s3cret%ff@h", "bad encoding"),
        ("amqp://u:s3cret@h/%ff", "bad encoding"),
    ],
)
def test_a_bad_url_names_the_variable_and_not_the_password(url: str, what: str) -> None:
    (fault,) = faults("", environ={"TASKQUEUE_AMQP_URL": url})
    assert fault.startswith(f"TASKQUEUE_AMQP_URL: {what}")
    assert "s3cret" not in fault
