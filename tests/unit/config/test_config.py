"""The configuration file: every rule of the design's section 5, and every kind of fault with its own line number."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from taskqueue.config import inifile
from taskqueue.config import load as loading
from taskqueue.config import settings as over
from taskqueue.config.load import KEYS, Settings
from taskqueue.config.settings import (
    AmqpSettings,
    DispatcherSettings,
    GroupSettings,
    LoggingSettings,
    WorkerpoolSettings,
)
from taskqueue.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]

# The design's section 5, from the project's first documentation: it must work as it stands.
FIRST_DOCUMENTATION = """\
[DEFAULT]
workers: 1

; Workers
[worker1]
workers: 3

[worker2]
workers: bifh1, bifh2

[worker2_bifh1]
workers: 1
user: bifh1

[worker2_bifh2]
workers: 1
user: bifh2
"""

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Writes config.ini, and other files by keyword (`a__ini` for conf.d/a.ini), and loads it."""

    def write_and_load(
        text: str | bytes | None = "",
        *,
        environ: Mapping[str, str] | None = None,
        installed: tuple[str, ...] = (),
        must_exist: bool = False,
        **more: str,
    ) -> Settings:
        path = tmp_path / "config.ini"
        if text is not None:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        for name, content in more.items():
            (tmp_path / "conf.d").mkdir(exist_ok=True)
            (tmp_path / "conf.d" / name.replace("__", ".")).write_text(content)
        return loading.load(
            str(path),
            environ=environ or {},
            installed=installed,
            must_exist=must_exist,
            user_exists={"bifh1", "bifh2", "root"}.__contains__,
        )

    return write_and_load


@pytest.fixture
def faults(load: Load, tmp_path: Path) -> Callable[..., list[str]]:
    """The lines of the ConfigError, without the directory; no fault is an empty list."""

    def of(text: str | bytes | None, **kwargs: Any) -> list[str]:
        try:
            found = load(text, **kwargs)
            found.groups(kwargs.get("installed", ()))
        except ConfigError as error:
            return [line.replace(f"{tmp_path}/", "") for line in error.faults]
        return []

    return of


def group(found: Settings, name: str = "w", installed: tuple[str, ...] = ("w",)) -> GroupSettings:
    return {each.name: each for each in found.groups(installed)}[name]


# --- what works -------------------------------------------------------------------------------------------------------


def test_the_first_documentation_gives_3_and_1_and_1(load: Load) -> None:
    found = load(FIRST_DOCUMENTATION, installed=("worker1", "worker2"))
    groups = [(each.name, each.workers, each.user) for each in found.groups(["worker2", "worker1"])]
    assert groups == [("worker1", 3, None), ("worker2/bifh1", 1, "bifh1"), ("worker2/bifh2", 1, "bifh2")]
    assert found.warnings == ()


def test_no_file_gives_the_defaults_of_the_design(load: Load) -> None:
    found = load(None)
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


def uncommented(text: str) -> str:
    return re.sub(r"^;", "", text, flags=re.MULTILINE)


def test_the_shipped_file_gives_the_defaults_and_so_does_each_line_of_it_uncommented(load: Load) -> None:
    defaults = load(None)
    shipped = (ROOT / "etc/config.ini").read_text()
    for text in (shipped, uncommented(shipped)):
        found = load(text, must_exist=True)
        assert (found.amqp, found.dispatcher, found.workerpool) == (
            defaults.amqp,
            defaults.dispatcher,
            defaults.workerpool,
        )
        assert (found.logging, found.groups(["w"]), found.warnings) == (defaults.logging, defaults.groups(["w"]), ())


