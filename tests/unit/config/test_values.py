"""The kinds of value: what each takes, and the line for each bad one."""

from __future__ import annotations

import os

import pytest

from configs import faults, faults_whatever_is_installed, group, load_text
from taskqueue.config.settings import LoggingSettings

LIST = "a list; expected one value, in quotes where it has a comma in it"
HOST = "expected name, name:port or [IPv6 address]:port, or a list of them"
LOOP = "expected any but taskqueue, taskqueue_* and worker_*, or results would be dispatched for ever"
WORKERS = "expected a whole number from 0 to 10000, auto, or names of instances"


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
def test_durations(text: str, seconds: float | None) -> None:
    assert group(load_text(f"[w]\ntime_limit: {text}\n")).time_limit_s == seconds


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
def test_sizes(text: str, count: int | None) -> None:
    assert group(load_text(f"[w]\nmax_memory: {text}\n")).max_memory_bytes == count


@pytest.mark.parametrize("text", ["yes", "True", "ON", "1", "no", "FALSE", "off", "0"])
def test_truth(text: str) -> None:
    assert group(load_text(f"[w]\npreload: {text}\n")).preload == (text.lower() in ("yes", "true", "on", "1"))


def test_choices_in_any_case() -> None:
    found = load_text("[logging]\nlevel: debug\ntarget: STDERR\nformat: Json\n[amqp]\nqueue_type: Classic\n")
    assert found.logging == LoggingSettings("DEBUG", "stderr", "json")
    assert found.amqp.queue_type == "classic"


def test_workers() -> None:
    cpus = len(os.sched_getaffinity(0))
    assert group(load_text("[w]\nworkers: auto\n")).workers == cpus
    assert group(load_text("[DEFAULT]\nworkers: Auto\n")).workers == cpus
    assert load_text("[w]\nworkers: 0\n").groups(["w"]) == ()
    assert [each.name for each in load_text("[w]\nworkers: one\n[w_one]\n").groups(["w"])] == ["w/one"]
    assert [each.name for each in load_text("[w]\nworkers: 1, 2\n[w_1]\n[w_2]\nworkers: 0\n").groups(["w"])] == ["w/1"]


