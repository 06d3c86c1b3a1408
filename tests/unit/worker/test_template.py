"""What a template does about births, deaths and orders; its processes are played by the test."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from taskqueue.config.settings import GroupSettings
from taskqueue.foundation.loop import Loop
from taskqueue.link import orders, packets
from taskqueue.link.orders import (
    KillAllWorkers,
    KillWorker,
    NoWorkerLeft,
    Retire,
    WorkerForked,
    WorkerGone,
    WorkerReady,
)
from taskqueue.link.packets import Link
from taskqueue.worker.processes import Death, Forked, Processes
from taskqueue.worker.template import Template

GROUP = GroupSettings(
    worker_type="w", instance=None, workers=2, user=None, results_routing_key="results", report_results=True,
    max_retries=0, retry_delay_s=1.0, retry_max_delay_s=60.0, max_crashes=3, soft_time_limit_s=None, time_limit_s=None,
    max_tasks=None, max_memory_bytes=None, prefetch=None, concurrency=1, preload=True, own={},
)  # fmt: skip


class Turning:
    """Stands for the loop: keeps what it was given, for the test to call."""

    READ = Loop.READ

    def __init__(self) -> None:
        self.child_died: Callable[[], object]
        self.handlers: dict[int, Callable[[int, int], object]] = {}
        self.later: list[tuple[float, Callable[[], object]]] = []
        self.running = True

    def on_signal(self, signum: int, callback: Callable[[], object]) -> None:
        assert signum == signal.SIGCHLD
        self.child_died = callback

    def add_handler(self, fd: int, handler: Callable[[int, int], object], events: int) -> None:
        self.handlers[fd] = handler

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> None:
        self.later.append((delay_s, callback))

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self.running = False


class Played:
    """Stands for `Processes`: workers are numbers, counted from 1."""

    def __init__(self) -> None:
        self.forked = 0
        self.killed: list[int | str] = []
        self.dead: list[Death] = []
        self.refuses: OSError | None = None
        self.ended = False

    def fork(self) -> Forked:
        if self.refuses is not None:
            raise self.refuses
        self.forked += 1
        return Forked(self.forked, packets.pair())

    def kill(self, pid: int) -> None:
        self.killed.append(pid)

    def kill_all(self) -> None:
        self.killed.append("all")

    def reap(self) -> Iterator[Death]:
        while self.dead:
            yield self.dead.pop(0)

    def end(self) -> None:
        self.ended = True


class Rig:
    """A template with two workers, its listener and its pool."""

    def __init__(self) -> None:
        self.loop, self.processes, self.now = Turning(), Played(), 100.0
        self.pool, pools = packets.pair()
        self.listener, listeners = packets.pair()
        self.links = (self.pool, pools, self.listener, listeners)
        self._fds = {self.pool: pools.fileno(), self.listener: listeners.fileno()}
        self.template = Template(
            cast(Loop, self.loop), GROUP, cast(Processes, self.processes), pools, listeners, lambda: self.now
        )

    def order(self, *given: orders.Order) -> None:
        """The listener sends orders, and the template reads them."""
        for order in given:
            orders.send(self.listener, order)
        self.readable(self.listener)

    def readable(self, end: Link) -> None:
        self.loop.handlers[self._fds[end]](self._fds[end], Loop.READ)

    def dies(self, *deaths: tuple[int, int, str | None]) -> None:
        """Workers die: (pid, exit code, whether for memory)."""
        self.processes.dead += [Death(*death) for death in deaths]
        self.loop.child_died()

    def dies_unready(self, pid: int) -> float:
        """A worker dies before it was ready; in how many seconds is it replaced? The time goes by."""
        self.dies((pid, 70, None))
        assert self.reported() == [WorkerGone(pid, 70, None)], "not yet replaced"
        ((wait_s, fork),) = self.loop.later
        self.loop.later.clear()
        fork()
        assert self.reported() == [WorkerForked(self.processes.forked)]
        return wait_s

    def reported(self) -> list[orders.Order]:
        """What the listener got since the last call."""
        found = []
        while (received := orders.receive(self.listener)) is not None:
            found.append(received.order)
            assert len(received.fds) == (2 if isinstance(received.order, WorkerForked) else 0)
            for fd in received.fds:
                packets.adopt(fd).close()
        return found


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Both workers are forked; nobody is ready yet."""
    made = Rig()
    made.template.run()
    assert made.reported() == [WorkerForked(1), WorkerForked(2)]
    yield made
    for link in made.links:
        link.close()


def test_a_ready_worker_is_replaced_at_once(rig: Rig) -> None:
    rig.order(WorkerReady(1))
    rig.dies((1, -11, None))
    assert rig.reported() == [WorkerGone(1, -11, None), WorkerForked(3)]
    assert not rig.loop.later


def test_a_worker_that_never_was_ready_is_replaced_ever_later(rig: Rig) -> None:
    waits = [rig.dies_unready(pid) for pid in (1, 3, 4, 5, 6, 7, 8, 9)]
    for wait_s, longest in zip(waits, (1, 2, 4, 8, 16, 32, 60, 60), strict=True):
        assert 0.75 * longest <= wait_s <= longest