def test_the_shipped_file_names_each_key_once_in_its_section() -> None:
    named: dict[str, list[str]] = {}
    for line in uncommented((ROOT / "etc/config.ini").read_text()).splitlines():
        if match := re.match(r"\[(\w+)\]", line):
            keys = named.setdefault("group" if match[1] == "DEFAULT" else match[1], [])
        elif match := re.match(r"(\w+):", line):
            keys.append(match[1])
    assert named == {kind: list(keys) for kind, keys in KEYS.items()}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("k: v", "v"),
        ("k = v", "v"),
        ("k=v", "v"),
        ("k:v", "v"),
        ("  k  :  v  ", "v"),
        ("k: v ; comment", "v"),
        ("k: v # comment", "v"),
        ("k: v;no comment", "v;no comment"),
        ("k: v#no comment", "v#no comment"),
        ("k: #comment", ""),
        ("k: ; comment", ""),
        ("k:#value", "#value"),
        ("k:", ""),
        ("k: amqp://x", "amqp://x"),
        ("k = amqp://x:1/%2f", "amqp://x:1/%2f"),
        ("k: 12:30", "12:30"),
        ("k: a = b", "a = b"),
        ("k = a: b", "a: b"),
        ("k: %(home)s $HOME ${x}", "%(home)s $HOME ${x}"),
        ('k: " v ; not a comment # nor this, one value " # comment', " v ; not a comment # nor this, one value "),
        ("k: 'it is \"quoted\"'", 'it is "quoted"'),
        ("k: it's", "it's"),
        ('k: it\'s "quoted"', 'it\'s "quoted"'),
        ("k: '''x", None),
        ('k: ""', ""),
        ("k: a, b", ["a", "b"]),
        ("k: a,b,", ["a", "b"]),
        ("k: a,", ["a"]),
        ("k: ,", []),
        ('k: "a, b", c ; comment', ["a, b", "c"]),
        ("k: a#1, 'b # 2'", ["a#1", "b # 2"]),
        ("k: grün", "grün"),
        ("k: \\n", "\\n"),
        ("k: v\r", "v"),
    ],
)
def test_lines(load: Load, faults: Callable[..., list[str]], line: str, value: str | list[str] | None) -> None:
    text = f"# comment\n[w] ; comment\n{line}\n; comment\nlast = 1\n"
    if value is None:
        assert faults(text) and faults(text)[0].startswith("config.ini:3: [w] k: a quote is not closed")
        return
    assert group(load(text)).own == {"k": value, "last": "1"}


def test_an_utf8_mark_and_missing_last_line_end(load: Load) -> None:
    assert group(load(b"\xef\xbb\xbf[w]\nworkers=2")).workers == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("7d", 604800),
        ("1.5s", 1.5),
        ("100ms", 0.1),
        ("2 h", 7200),
        ("none", None),
        ("NONE", None),
        ("", None),
    ],
)
def test_durations(load: Load, text: str, seconds: float | None) -> None:
    assert group(load(f"[w]\ntime_limit: {text}\n")).time_limit_s == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("16M", 16 << 20),
        ("16 MiB", 16 << 20),
        ("16MB", 16 << 20),
        ("16m", 16 << 20),
        ("2048k", 2 << 20),
        ("1G", 1 << 30),
        ("1.5G", 3 << 29),
        ("1048576", 1 << 20),
        ("1048576B", 1 << 20),
        ("none", None),
        ("", None),
    ],
)
def test_sizes(load: Load, text: str, count: int | None) -> None:
    assert group(load(f"[w]\nmax_memory: {text}\n")).max_memory_bytes == count


@pytest.mark.parametrize("text", ["yes", "True", "ON", "1", "no", "FALSE", "off", "0"])
def test_truth(load: Load, text: str) -> None:
    assert group(load(f"[w]\npreload: {text}\n")).preload == (text.lower() in ("yes", "true", "on", "1"))


def test_a_client_certificate(load: Load) -> None:
    found = load("[amqp]\nssl: yes\nca_file: /ca\ncert_file: /c\nkey_file: /k\n").amqp
    assert (found.ca_file, found.cert_file, found.key_file) == ("/ca", "/c", "/k")


def test_choices_in_any_case(load: Load) -> None:
    found = load("[logging]\nlevel: debug\ntarget: STDERR\nformat: Json\n[amqp]\nqueue_type: Classic\n")
    assert found.logging == LoggingSettings("DEBUG", "stderr", "json")
    assert found.amqp.queue_type == "classic"


def test_workers(load: Load) -> None:
    cpus = len(os.sched_getaffinity(0))
    assert group(load("[w]\nworkers: auto\n")).workers == cpus
    assert group(load("[DEFAULT]\nworkers: Auto\n")).workers == cpus
    assert load("[w]\nworkers: 0\n").groups(["w"]) == ()
    assert [each.name for each in load("[w]\nworkers: one\n[w_one]\n").groups(["w"])] == ["w/one"]
    assert [each.name for each in load("[w]\nworkers: 1, 2\n[w_1]\n[w_2]\nworkers: 0\n").groups(["w"])] == ["w/1"]


