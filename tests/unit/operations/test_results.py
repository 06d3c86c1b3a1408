"""Reading and following results: which are given, how often, and when it ends."""

from __future__ import annotations

from typing import Any

import pytest

from fake_broker import FakeBroker, message
from taskqueue.errors import BrokerUnavailable
from taskqueue.operations.results import Results


def result(message_id: str, worker_type: str = "t", status: str = "success") -> Any:
    return message(
        None, {"task_id": message_id, "worker_type": worker_type, "status": status, "attempt": 1, "host": "h"}
    )


def ids(messages: Any) -> list[str]:
    return [each.properties.headers["task_id"] for each in messages]


@pytest.fixture
def broker() -> FakeBroker:
    broker = FakeBroker()
    broker.queue("results", result("a"), result("b", "u"), result("c", status="error"), result("d"))
    return broker


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ({}, ["a", "b", "c", "d"]),
        ({"worker_type": "t"}, ["a", "c", "d"]),
        ({"status": "error"}, ["c"]),
        ({"worker_type": "u", "status": "error"}, []),
        ({"worker_type": "t", "limit": 2}, ["a", "c"]),
        ({"limit": 9}, ["a", "b", "c", "d"]),
    ],
)
def test_read_gives_those_that_fit_up_to_a_limit(broker: FakeBroker, wanted: dict[str, Any], given: list[str]) -> None:
    assert ids(Results(broker, "results", **wanted).read()) == given
    assert len(broker.queues["results"].ids) == 4 and broker.readings[0].closed


def test_no_queue_no_results() -> None:
    assert ids(Results(FakeBroker(), "results").read()) == []


def again(broker: FakeBroker) -> None:
    """The broker delivers all of it anew."""
    queue = broker.queues["results"]
    before, queue.deliveries = queue.deliveries, []
    for each in before:
        queue.put(each.properties, each.body, redelivered=True)


@pytest.mark.parametrize(("taken", "left"), [(False, "abcde"), (True, "be")])
def test_following_gives_each_once_over_two_connections(broker: FakeBroker, taken: bool, left: str) -> None:
    """What was taken, and comes again because its ack was lost, is taken again; what was not wanted never is."""
    broker.cuts = [4]
    resumed: list[str] = []

    def resume(error: BrokerUnavailable) -> None:
        resumed.append(str(error))
        again(broker)
        broker.queue("results", result("e"))

    found = ids(Results(broker, "results", worker_type="t", limit=4, taken=taken).follow(resume))
    assert (found, resumed) == (["a", "c", "d", "e"], ["the connection was cut"])
    assert "".join(ids(broker.queues["results"].deliveries)) == left, "`e` is for the caller to take"


def test_following_ends_where_the_connection_does_not_come_back(broker: FakeBroker) -> None:
    broker.session.connection.is_up = False
    broker.cuts = [1, 0]
    resumed: list[BrokerUnavailable] = []
    results = Results(broker, "results").follow(resumed.append)
    assert next(results).properties.headers["task_id"] == "a"
    with pytest.raises(BrokerUnavailable):
        list(results)
    assert len(resumed) == 1, "after the first cut something had been given"


def test_following_waits_for_a_queue_that_is_not_there_yet(broker: FakeBroker) -> None:
    waited: list[float] = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        broker.queue("late", result("z"))

    broker.pause = pause
    assert ids(Results(broker, "late", limit=1).follow(print)) == ["z"]
    assert waited == [1.0]
