"""The search for one workitem: in which order it looks, what it finds, and that it reads no further than it must."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

import status_documents
from fake_broker import FakeBroker, letter, message
from taskqueue.operations.find_workitem import (
    Dead,
    Delayed,
    Finished,
    Running,
    Sighting,
    Waiting,
    Whereabouts,
    document,
    where_is,
)
from taskqueue.protocol import queues
from taskqueue.protocol.properties import DELAY_DUE, DELAY_TARGET
from taskqueue.status.document import Pool

RUNG = queues.rung(21).name
RESULT = {"task_id": "x", "status": "success", "worker_type": "t", "attempt": 2, "runtime_ms": 30, "host": "h"}
ATTEMPTS = {"x-attempt": 2, "x-crashes": 1}
DUE = {DELAY_DUE: 2_000_000, DELAY_TARGET: "worker_t", "x-attempt": 1}


def search(broker: FakeBroker, pool: Pool | None = None, figures: Mapping[str, Any] | None = None) -> Whereabouts:
    return where_is(
        broker, "x", worker_types={"u", "t"}, results_queues=["mine"], pool=pool,
        management=SimpleNamespace(queues=lambda: figures),
    )  # fmt: skip


SIGHTINGS: dict[str, tuple[Any, Sighting]] = {
    queues.DEAD: (
        letter("x", at_s=1.5), Dead(queues.DEAD, "t", "failed", 1.5, "worker_t", "h", None),
    ),
    "results": (message("r", RESULT), Finished("results", "success", "t", 2, 30, "h", None)),
    "mine": (message("x"), Finished("mine", None, None, None, None, None, None)),
    RUNG: (message("x", DUE), Delayed(RUNG, 2000.0, "worker_t", 1)),
    queues.DELAY_STEP: (message("x"), Delayed(queues.DELAY_STEP, None, None, 0)),
    "worker_t": (message("x", ATTEMPTS), Waiting("worker_t", 2, 2, 1)),
    queues.INGRESS: (message("x"), Waiting(queues.INGRESS, 2, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("queue", "found"), SIGHTINGS.items(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_found_in_a_queue(queue: str, found: tuple[Any, Sighting]) -> None:
    broker = FakeBroker()
    broker.queue(queue, message("other"), found[0], message("behind"))
    assert search(broker) == Whereabouts((found[1],))
    assert all(reading.closed for reading in broker.readings) and len(broker.queues[queue].ids) == 3


def test_a_worker_that_runs_it_is_found_and_waiting_queues_are_left_alone() -> None:
    broker = FakeBroker()
    broker.queue("worker_t", message("x"))
    pool = status_documents.pool(status_documents.group("t/a", status_documents.worker(9, ("y", 1.0), ("x", 4000.0))))
    (found,) = search(broker, pool).found
    assert found == Running("here", "t/a", 9, 1, 4000.0) and found.where == "here, group t/a, pid 9"
    assert broker.read_queues == []


def test_a_dead_letter_and_its_results_are_found_together() -> None:
    broker = FakeBroker()
    broker.queue(queues.DEAD, letter("x"), letter("x", at_s=2000.0))
    broker.queue("results", message("r", RESULT))
    assert [each.state for each in search(broker).found] == ["dead", "dead", "finished"]


def test_it_waits_in_one_place_and_the_search_ends_there() -> None:
    broker = FakeBroker()
    for name in (RUNG, "worker_t", "worker_u", queues.INGRESS):
        broker.queue(name, message("x"))
    assert [each.where for each in search(broker).found] == [RUNG]
    assert broker.read_queues == [RUNG]


def test_the_copy_of_a_delayed_message_does_not_wait_for_all_of_its_time_again() -> None:
    broker = FakeBroker()
    broker.queue(RUNG, message("x", DUE))
    broker.queue("worker_t", message("y"))
    search(broker)
    (renew,) = broker.renewals
    properties, _ = message("x", DUE)
    assert renew(properties)[0] == queues.DELAY_STEP


def test_not_found_hints_at_who_may_have_it() -> None:
    pool = status_documents.pool(status_documents.group("t", waiting=4), status_documents.group("u"))
    figures = {name: SimpleNamespace(unacked=unacked) for name, unacked in {"worker_t": 3, "taskqueue": 1}.items()}
    assert search(FakeBroker(), pool, figures) == Whereabouts(
        (),
        (
            "4 workitems wait at hand of group t on this host; their ids are not known",
            "1 workitems of taskqueue are at hand of those who consume it",
            "3 workitems of worker_t are at hand of those who consume it",
        ),
    )
    assert search(FakeBroker()) == Whereabouts((), ()), "without a pool and without the management plugin"


def test_progress_hears_of_each_queue_and_message() -> None:
    broker = FakeBroker()
    broker.queue("worker_t", message("y"), message("x"))
    advances: list[int] = []
    looked: list[tuple[str, int]] = []

    def progress(queue: str, ready: int) -> Any:
        looked.append((queue, ready))
        return nullcontext(advances.append)

    where_is(
        broker, "x", worker_types={"t"}, results_queues=[], pool=None, management=SimpleNamespace(queues=dict),
        progress=progress,
    )  # fmt: skip
    assert (looked, advances) == ([("worker_t", 2)], [1, 1])


def test_a_sighting_as_json() -> None:
    assert document(Running("here", "t", 9, 1, 4000.0)) == {
        "state": "running", "where": "here, group t, pid 9", "host": "here", "group": "t", "pid": 9, "attempt": 1,
        "since": 4000.0,
    }  # fmt: skip
    assert list(document(Waiting("worker_t", 1, 0, 0))) == ["state", "where", "place", "attempts", "crashes"]