def test_default_then_type_then_instance(load: Load) -> None:
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
    found = load(text)
    a, b = group(found, "w/a"), group(found, "w/b")
    assert (a.workers, a.max_retries, a.prefetch, a.user, a.time_limit_s) == (4, 3, 7, None, None)
    assert (b.workers, b.max_retries, b.prefetch, b.user, b.time_limit_s) == (2, 2, None, "bifh1", None)
    assert a.own == {"mine": "instance", "theirs": ["1", "2"]}
    assert b.own == {"mine": "default", "theirs": ["1", "2"]}
    other = group(found, "x", ("w", "x"))
    assert (other.workers, other.max_retries, other.time_limit_s, other.own) == (4, 1, 3600.0, {"mine": "default"})


def test_keys_of_other_sections_are_the_plugins_own_in_a_group(load: Load) -> None:
    assert group(load("[w]\nhost: h\nlevel: DEBUG\n")).own == {"host": "h", "level": "DEBUG"}


def test_only_the_plugins_that_were_chosen(load: Load) -> None:
    found = load("[workerpool]\nplugins: b, c\n")
    assert found.workerpool.plugins == ("b", "c")
    assert [each.name for each in found.groups(["a", "b", "c"])] == ["b", "c"]
    assert load("[workerpool]\nplugins: *\n").workerpool.plugins is None
    assert load("[workerpool]\nplugins: b\n").workerpool.plugins == ("b",)


def test_conf_d_is_read_after_in_order_and_merged_key_by_key(load: Load, faults: Callable[..., list[str]]) -> None:
    files = {
        "a__ini": "[w]\nmax_retries: 5\nmine: a\n",
        "b__ini": "[w]\nmax_retries: 6\n[amqp]\nuser: b\n",
        "c__ini__dpkg-new": "[w\n",
        "__hidden__ini": "[w\n",
    }
    found = load("[w]\nmax_retries: 1\nmax_tasks: 9\n", **files)
    assert (group(found).max_retries, group(found).max_tasks, group(found).own) == (6, 9, {"mine": "a"})
    assert found.amqp.user == "b"
    assert group(load(None, **files)).max_tasks == 9  # config.ini is still there
    assert faults("[a]\nworkers: x\n", d__ini="[a_x]\nworkers: x") == [
        "conf.d/d.ini:2: [a_x] workers: names instances in an instance; expected a whole number or auto"
    ]


def test_the_order_of_conf_d_is_that_of_names(load: Load) -> None:
    files = {f"f{number}__ini": f"[w]\nmax_retries: {number}\n" for number in (5, 9, 1, 8, 2, 7, 3, 6, 4)}
    assert group(load("", **files)).max_retries == 9


def test_conf_d_without_a_main_file(tmp_path: Path, load: Load) -> None:
    assert group(load(None, w__ini="[w]\nworkers: 2\n")).workers == 2


@pytest.mark.parametrize(
    ("lines", "hosts"),
    [
        ("host: a", (("a", 5672),)),
        ("host: a, b:5673", (("a", 5672), ("b", 5673))),
        ("host: a, b:5673\nport: 1000", (("a", 1000), ("b", 5673))),
        ("ssl: yes", (("localhost", 5671),)),
        ("ssl: yes\nport: none", (("localhost", 5671),)),
        ("port: 5671", (("localhost", 5671),)),
        ("host: [::1]:5672", (("::1", 5672),)),
        ("host: [fe80::1], 127.0.0.1", (("fe80::1", 5672), ("127.0.0.1", 5672))),
    ],
)
def test_hosts(load: Load, lines: str, hosts: tuple[tuple[str, int], ...]) -> None:
    found = load(f"[amqp]\n{lines}\n").amqp
    assert found.hosts == hosts
    assert found.ssl == ("ssl" in lines)


