"""Loading: files, environment and credential together, all faults at once; any text gives settings or a ConfigError."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from configs import AMQP_SECTION, EXAMPLES, faults, group, load_text
from taskqueue.config.load import load
from taskqueue.config.settings import (
    AmqpSettings,
    DispatcherSettings,
    GroupSettings,
    LoggingSettings,
    WorkerpoolSettings,
)
from taskqueue.errors import ConfigError

DISPATCHER = "unknown key; expected one of prefetch, max_body"


def test_no_file_gives_the_defaults_of_the_design(tmp_path: Path) -> None:
    found = load(str(tmp_path / "config.ini"), environ={})
    assert found.amqp == AmqpSettings(
        hosts=(("localhost", 5672),),
        user="guest",
        passwd="guest",
        vhost="/",
        heartbeat_s=60,
        ssl=False,
        ca_file=None,
        cert_file=None,
        key_file=None,
        queue_type="quorum",
        ingress_queue_type="classic",
    )
    assert found.dispatcher == DispatcherSettings(prefetch=500, max_body_bytes=16 * 1024 * 1024)
    assert found.workerpool == WorkerpoolSettings(None, stop_timeout_s=30.0, results_ttl_s=7 * 86400.0)
    assert found.logging == LoggingSettings("INFO", None, "text")
    assert found.warnings == ()
    assert found.groups(["w"]) == (
        GroupSettings(
            worker_type="w",
            instance=None,
            workers=1,
            user=None,
            results_routing_key="results",
            report_results=True,
            max_retries=0,
            retry_delay_s=1.0,
            retry_max_delay_s=3600.0,
            max_crashes=3,
            soft_time_limit_s=None,
            time_limit_s=None,
            max_tasks=None,
            max_memory_bytes=None,
            prefetch=None,
            concurrency=1,
            preload=True,
            own={},
        ),
    )


def test_a_client_certificate() -> None:
    found = load_text("[amqp]\nssl: yes\nca_file: /ca\ncert_file: /c\nkey_file: /k\n").amqp
    assert (found.ca_file, found.cert_file, found.key_file) == ("/ca", "/c", "/k")


def test_a_text_stands_for_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.ini"
    path.write_text("[w]\nworkers: 2\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/w.ini").write_text("[w]\nmax_retries: 2\n")
    from_file, from_text = group(load(str(path), environ={})), group(load(str(path), text="[w]\n", environ={}))
    assert (from_file.workers, from_file.max_retries) == (2, 2)
    assert (from_text.workers, from_text.max_retries) == (1, 0)
    assert faults("[w]\nk: \ud800\n") == ["config.ini:2: bad encoding; expected UTF-8"]


def test_a_later_file_is_merged_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "config.ini"
    path.write_text("[w]\nmax_retries: 1\nmax_tasks: 9\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/a.ini").write_text("[w]\nmax_retries: 5\nmine: a\n")
    (tmp_path / "conf.d/b.ini").write_text("[w]\nmax_retries: 6\n[amqp]\nuser: b\n")
    found = load(str(path), environ={}, must_exist=True, installed=["v"])
    assert found.warnings == (f"{path}:1: [w]: no plugin 'w' is installed",)  # where the section begins
    assert (group(found).max_retries, group(found).max_tasks, group(found).own) == (6, 9, {"mine": "a"})
    assert found.amqp.user == "b"


def test_all_faults_of_all_files_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "config.ini"
    path.write_text("x\n[amqp]\nport: x\n[w]\nworkers: a\nuser: nobody-there\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/a.ini").write_text("[amqp]\n\nprot: 1\nport: 2\n[w_a]\nworkers: b, c\n")
    (tmp_path / "conf.d/b.ini").write_text("[w_a]\n[w_a]\n")
    with pytest.raises(ConfigError) as error:
        load(str(path), environ={"TASKQUEUE_AMQP_URL": "x"})
    assert [fault.replace(f"{tmp_path}/", "").partition(": ")[0] for fault in error.value.faults] == [
        "conf.d/a.ini:3",
        "conf.d/a.ini:6",
        "conf.d/b.ini:2",
        "config.ini:1",
        "config.ini:3",
        "config.ini:6",
        "TASKQUEUE_AMQP_URL",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n[dispatcher]\nprefech: 1\n", [f"3: [dispatcher] prefech: {DISPATCHER}; did you mean 'prefetch'?"]),
        ("[dispatcher]\nzzz: 1\n", [f"2: [dispatcher] zzz: {DISPATCHER}"]),
        (
            "[w]\n[x]\n\n[w]\nworkers: -1\n",
            [
                "4: [w]: duplicate section; expected its keys under the first one, in line 1",
                "5: [w] workers: '-1' is wrong; expected a whole number from 0 to 10000, auto, or names of instances",
            ],
        ),
    ],
)
def test_faults_of_keys(text: str, expected: list[str]) -> None:
    assert faults(text) == [f"config.ini:{fault}" for fault in expected]


@pytest.mark.parametrize(
    ("url", "expected"),
    [("", "from systemd"), ("amqp://h", "from systemd"), ("amqp://u:from-url@h", "from-url")],
)
def test_a_credential_of_systemd_wins_over_the_file(tmp_path: Path, url: str, expected: str) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "TASKQUEUE_AMQP_URL": url}
    assert load_text(AMQP_SECTION, environ=environ).amqp.passwd == (expected if "from-url" in url else "mine")
    (tmp_path / "amqp_passwd").write_text("from systemd\n")
    assert load_text(AMQP_SECTION, environ=environ).amqp.passwd == expected


def test_a_credential_that_cannot_be_read_is_a_fault_without_it(tmp_path: Path) -> None:
    (tmp_path / "amqp_passwd").write_bytes(b"s3cret\xff")
    (fault,) = faults("", environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert fault == ("CREDENTIALS_DIRECTORY: amqp_passwd cannot be read: not UTF-8; expected a file with the password")


def test_the_password_is_in_no_repr() -> None:
    assert "s3cret" not in repr(load_text("[amqp]\npasswd: s3cret\n[w]\npasswd: s3cret\n").groups(["w"]))
    assert "s3cret" not in repr(load_text("[amqp]\npasswd: s3cret\n"))


def test_the_users_of_the_host_are_asked_where_the_caller_says_nothing() -> None:
    assert group(load(text="[w]\nuser: root\n", environ={})).user == "root"
    with pytest.raises(ConfigError, match="no such unix user"):
        load(text="[w]\nuser: no-such-user-here\n", environ={})


PIECES = st.sampled_from(
    [
        *("[", "]", "[[", "amqp", "DEFAULT", "workers", "worker1", "worker1_a", "a", "_", ":", "=", ",", '"', "'", "#"),
        *(";", " ", "\t", "\n", "\n", "\r\n", "\\", "%", "$", "(", "1", "none", "auto", "'''", '"""', "\x0b", "\x85"),
        *("[http]\n", "[http_a]\n", "[schedule_a]\n", "[webhook]\n", "listen: ", "book: ", "target: ", "cron: ", "/"),
        *("[amqp]\n", "[a]\n", "[a_b]\n", "workers: ", "host: ", "passwd: ", "soft_time_limit: 3", "\ufeff", "\u2028"),
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=60).map("".join).map(str.encode), st.binary(max_size=200))


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=TEXTS, url=st.one_of(st.just(""), st.text(max_size=40).map(lambda rest: f"amqp://{rest}")))
@example(content=b"[a]\nk: '\n", url="")
def test_any_text_gives_settings_or_a_config_error(tmp_path: Path, content: bytes, url: str) -> None:
    path = tmp_path / "config.ini"
    path.write_bytes(content)
    try:
        found = load(str(path), environ={"TASKQUEUE_AMQP_URL": url})
        found.groups(["a", "worker1", "webhook", "http_a"])
    except ConfigError as error:
        assert error.faults
        assert all("\n" not in fault for fault in error.faults)
