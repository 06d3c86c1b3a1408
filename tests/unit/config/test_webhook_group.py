"""The group of the plugin webhook: defaults of its own, keys of its own, and what it is told of this host's front."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import EXAMPLES, faults, faults_whatever_is_installed, group, load_text
from taskqueue.config import webhook_group
from taskqueue.config.http_settings import HttpSettings
from taskqueue.config.load import load
from taskqueue.config.settings import GroupSettings
from taskqueue.config.values import user_exists
from taskqueue.targets.policy import make_policy

ENTRY = "expected an address, a network such as 10.0.0.0/8, a name or *.name, each with or without :port"
KEYS = "expected one of targets, targets_allow, targets_deny, secrets, ca_file"


def webhook(text: str, name: str = "webhook") -> GroupSettings:
    return group(load_text(text), name, ("webhook", "w"))


def test_an_ordinary_group_with_defaults_of_its_own() -> None:
    assert (webhook("").concurrency, webhook("").workers, webhook("").max_retries) == (200, 1, 0)
    assert webhook("[DEFAULT]\nconcurrency: 3\n").concurrency == 3
    assert webhook("[webhook]\nconcurrency: 4\nworkers: 2\n").workers == 2
    assert webhook("", "w").concurrency == 1
    found = load_text("[webhook]\nworkers: a, b\n[webhook_a]\n[webhook_b]\nconcurrency: 5\n")
    assert [each.concurrency for each in found.groups(["webhook"])] == [200, 5]
    values = {each.key: (each.value, each.origin) for each in found.effective_of_group("webhook", "a")}
    assert values["concurrency"] == (200, "")


HERE = webhook_group.USER if os.geteuid() == 0 and user_exists(webhook_group.USER) else None
"""The default on the host of this test."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", HERE), ("[webhook]\nuser: none\n", None), ("[webhook]\nuser: x\n", "x"), ("[DEFAULT]\nuser: x\n", "x")],
)
def test_the_unix_user_is_never_one_that_is_missing_unless_somebody_says_so(text: str, expected: str | None) -> None:
    found = load("config.ini", text=text, environ={}, user_exists=lambda _name: True)  # as doctor does it
    assert group(found, "webhook", ("webhook",)).user == expected
    assert group(load_text("[webhook]\n"), "w", ("webhook", "w")).user is None


@pytest.mark.parametrize(
    ("is_there", "user"), [(True, "taskqueue-webhook" if os.geteuid() == 0 else None), (False, None)]
)
def test_the_default_of_its_user(is_there: bool, user: str | None) -> None:
    defaults = webhook_group.webhook_defaults({"concurrency": 1, "user": None, "workers": 1}, lambda _name: is_there)
    assert defaults == {"concurrency": 200, "user": user, "workers": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[webhook]\ntargets: publc\n",
            "2: [webhook] targets: 'publc' is wrong; expected one of auto, public, private, any; "
            "did you mean 'public'?",
        ),
        (
            "[webhook]\ntargets: public, any\n",
            "2: [webhook] targets: a list; expected one of auto, public, private, any",
        ),
        (
            "[webhook]\n\ntargets_allow: 10.0.0.0/33\n",
            f"3: [webhook] targets_allow: '10.0.0.0/33' is wrong; {ENTRY}, or a list of them",
        ),
        (
            "[webhook]\ntargets_deny: ok.example, 10.0.0.1/8\n",
            f"2: [webhook] targets_deny: '10.0.0.1/8' is wrong; {ENTRY}, or a list of them",
        ),
        (
            "[webhook]\ntargets_deny: h:port\n",
            f"2: [webhook] targets_deny: 'h:port' is wrong; {ENTRY}, or a list of them",
        ),
        (
            "[webhook]\nworkers: a\n[webhook_a]\ntargets_allow: 1.2.3.4.5\n",
            f"4: [webhook_a] targets_allow: '1.2.3.4.5' is wrong; {ENTRY}, or a list of them",
        ),
        ("[webhook]\nsecrets: here\n", "2: [webhook] secrets: no absolute path; expected that of a file"),
        ("[webhook]\nca_file: /a, /b\n", "2: [webhook] ca_file: no absolute path; expected that of a file"),
    ],
)
def test_a_fault_in_its_own_keys(text: str, expected: str) -> None:
    assert faults_whatever_is_installed(text) == [f"config.ini:{expected}"]