FILE = "[amqp]\nhost: file\nport: 1\nuser: me\npasswd: mine\nvhost: there\nheartbeat: 5\nca_file: /ca\n"


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
def test_the_url_of_the_environment_wins(load: Load, url: str, expected: dict[str, Any]) -> None:
    found = load(FILE, environ={"TASKQUEUE_AMQP_URL": url}).amqp
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
def test_a_bad_url_names_the_variable_and_not_the_password(
    faults: Callable[..., list[str]], url: str, what: str
) -> None:
    (fault,) = faults("", environ={"TASKQUEUE_AMQP_URL": url})
    assert fault.startswith(f"TASKQUEUE_AMQP_URL: {what}")
    assert "s3cret" not in fault


@pytest.mark.parametrize(
    ("url", "expected"),
    [("", "from systemd"), ("amqp://h", "from systemd"), ("amqp://u:from-url@h", "from-url")],
)
def test_a_credential_of_systemd_wins_over_the_file(load: Load, tmp_path: Path, url: str, expected: str) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "TASKQUEUE_AMQP_URL": url}
    assert load(FILE, environ=environ).amqp.passwd == (expected if "from-url" in url else "mine")
    (tmp_path / "amqp_passwd").write_text("from systemd\n")
    assert load(FILE, environ=environ).amqp.passwd == expected