def test_a_worker_that_serves_ends_the_backoff(rig: Rig) -> None:
    assert [rig.dies_unready(pid) for pid in (1, 3, 4)][-1] > 2
    rig.order(WorkerReady(2))
    assert rig.dies_unready(5) <= 1


def test_a_storm_of_deaths_is_slowed_down(rig: Rig) -> None:
    """20 deaths in one second are replaced at once, the next ones a second later; when it is calm, at once again."""
    alive = rig.processes.forked
    for _ in range(20):
        rig.order(WorkerReady(alive))
        rig.dies((alive, -9, None))
        alive = rig.processes.forked
    assert rig.processes.forked == 22 and not rig.loop.later
    rig.now += 0.99
    rig.order(WorkerReady(alive))
    rig.dies((alive, -9, None))
    assert rig.processes.forked == 22 and [wait_s for wait_s, _ in rig.loop.later] == [1.0]
    rig.loop.later.pop()[1]()
    assert rig.processes.forked == 23
    rig.now += 1.0
    rig.order(WorkerReady(23))
    rig.dies((23, -9, None))
    assert rig.processes.forked == 24 and not rig.loop.later
    assert not any(isinstance(order, NoWorkerLeft) for order in rig.reported())


@pytest.mark.parametrize(
    ("ordered", "memory", "why"),
    [
        (None, None, None),
        (None, "out of memory: max_memory is 1 bytes", "out of memory: max_memory is 1 bytes"),
        ("time_limit", None, "time_limit"),
        ("time_limit", "out of memory: max_memory is 1 bytes", "time_limit"),
    ],
)
def test_why_a_worker_died(rig: Rig, ordered: str | None, memory: str | None, why: str | None) -> None:
    rig.order(WorkerReady(2))
    if ordered is not None:
        rig.order(KillWorker(2, ordered))
        assert rig.processes.killed == [2]
    rig.dies((2, -9, memory))
    assert rig.reported() == [WorkerGone(2, -9, why), WorkerForked(3)]


@pytest.mark.parametrize("order", [KillWorker(4711, "time_limit"), WorkerReady(4711), orders.Drain()])
def test_an_order_for_a_worker_that_is_gone_or_for_another_process(rig: Rig, order: orders.Order) -> None:
    rig.order(order)
    assert rig.loop.running and rig.reported() == [] and rig.processes.killed == []


@pytest.mark.parametrize(("order", "killed"), [(Retire(), []), (KillAllWorkers(), ["all"])])
def test_at_the_end_nobody_is_replaced_and_the_last_one_is_reported(
    rig: Rig, order: orders.Order, killed: list[str]
) -> None:
    rig.order(WorkerReady(1), order)
    assert rig.processes.killed == killed and rig.reported() == []
    rig.dies((1, 0, None))
    assert rig.reported() == [WorkerGone(1, 0, None)]
    rig.dies((2, 0, None))
    assert rig.reported() == [WorkerGone(2, 0, None), NoWorkerLeft()]
    assert not rig.loop.later


def test_retired_without_a_worker(rig: Rig) -> None:
    rig.dies((1, 70, None), (2, 70, None))
    rig.reported()
    rig.order(Retire())
    assert rig.reported() == [NoWorkerLeft()]
    for _, fork in rig.loop.later:
        fork()
    assert rig.processes.forked == 2, "what was to be replaced later is not"


def test_a_fork_that_fails_is_tried_again_later(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.order(WorkerReady(1), WorkerReady(2))
    rig.processes.refuses = OSError(24, "Too many open files")
    with caplog.at_level(logging.ERROR):
        rig.dies((1, -9, None))
    assert rig.reported() == [WorkerGone(1, -9, None)]
    assert "worker not started: group=w reason=[Errno 24] Too many open files next_try_in=" in caplog.text
    ((wait_s, fork),) = rig.loop.later
    assert 0.75 <= wait_s <= 1.0
    rig.processes.refuses = None
    fork()
    assert rig.reported() == [WorkerForked(3)]


@pytest.mark.parametrize("end", ["pool", "listener"])
def test_it_ends_with_the_pool_and_with_the_listener(rig: Rig, end: str) -> None:
    link: Link = getattr(rig, end)
    link.close()
    rig.readable(link)
    assert not rig.loop.running


def test_rubbish_from_the_listener_ends_it(rig: Rig) -> None:
    rig.listener.send(["no such order"])
    rig.readable(rig.listener)
    assert not rig.loop.running


def test_a_death_that_nobody_can_be_told_ends_it(rig: Rig) -> None:
    rig.listener.close()
    rig.dies((1, -9, None))
    assert not rig.loop.running


def test_at_its_end_all_processes_are_ended(rig: Rig) -> None:
    assert rig.processes.ended, "the loop was left"


def test_as_many_workers_as_the_group_has() -> None:
    rig: Any = Rig()
    rig.template._settings = replace(GROUP, workers=5)
    rig.template.run()
    assert rig.reported() == [WorkerForked(pid) for pid in range(1, 6)]
    for link in rig.links:
        link.close()
