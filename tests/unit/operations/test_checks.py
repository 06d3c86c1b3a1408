"""What the checks of doctor make of what they see."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import status_documents
from fake_broker import FakeBroker, message
from taskqueue import __version__
from taskqueue.config.load import load
from taskqueue.config.settings import GroupSettings
from taskqueue.errors import BrokerRefused, BrokerUnavailable, PoolUnavailable
from taskqueue.operations.checks import broker_health, consumer_timeout, queue_health, reachability
from taskqueue.operations.checks.workerpool import workerpool
from taskqueue.operations.findings import OK, PROBLEM, WARNING, Finding
from taskqueue.protocol import queues

SETTINGS = load("/no/such/config.ini", environ={})
(GROUP,) = SETTINGS.every_group(["t"])
RUNNING = status_documents.group("t", status_documents.worker(1))


def statuses(findings: Any, check: str = "") -> list[str]:
    return [each.status for each in findings if check in ("", each.check)]


@pytest.mark.parametrize(
    ("pool", "wanted", "expected"),
    [
        (PoolUnavailable("none runs"), set(), [OK]),
        (PoolUnavailable("none runs"), {"t"}, [PROBLEM]),
        (PoolUnavailable("x: permission denied"), {"t"}, [WARNING]),
        (status_documents.pool(RUNNING, version=__version__), {"t"}, [OK]),
        (status_documents.pool(RUNNING, version="0"), {"t"}, [WARNING, OK]),
        (status_documents.pool(RUNNING, version=__version__), {"t", "u"}, [WARNING, OK]),
        (status_documents.pool(RUNNING, version=__version__), set(), [WARNING, OK]),
        (
            status_documents.pool(status_documents.group("t", state="backoff"), version=__version__),
            {"t"},
            [PROBLEM, OK],
        ),
        (
            status_documents.pool(
                status_documents.group("t", broker={"connected": False, "trouble": "refused"}), version=__version__
            ),
            {"t"},
            [PROBLEM, OK],
        ),
    ],
)
def test_workerpool(pool: Any, wanted: set[str], expected: list[str]) -> None:
    assert statuses(workerpool(pool, wanted)) == expected


@pytest.mark.parametrize(
    ("product", "version", "expected"),
    [("RabbitMQ", "3.9.29", PROBLEM), ("RabbitMQ", "3.10.0", OK), ("RabbitMQ", "4.3.1-rc.1", OK), ("X", "9", WARNING)],
)
def test_version(product: str, version: str, expected: str) -> None:
    broker = FakeBroker()
    broker.server = SimpleNamespace(host="h:1", product=product, version=version, cluster_name="c")
    assert statuses(broker_health.server(broker, SETTINGS.amqp), "version") == [expected]


@pytest.mark.parametrize(
    ("ahead_s", "expected"), [(None, []), (0.5, [OK]), (-1.9, [OK]), (2.0, [WARNING]), (-60.0, [PROBLEM])]
)
def test_clock(ahead_s: float | None, expected: list[str]) -> None:
    assert statuses(broker_health.clock(SimpleNamespace(clock_ahead_s=lambda: ahead_s))) == expected


def declared(broker: FakeBroker, pool: Any = None) -> list[Finding]:
    nothing = SimpleNamespace(queues=lambda: None)
    return list(queue_health.declared_queues(broker, SETTINGS, [GROUP], nothing, pool))


def test_queues_that_are_not_as_declared_and_that_nobody_consumes() -> None:
    broker = FakeBroker()
    assert [(each.status, each.check) for each in declared(broker)] == [
        (OK, "queues"), (PROBLEM, "consumers"), (WARNING, "consumers"), (OK, "dead letters"),
    ]  # fmt: skip
    broker.queue("taskqueue", consumers=1)
    broker.queue("worker_t", message("a"))
    broker.queue("taskqueue_dead", message("d"))
    broker.differences["worker_t"] = "inequivalent arg"
    difference, consumers, dead = declared(broker)
    assert (difference.status, difference.found) == (WARNING, "inequivalent arg")
    assert "or say [amqp] queue_type as it is" in difference.advice
    assert (consumers.status, dead.status) == (PROBLEM, WARNING), "a workitem waits for nobody"
    running = status_documents.pool(RUNNING)
    assert statuses(declared(broker, running), "consumers") == [OK], "this host's workers are only busy"


@pytest.mark.parametrize(
    ("since", "time_limit_s", "waiting", "expected"),
    [(0.0, None, 1, [WARNING]), (4999.0, None, 1, []), (0.0, 60.0, 1, []), (0.0, None, 0, [])],
)
def test_stuck(since: float, time_limit_s: float | None, waiting: int, expected: list[str]) -> None:
    broker = FakeBroker()
    broker.queue("worker_t", *[message("a")] * waiting)
    pool = status_documents.pool(status_documents.group("t", status_documents.worker(1, ("x", since))))
    assert statuses(queue_health.stuck(broker, pool, [replace(GROUP, time_limit_s=time_limit_s)])) == expected


@pytest.mark.parametrize(
    ("timeout_s", "groups", "expected"),
    [
        (1800.0, [GROUP], OK),
        (3 * queues.LEASE_AFTER_S - 1, [GROUP], WARNING),
        (None, [GROUP], OK),
        (float("inf"), [], OK),
    ],
)
def test_consumer_timeout(
    timeout_s: float | None, groups: list[GroupSettings], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_timeout, "_consumer_timeout_s", lambda broker: timeout_s)
    assert statuses(consumer_timeout.consumer_timeout(FakeBroker(), groups)) == [expected]


@pytest.mark.parametrize("error", [BrokerRefused("no"), BrokerUnavailable("no")])
def test_no_connection(error: Exception) -> None:
    assert reachability.connection(error).status == PROBLEM


@pytest.mark.parametrize(
    ("host", "is_here"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("localhost.localdomain", True), ("10.0.0.1", False),
     ("rabbit", False), ("localhoster", False)],
)  # fmt: skip
def test_loopback(host: str, is_here: bool) -> None:
    assert reachability.is_loopback(host) is is_here