def test_a_credential_that_cannot_be_read_is_a_fault_without_it(
    faults: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "amqp_passwd").write_bytes(b"s3cret\xff")
    (fault,) = faults("", environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert fault == ("CREDENTIALS_DIRECTORY: amqp_passwd cannot be read: not UTF-8; expected a file with the password")


def test_the_password_is_in_no_repr_and_no_fault(load: Load, faults: Callable[..., list[str]]) -> None:
    assert "s3cret" not in repr(load("[amqp]\npasswd: s3cret\n[w]\npasswd: s3cret\n").groups(["w"]))
    assert "s3cret" not in repr(load("[amqp]\npasswd: s3cret\n"))
    for line in ("passwd: s3cret, x", 'passwd: "s3cret', "passwd s3cret", "host: amqp://u:s3cret@h", "s3cret"):
        assert len(found := faults(f"[amqp]\n{line}\n")) == 1
        assert found[0].startswith("config.ini:2: ")
        assert line == "s3cret" or "s3cret" not in found[0]


def test_over_a_socket_and_back(load: Load) -> None:
    found = load("[workerpool]\nplugins: w\n[w]\nmine: a, b\ntime_limit: 1.5s\nworkers: i\n[w_i]\n")
    (only,) = found.groups(["w"])

    def there(given: Any) -> Any:
        return json.loads(json.dumps(over.to_json(given)))

    assert over.group_from_json(there(only)) == only
    assert over.amqp_from_json(there(found.amqp)) == found.amqp
    assert over.logging_from_json(there(found.logging)) == found.logging


# --- what does not ----------------------------------------------------------------------------------------------------

NAME_IS = "letters, digits, '_', '.' and '-', the first a letter or digit, at most 201"
SECTION_IS = f"not a section; expected [name] of {NAME_IS}"
NESTED = f"not a section (nested sections are not supported); expected [name] of {NAME_IS}"
NEITHER = "neither a section nor a key; expected [section] or key: value"
QUOTES = "a quote is not closed, or text follows it; expected the whole value in one pair of quotes"
LIST = "a list; expected one value, in quotes where it has a comma in it"
HOST = "expected name, name:port or [IPv6 address]:port, or a list of them"
LOOP = "expected any but taskqueue, taskqueue_* and worker_*, or results would be dispatched for ever"
WORKERS = "expected a whole number from 0 to 10000, auto, or names of instances"
DISPATCHER = "unknown key; expected one of prefetch, max_body"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # the form of the file
        ("[w]\nx\n", [f"2: {NEITHER}"]),
        ("[w]\nmy key: x\n", [f"2: {NEITHER}"]),
        ("[w]\n: x\n", [f"2: {NEITHER}"]),
        ("[w]\nk: a\n   b\n", [f"3: {NEITHER}"]),
        ("\n\nk: v\n[w]\n", ["3: k: key before any section; expected a [section] above it"]),
        ("[w\nk: v\n", [f"1: {SECTION_IS}"]),
        ("[]\n", [f"1: {SECTION_IS}"]),
        ("[w] x\n", [f"1: {SECTION_IS}"]),
        ("[a b]\n", [f"1: {SECTION_IS}"]),
        ("[-w]\n", [f"1: {SECTION_IS}"]),
        (f"[{'w' * 202}]\n", [f"1: {SECTION_IS}"]),
        ("[w]\n[[x]]\nk: v\n", [f"2: {NESTED}"]),
        (
            "[w]\n[x]\n\n[w]\nworkers: -1\n",
            [
                "4: [w]: duplicate section; expected its keys under the first one, in line 1",
                f"5: [w] workers: '-1' is wrong; {WORKERS}",
            ],
        ),
        ("[w]\nk: 1\n\nk = 2\n", ["4: [w] k: duplicate key; the first is in line 2"]),
        ('[w]\nk: "a" b\n', [f"2: [w] k: {QUOTES}"]),
        ('[w]\nk: "a"#b\n', [f"2: [w] k: {QUOTES}"]),
        ("[w]\nk: a, 'b\n", [f"2: [w] k: {QUOTES}"]),
        ('[w]\nk: """a\n', [f"2: [w] k: {QUOTES}"]),
        (
            "[w]\nk: a\"b'c#d\n",
            ["2: [w] k: holds both kinds of quotes and a '#'; expected no more than two of the three"],
        ),
        (b"[w]\n\nk: \xff\n", ["3: bad encoding; expected UTF-8"]),
        (b"[w]\nk: 1\n[\xff]\nk: 1\n", ["3: bad encoding; expected UTF-8"]),
        (b"[w]\nk: \0\nk: v\nx", ["2: a NUL byte; expected a text file in UTF-8"]),
        ("[w]\n".encode("utf-16"), ["1: a NUL byte; expected a text file in UTF-8"]),
        # unknown keys
        ("\n[dispatcher]\nprefech: 1\n", [f"3: [dispatcher] prefech: {DISPATCHER}; did you mean 'prefetch'?"]),
        ("[dispatcher]\nzzz: 1\n", [f"2: [dispatcher] zzz: {DISPATCHER}"]),
        # values
        ("[amqp]\nport: x\n", ["2: [amqp] port: 'x' is wrong; expected a whole number from 1 to 65535"]),
        ("[amqp]\nport: 0\n", ["2: [amqp] port: '0' is wrong; expected a whole number from 1 to 65535"]),
        ("[amqp]\nport: 65536\n", ["2: [amqp] port: '65536' is wrong; expected a whole number from 1 to 65535"]),
        ("[amqp]\nport: 1, 2\n", [f"2: [amqp] port: {LIST}"]),
        ("[amqp]\nport: ٣\n", ["2: [amqp] port: '٣' is wrong; expected a whole number from 1 to 65535"]),
        ("[amqp]\nuser:\n", ["2: [amqp] user: 0 bytes long; expected 1 to 255"]),
        ("[amqp]\nhost:\n", [f"2: [amqp] host: host 1 of 1 is wrong; {HOST}"]),
        ("[amqp]\nhost: ,\n", [f"2: [amqp] host: no host; {HOST}"]),
        ("[amqp]\nhost: a, ::1\n", [f"2: [amqp] host: host 2 of 2 is wrong; {HOST}"]),
        ("[amqp]\nhost: a:0\n", [f"2: [amqp] host: host 1 of 1 is wrong; {HOST}"]),
        (
            "[amqp]\nheartbeat: 100ms\n",
            ["2: [amqp] heartbeat: '100ms' is wrong; expected whole seconds, from 0 to 65535"],
        ),
        (
            "[amqp]\nheartbeat: 65536\n",
            [
                "2: [amqp] heartbeat: '65536' is wrong; expected a duration such as 30, 1.5s, 5m, 2h or 7d, "
                "from 0 to 65535"
            ],
        ),
        ("[amqp]\nssl: yse\n", ["2: [amqp] ssl: 'yse' is wrong; expected yes or no; did you mean 'yes'?"]),
        ("[amqp]\nssl: maybe\n", ["2: [amqp] ssl: 'maybe' is wrong; expected yes or no"]),
        (
            "[amqp]\nqueue_type: qorum\n",
            ["2: [amqp] queue_type: 'qorum' is wrong; expected one of quorum, classic; did you mean 'quorum'?"],
        ),
        (
            "[logging]\nlevel: verbose\n",
            ["2: [logging] level: 'verbose' is wrong; expected one of DEBUG, INFO, WARNING, ERROR, CRITICAL"],
        ),
        (
            "[dispatcher]\nprefetch: 0\n",
            ["2: [dispatcher] prefetch: '0' is wrong; expected a whole number from 1 to 65535"],
        ),
        (
            "[dispatcher]\nmax_body: 1T\n",
            [
                "2: [dispatcher] max_body: '1T' is wrong; expected a size such as 65536, 512k, 16M or 1 GiB, "
                "from 1 to 512M"
            ],
        ),
        (
            "[workerpool]\nresults_ttl: 50d\n",
            [
                "2: [workerpool] results_ttl: '50d' is wrong; expected a duration such as 30, 1.5s, 5m, 2h or 7d, "
                "from 1s to 49d"
            ],
        ),
        (
            "[workerpool]\nstop_timeout: 5M\n",
            [
                "2: [workerpool] stop_timeout: '5M' is wrong; expected a duration such as 30, 1.5s, 5m, 2h or 7d, "
                "from 0 to 1d"
            ],
        ),
        ("[workerpool]\nplugins:\n", ["2: [workerpool] plugins: '' is wrong; expected * or a list of worker types"]),
        (
            "[workerpool]\nplugins: none, -\n",
            ["2: [workerpool] plugins: 'none, -' is wrong; expected * or a list of worker types"],
        ),
        ("[w]\nworkers:\n", [f"2: [w] workers: '' is wrong; {WORKERS}"]),
        ("[w]\nworkers: 1.5\n", [f"2: [w] workers: '1.5' is wrong; {WORKERS}"]),
        ("[w]\nworkers: ,\n", [f"2: [w] workers: '' is wrong; {WORKERS}"]),
        ("[w]\nworkers: 10001\n", [f"2: [w] workers: '10001' is wrong; {WORKERS}"]),
        (
            "[w]\nworkers: a, b, a\n[w_a]\n[w_b]\n",
            ["2: [w] workers: names instance 'a' more than once; expected each name once"],
        ),
        ("[w]\nmax_crashes: 0\n", ["2: [w] max_crashes: '0' is wrong; expected a whole number from 1 to 1000"]),
        ("[w]\nconcurrency: 0\n", ["2: [w] concurrency: '0' is wrong; expected a whole number from 1 to 10000"]),
        (
            "[w]\nprefetch: many\n",
            ["2: [w] prefetch: 'many' is wrong; expected a whole number from 1 to 65535, or auto"],
        ),
        ("[w]\nuser: bifh3\n", ["2: [w] user: no such unix user: 'bifh3'; expected one of this host's, or none"]),
        ("[DEFAULT]\nuser: x\n", ["2: [DEFAULT] user: no such unix user: 'x'; expected one of this host's, or none"]),
        ("[w]\nresults_routing_key:\n", ["2: [w] results_routing_key: 0 bytes long; expected 1 to 255"]),
        (
            f"[w]\nresults_routing_key: {'ü' * 128}\n",
            ["2: [w] results_routing_key: 256 bytes long; expected 1 to 255"],
        ),
        *(
            (f"[w]\nresults_routing_key: {key}\n", [f"2: [w] results_routing_key: '{key}' is wrong; {LOOP}"])
            for key in ("taskqueue", "taskqueue_dead", "worker_w")
        ),
        # rules between keys and sections
        ("[amqp]\ncert_file: /c\n", ["2: [amqp] cert_file: given without key_file; expected both or none"]),
        ("[amqp]\nkey_file: /k\n", ["2: [amqp] key_file: given without cert_file; expected both or none"]),
        (
            "[w]\ntime_limit: 10\nsoft_time_limit: 10\n",
            ["3: [w] soft_time_limit: soft_time_limit is 10 s, time_limit 10 s; expected it to be less"],
        ),
        (
            "[DEFAULT]\nsoft_time_limit: 1m\n\n[w]\ntime_limit: 30\n",
            ["5: [w] time_limit: soft_time_limit is 60 s, time_limit 30 s; expected it to be less"],
        ),
        (
            "[DEFAULT]\nsoft_time_limit: 1m\ntime_limit: 30\n[v]\n[w]\n",
            ["2: [DEFAULT] soft_time_limit: soft_time_limit is 60 s, time_limit 30 s; expected it to be less"],
        ),
        (
            "[w]\nworkers: a\ntime_limit: 5\n[w_a]\nsoft_time_limit: 7\n",
            ["5: [w_a] soft_time_limit: soft_time_limit is 7 s, time_limit 5 s; expected it to be less"],
        ),
        ("[DEFAULT]\nworkers: a, b\n", ["2: [DEFAULT] workers: names instances; expected a whole number or auto"]),
        (
            "[w]\nworkers: bifh1, bifh2\n[w_bifh1]\n",
            ["2: [w] workers: no section [w_bifh2]; expected a section for each instance; did you mean 'w_bifh1'?"],
        ),
        ("[w]\nworkers: one\n", ["2: [w] workers: no section [w_one]; expected a section for each instance"]),
        (
            "[w]\nworkers: a\n[w_a]\nworkers: x, y\n",
            ["4: [w_a] workers: names instances in an instance; expected a whole number or auto"],
        ),
        (
            "[a]\nworkers: b_c\n[a_b]\nworkers: c\n[a_b_c]\n",
            [
                "5: [a_b_c]: could be instance 'b_c' of [a] or instance 'c' of [a_b]; "
                "expected only one: rename an instance"
            ],
        ),
        (
            "[a]\nworkers: b\n[a_b]\nworkers: c\n[a_b_c]\n",
            ["3: [a_b]: could be instance 'b' of [a] or a type of its own; expected only one: rename an instance"],
        ),
    ],
)
def test_one_line_for_each_fault(faults: Callable[..., list[str]], text: str | bytes, expected: list[str]) -> None:
    wanted = [f"config.ini:{line}" for line in expected]
    # These faults are the same whether or not it is known what is installed.
    types = ("v", "w", "a", "a_b") if b"a_b_c" not in (text if isinstance(text, bytes) else text.encode()) else ()
    assert faults(text) == wanted
    if types:
        assert faults(text, installed=types) == wanted