def test_the_same_keys_of_another_plugin_are_its_own_affair() -> None:
    text = "[w]\ntargets: x\ntargets_allow: 10.0.0.0/33\nsecrets: here\n"
    assert faults_whatever_is_installed(text) == []
    assert load_text(text).warnings == ()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("target_deny: 10.0.0.1", f"target_deny: no key of this plugin's; {KEYS}; did you mean 'targets_deny'?"),
        ("zzz: 1", f"zzz: no key of this plugin's; {KEYS}"),
        ("worker: 1", "worker: left to the plugin; did you mean 'workers'?"),
    ],
)
def test_a_key_that_nobody_knows_is_a_warning(line: str, expected: str) -> None:
    assert load_text(f"[webhook]\n{line}\n").warnings == (f"config.ini:2: [webhook] {expected}",)


def test_its_own_keys_reach_it_as_text() -> None:
    own = webhook("[webhook]\ntargets: any\ntargets_allow: 10.0.0.0/8, h:1\nsecrets: /s\n").own
    assert (own["targets"], own["targets_allow"], own["secrets"]) == ("any", ["10.0.0.0/8", "h:1"], "/s")


@pytest.mark.parametrize(
    ("text", "reach", "listeners"),
    [
        ("[http]\n", "private", ["127.0.0.1:8088"]),
        ("[http_q]\n", "private", ["127.0.0.1:8088"]),
        ("[http]\nlisten: [::1]:1, unix:/run/x, localhost:2\n", "private", ["[::1]:1", "localhost:2"]),
        ("[http]\nlisten: 0.0.0.0:80\n", "public", ["0.0.0.0:80"]),
        ("[http]\nbase_path: /x\n", "public", ["127.0.0.1:8088"]),
        ("[http]\n[webhook]\nauto_targets: any\nown_listeners: h:9\n", "private", ["127.0.0.1:8088"]),
    ],
)
def test_what_it_is_told_of_the_front(text: str, reach: str, listeners: list[str]) -> None:
    own = webhook(text).own
    assert (own["auto_targets"], own["own_listeners"]) == (reach, listeners)
    assert "auto_targets" not in webhook(text, "w").own


def test_without_a_section_it_depends_on_whether_a_front_can_run_here() -> None:
    expected = "private" if webhook_group.front_is_installed() else "public"
    assert webhook("").own["auto_targets"] == expected
    here = webhook_group.webhook_own({"a": "b"}, HttpSettings(), has_front=True)
    assert here == {"a": "b", "auto_targets": "private", "own_listeners": ["127.0.0.1:8088"]}
    elsewhere = webhook_group.webhook_own({}, HttpSettings(), has_front=False)
    assert elsewhere == {"auto_targets": "public", "own_listeners": []}


PIECES = st.sampled_from(
    ["10.", "0.0", ".0", "1", "/8", "/", ":", "80", "[", "]", "fd00", "::", "*", ".", "a", "%", "٣"]
)


@settings(max_examples=EXAMPLES * 3)
@given(entry=st.lists(PIECES, min_size=1, max_size=7).map("".join), listen=st.lists(PIECES, max_size=6).map("".join))
def test_what_the_config_takes_the_plugin_takes(entry: str, listen: str) -> None:
    text = f"[http]\nlisten: {listen}:80\n[webhook]\ntargets_allow: {entry}\ntargets_deny: x, {entry}\n"
    if faults(text, installed=("webhook",)):
        return
    own = webhook(text).own
    listeners = [each.rpartition(":") for each in own["own_listeners"]]
    make_policy(
        "public",
        allow=[str(own["targets_allow"])],
        deny=own["targets_deny"],
        own_listeners=[(host, int(port)) for host, _, port in listeners],
    )
