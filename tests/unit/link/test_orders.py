"""The orders between pool, listener and template: each survives the link, and nothing else is taken for one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from descriptors import descriptors
from taskqueue.errors import LinkError
from taskqueue.link import orders, packets
from taskqueue.link.packets import Link

EVERY = [
    orders.TemplateStart({"worker_type": "w"}, {"level": "INFO"}, 5, "package.module:Worker", None),
    orders.TemplateStart({}, {}, None, "m:W", "/sys/fs/cgroup/taskqueue/w"),
    orders.ListenerStart({"worker_type": "w"}, {"user": "u"}, 604800.0, {"level": "INFO"}, None),
    orders.ListenerStart({}, {}, 1, {}, 3),
    orders.Drain(),
    orders.StopNow(),
    orders.AskStatus(),
    orders.Status({"consuming": True}),
    orders.Ready(),
    orders.Failed("Traceback …\nValueError: ä"),
    orders.Failed("died", 3),
    orders.WorkerForked(4711),
    orders.WorkerReady(4711),
    orders.WorkerGone(4711, -9, "time_limit"),
    orders.WorkerGone(4711, 0, None),
    orders.KillWorker(4711, "time_limit"),
    orders.KillAllWorkers(),
    orders.Retire(),
    orders.NoWorkerLeft(),
]


@pytest.fixture
def ends() -> Iterator[tuple[Link, Link]]:
    """Both ends of a link."""
    left, right = packets.pair()
    yield left, right
    left.close()
    right.close()


@pytest.mark.parametrize("order", EVERY, ids=lambda order: type(order).__name__)
def test_an_order_arrives_as_it_was_sent(ends: tuple[Link, Link], order: orders.Order) -> None:
    both = [end.fileno() for end in ends]
    assert orders.send(ends[0], order, both if isinstance(order, orders.WorkerForked) else ())
    received = orders.receive(ends[1])
    assert received is not None
    for fd in received.fds:
        os.close(fd)
    assert type(received.order) is type(order) and received.order == order


def test_every_order_is_tried_here() -> None:
    assert {type(order) for order in EVERY} == {kind for kind, _types in orders._TABLE.values()}


def test_descriptors_come_with_their_order(ends: tuple[Link, Link]) -> None:
    read, write = os.pipe()
    try:
        orders.send(ends[0], orders.WorkerForked(1), (read, write))
        received = orders.receive(ends[1])
        assert received is not None and len(received.fds) == 2
        for fd in received.fds:
            os.close(fd)
    finally:
        os.close(read)
        os.close(write)


def test_nothing_to_receive_and_the_end(ends: tuple[Link, Link]) -> None:
    assert orders.receive(ends[1]) is None
    ends[0].close()
    with pytest.raises(EOFError):
        orders.receive(ends[1])
    with pytest.raises(LinkError, match="gone"):
        orders.send(ends[1], orders.Drain())


@pytest.mark.parametrize(
    "head",
    [
        ["no-such-order"],
        [["drain"]],
        [7],
        [None, 1],
        ["drain", 1],
        ["worker-gone", 4711, -9],
        ["worker-gone", "4711", -9, None],
        ["worker-gone", 4711, -9, None, None],
        ["kill-worker", 4711, None],
        ["failed", 1, 0],
        ["failed", "trace", "3"],
        ["status", []],
        ["listener-start", {}, {}, "7d", {}, None],
    ],
)
def test_what_is_no_order_is_refused(ends: tuple[Link, Link], head: list[Any]) -> None:
    ends[0].send(head)
    with pytest.raises(LinkError, match="order"):
        orders.receive(ends[1])


@pytest.mark.parametrize(
    ("order", "count"), [(orders.WorkerForked(1), 0), (orders.WorkerForked(1), 3), (orders.Ready(), 1)]
)
def test_a_wrong_number_of_descriptors_is_refused_and_none_leaks(
    ends: tuple[Link, Link], order: orders.Order, count: int
) -> None:
    before = descriptors()
    orders.send(ends[0], order, [ends[0].fileno()] * count)
    with pytest.raises(LinkError, match=f"{count} descriptors; expected"):
        orders.receive(ends[1])
    assert descriptors() == before


def test_the_start(ends: tuple[Link, Link]) -> None:
    start = orders.TemplateStart({}, {}, None, "m:W", None)
    orders.send(ends[0], start)
    assert orders.receive_start(ends[1], orders.TemplateStart) == start
    orders.send(ends[0], orders.Drain())
    with pytest.raises(LinkError, match="not a TemplateStart: Drain"):
        orders.receive_start(ends[1], orders.TemplateStart)
    ends[0].close()
    assert orders.receive_start(ends[1], orders.TemplateStart) is None