def only_in_groups(load: Load, text: str, installed: tuple[str, ...]) -> list[str]:
    """The faults that need to know what is installed: the same from `load` with it and from `groups`."""
    found = load(text)
    with pytest.raises(ConfigError) as late:
        found.groups(installed)
    with pytest.raises(ConfigError) as early:
        load(text, installed=installed)
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
def test_faults_that_need_the_installed_types(load: Load, text: str, installed: tuple[str, ...], expected: str) -> None:
    assert only_in_groups(load, text, installed) == [f"config.ini:{expected}"]


def test_an_installed_type_with_an_underscore_is_no_instance(load: Load) -> None:
    found = load("[a]\n[a_None]\nworkers: 3\nmine: 1\n")
    assert [(each.workers, each.own) for each in found.groups(["a", "a_None"])] == [(1, {}), (3, {"mine": "1"})]
    text = "[a]\n[a_b]\nworkers: 2\n"
    assert [(each.name, each.workers) for each in load(text).groups(["a", "a_b"])] == [("a", 1), ("a_b", 2)]


def test_an_instance_of_a_type_whose_workers_are_wrong_is_not_a_second_fault(faults: Callable[..., list[str]]) -> None:
    assert len(faults("[w]\nworkers: 'a, b\n[w_a]\n", installed=("w",))) == 1
    assert len(faults("[w]\nworkers: a, a\n[w_a]\n", installed=("w",))) == 1


