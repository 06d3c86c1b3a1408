"""How a listener obeys its pool, hears its template and ends; the test holds their ends, and there is no broker."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from listening import AMQP, group
from taskqueue.foundation.loop import Loop
from taskqueue.link import orders, packets
from taskqueue.listener.listener import Listener


class WatchedLoop(Loop):
    """A loop that remembers that it was stopped, which is the end of a listener."""

    stopped = False

    def stop(self) -> None:
        self.stopped = True
        super().stop()


class Bench:
    """A listener that was never connected."""

    def __init__(self) -> None:
        self.loop = WatchedLoop()
        self.pool, pool = packets.pair()
        self.template, template = packets.pair()
        self.links = [pool, template, self.pool, self.template]
        self.listener = Listener(self.loop, group(), AMQP, 60.0, pool, template)

    def turn(self) -> None:
        for _ in range(3):
            self.loop.turn(0)

    def order(self, link: packets.Link, order: orders.Order, fds: tuple[int, ...] = ()) -> None:
        orders.send(link, order, fds)
        self.turn()

    def worker(self, pid: int) -> packets.Link:
        """A worker that is ready."""
        ours, theirs = packets.pair()
        self.links += [ours, theirs]
        self.order(self.template, orders.WorkerForked(pid), (ours.fileno(), theirs.fileno()))
        theirs.send(["ready"])
        self.turn()
        return theirs

    def received(self, link: packets.Link) -> list[orders.Order]:
        found = []
        while (received := orders.receive(link)) is not None:
            found.append(received.order)
        return found

    @property
    def has_ended(self) -> bool:
        return self.loop.stopped


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench; the handler of SIGTERM is as before afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    made = Bench()
    yield made
    made.listener._deliveries.workers.all_gone()
    made.loop.close()
    signal.signal(signal.SIGTERM, before)
    for link in made.links:
        link.close()


def test_a_worker_serves_and_the_pool_learns_of_it(bench: Bench) -> None:
    bench.worker(4711)
    assert bench.received(bench.template) == [orders.WorkerReady(4711)]
    assert bench.received(bench.pool) == [orders.Ready()]


def test_the_status_document(bench: Bench) -> None:
    bench.worker(4711)
    bench.order(bench.pool, orders.AskStatus())
    status = bench.received(bench.pool)[-1]
    assert isinstance(status, orders.Status)
    assert list(status.document) == ["broker", "consuming", "prefetch", "waiting", "counts", "workers"]
    (worker,) = status.document["workers"]
    assert (worker["pid"], worker["state"], worker["tasks"]) == (4711, "idle", [])


def test_it_drains_retires_its_workers_and_ends(bench: Bench) -> None:
    end = bench.worker(4711)
    bench.received(bench.template)
    bench.order(bench.pool, orders.Drain())
    assert bench.received(bench.template) == [orders.Retire()]
    with pytest.raises(EOFError):
        end.receive()
    assert not bench.has_ended, "a worker may still be at its teardown"
    bench.order(bench.template, orders.WorkerGone(4711, 0, None))
    bench.order(bench.template, orders.NoWorkerLeft())
    assert bench.has_ended


def test_sigterm_is_an_order_to_drain(bench: Bench) -> None:
    signal.raise_signal(signal.SIGTERM)
    bench.turn()
    assert bench.received(bench.template) == [orders.Retire()]


def test_stop_now_kills_the_workers_once(bench: Bench) -> None:
    bench.worker(4711)
    bench.received(bench.template)
    bench.order(bench.pool, orders.StopNow())
    bench.order(bench.pool, orders.StopNow())
    assert bench.received(bench.template) == [orders.KillAllWorkers()]
    bench.order(bench.template, orders.WorkerGone(4711, -9, None))
    bench.order(bench.template, orders.NoWorkerLeft())
    assert bench.has_ended


def test_no_worker_left_means_nothing_before_the_end(bench: Bench) -> None:
    """A template may have lost its last worker for a moment."""
    bench.order(bench.template, orders.NoWorkerLeft())
    bench.worker(4711)
    bench.order(bench.pool, orders.Drain())
    assert not bench.has_ended


def test_it_ends_with_its_template(bench: Bench) -> None:
    bench.worker(4711)
    bench.template.close()
    bench.turn()
    assert bench.has_ended