def test_only_the_plugins_that_were_chosen() -> None:
    found = load_text("[workerpool]\nplugins: b, c\n")
    assert found.workerpool.plugins == ("b", "c")
    assert [each.name for each in found.groups(["a", "b", "c"])] == ["b", "c"]
    assert load_text("[workerpool]\nplugins: *\n").workerpool.plugins is None
    assert load_text("[workerpool]\nplugins: b\n").workerpool.plugins == ("b",)


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
def test_hosts(lines: str, hosts: tuple[tuple[str, int], ...]) -> None:
    found = load_text(f"[amqp]\n{lines}\n").amqp
    assert found.hosts == hosts
    assert found.ssl == ("ssl" in lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[amqp]\nport: x\n", "2: [amqp] port: 'x' is wrong; expected a whole number from 1 to 65535"),
        ("[amqp]\nport: 0\n", "2: [amqp] port: '0' is wrong; expected a whole number from 1 to 65535"),
        ("[amqp]\nport: 65536\n", "2: [amqp] port: '65536' is wrong; expected a whole number from 1 to 65535"),
        ("[amqp]\nport: 1, 2\n", f"2: [amqp] port: {LIST}"),
        ("[amqp]\nport: ٣\n", "2: [amqp] port: '٣' is wrong; expected a whole number from 1 to 65535"),
        ("[amqp]\nuser:\n", "2: [amqp] user: 0 bytes long; expected 1 to 255"),
        ("[amqp]\nhost:\n", f"2: [amqp] host: host 1 of 1 is wrong; {HOST}"),
        ("[amqp]\nhost: ,\n", f"2: [amqp] host: no host; {HOST}"),
        ("[amqp]\nhost: a, ::1\n", f"2: [amqp] host: host 2 of 2 is wrong; {HOST}"),
        ("[amqp]\nhost: a:0\n", f"2: [amqp] host: host 1 of 1 is wrong; {HOST}"),
        (
            "[amqp]\nheartbeat: 100ms\n",
            "2: [amqp] heartbeat: '100ms' is wrong; expected whole seconds, from 0 to 65535",
        ),
        (
            "[amqp]\nheartbeat: 65536\n",
            "2: [amqp] heartbeat: '65536' is wrong; expected a duration such as 30, 1.5s, 5m, 2h or 7d, "
            "from 0 to 65535",
        ),
        ("[amqp]\nssl: yse\n", "2: [amqp] ssl: 'yse' is wrong; expected yes or no; did you mean 'yes'?"),
        ("[amqp]\nssl: maybe\n", "2: [amqp] ssl: 'maybe' is wrong; expected yes or no"),
        (
            "[amqp]\nqueue_type: qorum\n",
            "2: [amqp] queue_type: 'qorum' is wrong; expected one of quorum, classic; did you mean 'quorum'?",
        ),
        (
            "[logging]\nlevel: verbose\n",
            "2: [logging] level: 'verbose' is wrong; expected one of DEBUG, INFO, WARNING, ERROR, CRITICAL",
        ),
        (
            "[dispatcher]\nprefetch: 0\n",
            "2: [dispatcher] prefetch: '0' is wrong; expected a whole number from 1 to 65535",
        ),
        (
            "[dispatcher]\nmax_body: 1T\n",
            "2: [dispatcher] max_body: '1T' is wrong; expected a size such as 65536, 512k, 16M or 1 GiB, "
            "from 1 to 512M",
        ),
        (
            "[workerpool]\nresults_ttl: 50d\n",
            "2: [workerpool] results_ttl: '50d' is wrong; expected a duration such as 30, 1.5s, 5m, 2h or 7d, "
            "from 1s to 49d",
        ),
        (
            "[workerpool]\nstop_timeout: 5M\n",
            "2: [workerpool] stop_timeout: '5M' is wrong; expected a duration such as 30, 1.5s, 5m, 2h or 7d, "
            "from 0 to 1d",
        ),
        ("[workerpool]\nplugins:\n", "2: [workerpool] plugins: '' is wrong; expected * or a list of worker types"),
        (
            "[workerpool]\nplugins: none, -\n",
            "2: [workerpool] plugins: 'none, -' is wrong; expected * or a list of worker types",
        ),
        ("[workerpool]\nplugins: a*\n", "2: [workerpool] plugins: 'a*' is wrong; expected * or a list of worker types"),
        ("[w]\nworkers:\n", f"2: [w] workers: '' is wrong; {WORKERS}"),
        ("[w]\nworkers: 1.5\n", f"2: [w] workers: '1.5' is wrong; {WORKERS}"),
        ("[w]\nworkers: ,\n", f"2: [w] workers: '' is wrong; {WORKERS}"),
        ("[w]\nworkers: 10001\n", f"2: [w] workers: '10001' is wrong; {WORKERS}"),
        (
            "[w]\nworkers: a, b, a\n[w_a]\n[w_b]\n",
            "2: [w] workers: names instance 'a' more than once; expected each name once",
        ),
        ("[w]\nmax_crashes: 0\n", "2: [w] max_crashes: '0' is wrong; expected a whole number from 1 to 1000"),
        ("[w]\nconcurrency: 0\n", "2: [w] concurrency: '0' is wrong; expected a whole number from 1 to 10000"),
        (
            "[w]\nprefetch: many\n",
            "2: [w] prefetch: 'many' is wrong; expected a whole number from 1 to 65535, or auto",
        ),
        ("[w]\nuser: bifh3\n", "2: [w] user: no such unix user: 'bifh3'; expected one of this host's, or none"),
        ("[DEFAULT]\nuser: x\n", "2: [DEFAULT] user: no such unix user: 'x'; expected one of this host's, or none"),
        ("[w]\nresults_routing_key:\n", "2: [w] results_routing_key: 0 bytes long; expected 1 to 255"),
        (
            f"[w]\nresults_routing_key: {'ü' * 128}\n",
            "2: [w] results_routing_key: 256 bytes long; expected 1 to 255",
        ),
        *(
            (f"[w]\nresults_routing_key: {key}\n", f"2: [w] results_routing_key: '{key}' is wrong; {LOOP}")
            for key in ("taskqueue", "taskqueue_dead", "worker_w")
        ),
    ],
)
def test_a_bad_value(text: str, expected: str) -> None:
    assert faults_whatever_is_installed(text) == [f"config.ini:{expected}"]


def test_a_bad_value_with_a_password_is_not_shown() -> None:
    for line in ("passwd: s3cret, x", 'passwd: "s3cret', "passwd s3cret", "host: amqp://u:s3cret@h", "s3cret"):
        (fault,) = faults(f"[amqp]\n{line}\n")
        assert fault.startswith("config.ini:2: ")
        assert line == "s3cret" or "s3cret" not in fault