def test_all_faults_of_all_files_by_file_and_line(faults: Callable[..., list[str]]) -> None:
    found = faults(
        "x\n[amqp]\nport: x\n[w]\nworkers: a\nuser: nobody-there\n",
        a__ini="[amqp]\n\nprot: 1\nport: 2\n",
        b__ini="[w_a]\n[w_a]\n",
        environ={"TASKQUEUE_AMQP_URL": "x"},
    )
    assert [line.partition(": ")[0] for line in found] == [
        "conf.d/a.ini:3",
        "conf.d/b.ini:2",
        "config.ini:1",
        "config.ini:3",
        "config.ini:6",
        "TASKQUEUE_AMQP_URL",
    ]


def test_files_that_cannot_be_read(tmp_path: Path, faults: Callable[..., list[str]]) -> None:
    assert faults(None) == []
    assert faults(None, must_exist=True) == ["config.ini: no such file"]
    (tmp_path / "config.ini").mkdir()
    assert faults(None) == ["config.ini: cannot be read: is a directory"]
    (tmp_path / "config.ini").rmdir()
    (tmp_path / "config.ini").symlink_to("config.ini")
    assert faults(None) == ["config.ini: cannot be read: too many levels of symbolic links"]
    (tmp_path / "config.ini").unlink()
    assert faults("#" * inifile.MAX_FILE_BYTES) == []
    assert faults("#" * (inifile.MAX_FILE_BYTES + 1)) == [
        "config.ini: larger than 1048576 bytes; expected a configuration file"
    ]


def test_files_and_directories_without_permission() -> None:
    """In a child that is nobody where the tests run as root, whom no mode stops."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "config.ini").touch(mode=0)
        (directory / "conf.d").mkdir(mode=0)
        assert as_nobody(lambda: load_faults(directory / "config.ini")) == [
            f"{name}/conf.d: cannot be read: permission denied",
            f"{name}/config.ini: cannot be read: permission denied",
        ]


def load_faults(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as error:
        loading.load(str(path), environ={})
    return list(error.value.faults)


def as_nobody(run: Callable[[], list[str]]) -> list[str]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(writer, json.dumps(run()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return list(json.loads(answer))


def test_the_users_of_the_host_are_asked_where_the_caller_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.ini"
    path.write_text("[w]\nuser: root\n")
    assert group(loading.load(str(path), environ={})).user == "root"
    path.write_text("[w]\nuser: no-such-user-here\n")
    with pytest.raises(ConfigError):
        loading.load(str(path), environ={})


# --- warnings ---------------------------------------------------------------------------------------------------------


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
    ],
)
def test_warnings(load: Load, text: str, installed: tuple[str, ...], expected: list[str]) -> None:
    assert [line.rpartition("/")[2] for line in load(text, installed=installed).warnings] == expected


def test_a_plugin_with_the_name_of_a_section_of_ours_runs_with_the_defaults(load: Load) -> None:
    found = load("[amqp]\nuser: bifh1\nheartbeat: 9\n[DEFAULT]\nworkers: 2\n")
    assert (group(found, "amqp", ("amqp",)).workers, group(found, "amqp", ("amqp",)).user) == (2, None)


# --- anything ---------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *("[", "]", "[[", "amqp", "DEFAULT", "workers", "worker1", "worker1_a", "a", "_", ":", "=", ",", '"', "'", "#"),
        *(";", " ", "\t", "\n", "\n", "\r\n", "\\", "%", "$", "(", "1", "none", "auto", "'''", '"""', "\x0b", "\x85"),
        *("[amqp]\n", "[a]\n", "[a_b]\n", "workers: ", "host: ", "passwd: ", "soft_time_limit: 3", "\ufeff", "\u2028"),
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=60).map("".join).map(str.encode), st.binary(max_size=200))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, url=st.one_of(st.just(""), st.text(max_size=40).map(lambda rest: f"amqp://{rest}")))
@example(text=b"[a]\nk: '\n", url="")
def test_any_text_gives_settings_or_a_config_error(load: Load, text: bytes, url: str) -> None:
    try:
        found = load(text, environ={"TASKQUEUE_AMQP_URL": url})
        found.groups(["a", "worker1"])
    except ConfigError as error:
        assert error.faults
        assert all("\n" not in fault for fault in error.faults)


WRITABLE = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters='\0\n\r"'), max_size=30)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(WRITABLE, max_size=5))
def test_any_quoted_value_survives(load: Load, values: list[str]) -> None:
    text = "[w]\nlist: " + "".join(f'"{value}",' for value in values or [""]) + "\n"
    text += "".join(f'k{number}="{value}" # comment\n' for number, value in enumerate(values))
    own = group(load(text)).own
    assert own == {"list": values or [""]} | {f"k{number}": value for number, value in enumerate(values)}
