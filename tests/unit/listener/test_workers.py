"""The workers and their scheduler: assigning, queueing ahead, rebalancing, and which runs a death leaves behind.

The workers are real ends of real links; the test speaks for the processes, or forks one.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from listening import Source, group
from taskqueue.foundation.loop import Loop
from taskqueue.host import kernel
from taskqueue.link import orders, packets
from taskqueue.link.assignment import ERROR_LIMIT, RESULT_LIMIT, TRACE_LIMIT, Assignment, Report
from taskqueue.link.packets import Link
from taskqueue.listener import workers
from taskqueue.listener.run import Run
from taskqueue.listener.states import RunState
from taskqueue.listener.worker_process import Death
from taskqueue.listener.workers import Workers


def a_run(body: bytes = b"body") -> Run:
    return Source().run(f"m{next(_numbers)}", body=body)


_numbers = iter(range(10**9))


class Process:
    """A worker process, played by the test: reads and reports when it is told to."""

    def __init__(self, pid: int, end: Link) -> None:
        self.pid = pid
        self.end = end
        self.read: list[int] = []

    def say(self, *head: Any, body: bytes = b"") -> None:
        assert self.end.send(list(head), body)

    def take(self) -> Assignment | None:
        """Read one workitem, as a worker does."""
        try:
            packet = self.end.receive()
        except EOFError:
            return None
        if packet is None:
            return None
        assignment = Assignment(*packet.head)
        self.read.append(assignment.tag)
        return assignment

    def done(self, tag: int | None = None, runtime_ms: float = 1000.0, last: bool = False) -> None:
        """Report a workitem, by default the oldest that was read."""
        tag = self.read.pop(0) if tag is None else tag
        self.say("done", *Report(tag, "success", runtime_ms, "text/plain", last=last), body=b"result")


class Bench:
    """`Workers` on a loop, with all that they say."""

    def __init__(self, concurrency: int = 1) -> None:
        self.loop = Loop()
        self.ready: list[int] = []
        self.reports: list[tuple[Run, Report, bytes]] = []
        self.unread: list[Run] = []
        self.orders: list[orders.Order] = []
        self.workers = Workers(
            self.loop,
            group(concurrency=concurrency),
            self,
            on_ready=lambda: self.ready.append(self.workers.ready),
            on_report=lambda run, report, body: self.reports.append((run, report, body)),
            on_unread=self.unread.extend,
        )
        self.scheduler = self.workers.scheduler
        self._pids = iter(range(1000, 9999))

    def to_pool(self, order: orders.Order) -> None:
        self.orders.append(order)

    to_template = to_pool

    @property
    def killed(self) -> list[int]:
        """The workers that broke the protocol."""
        return [order.pid for order in self.orders if isinstance(order, orders.KillWorker)]

    def add(self, *, ready: bool = True) -> Process:
        """A new worker."""
        ours, theirs = packets.pair()
        pid = next(self._pids)
        process = Process(pid, packets.adopt(os.dup(theirs.fileno())))
        self.workers.add(pid, (ours.sock.detach(), theirs.sock.detach()))
        if ready:
            process.say("ready")
            self.turn()
        return process

    def turn(self) -> None:
        self.loop.turn(0)

    def assign(self, count: int = 1) -> list[Run]:
        """Assign `count` new runs, which must all find a worker."""
        runs = [a_run() for _ in range(count)]
        for run in runs:
            assert self.scheduler.assign(run), f"run {runs.index(run)} of {count} was not assigned"
        return runs

    def short(self, process: Process, runtime_ms: float = 0.1) -> None:
        """Let the group's mean runtime be that."""
        self.assign()
        process.take()
        process.done(runtime_ms=runtime_ms)
        self.turn()
        assert self.scheduler.mean_s == runtime_ms / 1000

    def gone(self, process: Process, code: int = -9, why: str | None = None) -> Death:
        death = self.workers.gone(process.pid, code, why)
        process.end.close()
        assert death is not None
        return death


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    """Makes a bench; no descriptor of it is left."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    made: list[Bench] = []

    def bench(concurrency: int = 1) -> Bench:
        made.append(Bench(concurrency))
        return made[-1]

    yield bench
    for each in made:
        each.workers.all_gone()
        each.loop.close()
    made.clear()

    gc.collect()  # the processes' ends
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    """A bench of sync workers."""
    return make()


def test_nothing_is_assigned_to_a_worker_that_is_not_ready(bench: Bench) -> None:
    assert not bench.scheduler.assign(a_run())
    process = bench.add(ready=False)
    assert not bench.scheduler.assign(a_run()) and bench.workers.ready == 0
    process.say("ready")
    bench.turn()
    assert bench.ready == [1] and bench.orders == [orders.WorkerReady(process.pid)]
    (run,) = bench.assign()
    assert run.life.state is RunState.ASSIGNED and run.started is not None
    assignment = process.take()
    assert assignment is not None and (assignment.tag, assignment.message_id, assignment.attempt) == (
        run.number, run.message_id, 1,
    )  # fmt: skip


def test_a_report_goes_to_its_run_and_frees_the_worker(bench: Bench) -> None:
    process = bench.add()
    (run,) = bench.assign()
    assert not bench.scheduler.assign(a_run()), "runtimes are unknown: nothing is queued ahead"
    process.take()
    process.done()
    bench.turn()
    assert [(got, report.outcome, body) for got, report, body in bench.reports] == [(run, "success", b"result")]
    bench.assign()


def test_work_goes_to_every_idle_worker_before_it_is_queued_ahead(bench: Bench) -> None:
    processes = [bench.add() for _ in range(3)]
    bench.short(processes[0])
    bench.assign(3)
    for process in processes:
        first, second = process.take(), process.take()
        assert first is not None and second is None


@pytest.mark.parametrize(("runtime_ms", "ahead"), [(1000.0, 0), (5.1, 0), (5.0, 1), (1.0, 5), (0.01, 16)])
def test_only_short_work_is_queued_ahead(bench: Bench, runtime_ms: float, ahead: int) -> None:
    bench.short(bench.add(), runtime_ms)
    bench.assign(1 + ahead)
    assert not bench.scheduler.assign(a_run())


def test_queued_work_begins_when_what_was_before_it_ended(bench: Bench) -> None:
    process = bench.add()
    bench.short(process)
    first, second, third = bench.assign(3)
    assert [run.started is not None for run in (first, second, third)] == [True, False, False]
    process.take()
    process.done()
    bench.turn()
    assert [run.started is not None for run in (second, third)] == [True, False]
    (worker,) = bench.workers
    assert worker.running() == [second]


def test_a_free_worker_takes_back_half_of_the_longest_queue(bench: Bench) -> None:
    busy = bench.add()
    bench.short(busy)
    runs = bench.assign(6)
    busy.take()
    assert bench.scheduler.rebalance() == [], "nobody is free"
    other = bench.add()
    moved = bench.scheduler.rebalance()
    assert moved == runs[1:4], "the oldest that were not read, three of five"
    assert all(run.life.state is RunState.WAITING and run.started is None for run in moved)
    for run in moved:
        assert bench.scheduler.assign(run)
    assert other.take() is not None
    assert [busy.take(), busy.take(), busy.take()][2] is None, "what was taken back is not there any more"


def test_what_stands_behind_a_long_run_is_taken_back_and_nothing_is_put_there(bench: Bench) -> None:
    slow = bench.add()
    bench.short(slow)
    quick = bench.add()
    runs = bench.assign(6)
    slow.take()
    quick.take()
    assert bench.scheduler.ahead == 4 and bench.scheduler.recall_from_slow(60.0) == []
    for run in runs[1::2]:
        run.started = None  # as if the other one's had begun just now
    behind = bench.scheduler.recall_from_slow(0.0)
    assert behind == runs[2::2] and all(run.life.state is RunState.WAITING for run in behind)
    assert bench.scheduler.ahead == 2
    for run in behind:
        assert bench.scheduler.assign(run)
    assert slow.take() is None, "its run lasts long: it is given nothing ahead"
    slow.done(runtime_ms=0.1)
    bench.turn()
    bench.assign(2)
    assert slow.take() and slow.take(), "it is as others again"


def test_all_that_was_not_read_is_taken_back(bench: Bench) -> None:
    reads, sleeps = bench.add(), bench.add()
    bench.short(reads)
    runs = bench.assign(6)
    reads.take()
    back = bench.scheduler.recall_all()
    assert {*back} == {*runs} - {runs[1]} and all(run.started is None for run in back)
    assert sleeps.take() is None, "it has not even read the first"


def test_a_worker_that_has_not_read_what_was_taken_back_is_free(bench: Bench) -> None:
    sleeps = bench.add()
    (run,) = bench.assign()
    assert bench.scheduler.recall_from_slow(0.0) == [run]
    assert bench.scheduler.assign(run) and sleeps.take() is not None


def test_what_a_busy_worker_has_read_is_not_rebalanced(bench: Bench) -> None:
    busy = bench.add()
    bench.short(busy)
    bench.assign(3)
    for _ in range(3):
        busy.take()
    bench.add()
    assert bench.scheduler.rebalance() == []


def test_a_worker_keeps_what_it_runs(bench: Bench) -> None:
    bench.add()
    bench.assign()
    bench.add()
    assert bench.scheduler.rebalance() == [], "not read yet, but it is the worker's own"


def test_a_death_blames_exactly_what_was_read_and_not_reported(bench: Bench) -> None:
    process = bench.add()
    bench.short(process)
    runs = bench.assign(4)
    process.take()
    process.done()
    process.take()
    death = bench.gone(process, -11)
    assert death.exit_code == -11 and death.ready and death.why is None
    assert bench.reports[-1][0] is runs[0], "its last report was read"
    assert death.suspects == [runs[1]] and death.unread == runs[2:]
    assert all(run.life.state is RunState.WAITING for run in death.unread)
    assert runs[1].life.state is RunState.ASSIGNED
    assert len(bench.workers) == 0 and bench.workers.gone(process.pid, -11, None) is None


def test_an_idle_workers_death_blames_nobody(bench: Bench) -> None:
    process = bench.add()
    bench.assign()
    process.take()
    process.done()
    bench.turn()
    death = bench.gone(process, 0)
    assert death.suspects == [] and death.unread == []
    assert not bench.scheduler.assign(a_run())


def test_a_real_process_that_is_killed(bench: Bench) -> None:
    """The same with a fork that reads two, reports one and dies of SIGSEGV with one more before it."""
    ours, theirs = packets.pair()
    gate_r, gate_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        kernel.die_with_parent(signal.SIGKILL)
        process = Process(0, theirs)
        process.say("ready")
        os.read(gate_r, 1)
        process.take()
        process.done(runtime_ms=0.1)
        process.take()
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    bench.workers.add(pid, (ours.sock.detach(), theirs.sock.detach()))
    while not bench.ready:
        bench.loop.turn(5.0)
    bench.scheduler.mean_s = 0.0001
    runs = bench.assign(3)
    os.write(gate_w, b"x")
    os.close(gate_w)
    _, status = os.waitpid(pid, 0)
    death = bench.workers.gone(pid, os.waitstatus_to_exitcode(status), None)
    assert death is not None and death.exit_code == -signal.SIGSEGV
    assert [run for run, _, _ in bench.reports] == [runs[0]]
    assert (death.suspects, death.unread) == ([runs[1]], [runs[2]])
    os.close(gate_r)


def test_all_gone_when_the_template_died(bench: Bench) -> None:
    processes = [bench.add() for _ in range(2)]
    runs = bench.assign(2)
    processes[0].take()
    deaths = bench.workers.all_gone()
    assert [(death.suspects, death.unread) for death in deaths] == [([runs[0]], []), ([], [runs[1]])]
    assert {death.why for death in deaths} == {"template died"} and len(bench.workers) == 0


def test_a_suspect_runs_alone(make: Callable[..., Bench]) -> None:
    bench = make(concurrency=3)
    busy = bench.add()
    bench.assign()
    alone = a_run()
    alone.alone = True
    assert not bench.scheduler.assign(alone), "the only worker has something else in hand"
    bench.add()
    assert bench.scheduler.assign(alone)
    bench.assign(2)
    assert not bench.scheduler.assign(a_run()), "nothing is put beside it"
    for _ in range(3):
        assert busy.take() is not None


def test_nothing_is_queued_behind_a_suspect(bench: Bench) -> None:
    bench.short(bench.add())
    alone = a_run()
    alone.alone = True
    assert bench.scheduler.assign(alone)
    assert not bench.scheduler.assign(a_run())


def test_coroutines_run_side_by_side(make: Callable[..., Bench]) -> None:
    bench = make(concurrency=3)
    process = bench.add()
    runs = bench.assign(3)
    assert not bench.scheduler.assign(a_run())
    assert all(run.started is not None for run in runs)
    for _ in range(3):
        process.take()
    process.done(tag=runs[1].number)
    bench.turn()
    bench.assign()
    death = bench.gone(process)
    assert death.suspects == [runs[0], runs[2]] and len(death.unread) == 1


def test_a_worker_that_said_last_gets_no_more(bench: Bench) -> None:
    process = bench.add()
    bench.assign()
    process.take()
    process.done(last=True)
    bench.turn()
    assert bench.workers.ready == 0 and not bench.scheduler.assign(a_run())
    assert len(bench.workers) == 1, "until it has died"


def test_what_was_queued_behind_the_last_comes_back_at_once(bench: Bench) -> None:
    process = bench.add()
    bench.short(process)
    runs = bench.assign(3)
    process.take()
    process.done(last=True)
    bench.turn()
    assert bench.unread == runs[1:], "however long its teardown takes"
    death = bench.gone(process, 0)
    assert death.suspects == [] and death.unread == []


def test_a_worker_that_does_not_end_after_its_last_is_killed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_LEAVE_S", 0.05)
    for ends in (True, False):
        process = bench.add()
        bench.assign()
        process.take()
        process.done(last=True)
        bench.turn()
        if ends:
            bench.gone(process, 0)
        assert not bench.killed
        bench.loop.turn(1.0)  # to the end of its time
    assert bench.killed == [process.pid]


def test_retired_workers_find_the_end_behind_what_they_have(bench: Bench) -> None:
    process = bench.add()
    bench.assign()
    bench.workers.retire()
    assert bench.workers.ready == 0 and not bench.scheduler.assign(a_run())
    assert process.take() is not None
    with pytest.raises(EOFError):
        process.end.receive()
    process.done()
    bench.turn()
    assert len(bench.reports) == 1, "it still reports"


def test_a_full_kernel_queue_is_not_a_loss(bench: Bench) -> None:
    process = bench.add()
    bench.short(process, 0.01)
    body = b"x" * 40_000
    taken = []
    while bench.scheduler.assign(run := a_run(body)):
        taken.append(run)
    assert 1 < len(taken) < 16, "the queue was full before the depth was reached"
    assert run.life.state is RunState.WAITING
    process.take()
    process.done(runtime_ms=0.01)
    bench.turn()
    assert bench.scheduler.assign(run)


def test_a_worker_that_has_closed_its_end_takes_nothing(bench: Bench) -> None:
    process = bench.add()
    process.end.sock.shutdown(socket.SHUT_RD)
    run = a_run()
    assert not bench.scheduler.assign(run)
    assert run.life.state is RunState.WAITING and bench.workers.ready == 0
    assert bench.killed == [process.pid], "killed, so that it is replaced"


def test_a_worker_that_shuts_its_end_is_killed(bench: Bench) -> None:
    """Its link would be readable for ever."""
    process = bench.add()
    process.end.sock.shutdown(socket.SHUT_WR)
    bench.turn()
    assert bench.killed == [process.pid]


def test_a_worker_that_cannot_serve_says_why(bench: Bench) -> None:
    process = bench.add(ready=False)
    process.say("failed", "Traceback …")
    bench.turn()
    assert bench.orders == [orders.Failed("Traceback …", serving=0)]
    assert not bench.gone(process, 70).ready


BROKEN: list[list[Any]] = [
    ["unknown"],
    ["done"],
    ["done", 1],
    ["done", 10**9, "success", 1.0],
    ["done", "x", "success", 1.0],
    ["done", None, "success", -1.0],
    ["done", None, "success", float("nan")],
    ["done", None, "success", "fast"],
    ["done", None, 5, 1.0],
    ["done", None, "success", 1.0, "x" * 300],
    ["done", None, "success", 1.0, "", "", "", "", "soon"],
    ["done", None, "success", 1.0, "", "", "", "", None, 1],
    ["done", None, "success", 1.0, "", "", "", "", None, False, "more"],
    ["done", None, "no such outcome", 1.0],
    ["done", None, "retry", 1.0, "", "", "", "", float("nan")],
    ["done", None, "retry", 1.0, "", "", "", "", float("inf")],
    ["done", None, "retry", 1.0, "", "", "", "", -5.0],
    ["done", None, "retry", 1.0, "", "", "", "", 1e300],
    ["done", None, "error", 1.0, "", "x" * 300],
    ["done", None, "error", 1.0, "", "\ud800"],
    ["done", None, "error", 1.0, "", "", "x" * (ERROR_LIMIT + 1)],
    ["done", None, "error", 1.0, "", "", "", "x" * (TRACE_LIMIT + 1)],
    ["failed", "but it has served"],
    ["failed"],
    ["failed", 5],
    ["ready", 1],
    [[]],
    [{"a": 1}],
]


@pytest.mark.parametrize("head", BROKEN, ids=repr)
def test_a_broken_protocol_is_answered_by_a_kill(bench: Bench, head: list[Any]) -> None:
    """`None` stands for the tag of the run that the worker has in hand."""
    process = bench.add()
    (run,) = bench.assign()
    process.take()
    process.say(*[run.number if field is None and place == 1 else field for place, field in enumerate(head)])
    bench.turn()
    assert bench.killed == [process.pid], bench.reports
    assert bench.reports == []
    assert bench.gone(process).suspects == [run], "what it ran is not forgotten"


def test_a_worker_with_a_result_over_the_limit_is_killed(bench: Bench) -> None:
    """A plugin that speaks for its worker could close the listener's channel with it (`max_message_size`)."""
    process = bench.add()
    (run,) = bench.assign()
    process.take()
    process.say("done", *Report(run.number, "success", 1.0, ""), body=bytes(RESULT_LIMIT + 1))
    bench.turn()
    assert len(bench.killed) == 1 and bench.reports == []


def test_a_long_traceback_is_shortened(bench: Bench) -> None:
    process = bench.add(ready=False)
    process.say("failed", "x" * 1_000_000)
    bench.turn()
    (failed,) = bench.orders
    assert isinstance(failed, orders.Failed) and len(failed.trace) <= TRACE_LIMIT


@pytest.mark.parametrize("data", [b"x", b"\0\0\0\0\1{", b"\1\0\0\0\0"])
def test_a_worker_that_sends_no_packet_is_killed(bench: Bench, data: bytes) -> None:
    process = bench.add()
    process.end.sock.send(data)
    bench.turn()
    assert bench.killed == [process.pid]


def test_descriptors_that_a_worker_sends_are_not_kept(bench: Bench) -> None:
    """A hostile worker must not use up the listener's descriptors."""
    process = bench.add()
    bench.turn()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        process.end.send(["ready"], fds=(0, 1))
        bench.turn()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert set(bench.killed) == {process.pid}


def test_a_run_is_reported_once(bench: Bench) -> None:
    process = bench.add()
    (run,) = bench.assign()
    process.take()
    process.done(tag=run.number)
    process.done(tag=run.number)
    bench.turn()
    assert len(bench.reports) == 1 and len(bench.killed) == 1


def test_a_worker_that_says_ready_twice_is_not_given_more(bench: Bench) -> None:
    process = bench.add()
    bench.assign()
    process.say("ready")
    bench.turn()
    assert not bench.scheduler.assign(a_run()), "it has one in hand already"


@pytest.mark.parametrize("reads", [True, False])
def test_a_report_of_a_run_that_has_not_begun_settles_nothing(bench: Bench, reads: bool) -> None:
    """Numbers of runs can be guessed: a worker may not settle what is queued ahead to it."""
    process = bench.add()
    bench.short(process)
    first, ahead, _ = bench.assign(3)
    if reads:
        process.take()
    process.done(tag=ahead.number)
    bench.turn()
    assert bench.killed == [process.pid] and len(bench.reports) == 1
    death = bench.gone(process)
    assert ahead in death.unread and death.suspects == ([first] if reads else [])


def test_a_run_that_was_reported_unread_does_not_end_the_listener(bench: Bench) -> None:
    """Its packet still lies in the kernel's queue when the rest is taken back."""
    process = bench.add()
    bench.short(process)
    first, second, third = bench.assign(3)
    process.done(tag=first.number)
    bench.turn()
    assert bench.reports[-1][0] is first, "it is the worker's own, and begun"
    assert bench.scheduler.recall_all() == [second, third]
    assert bench.gone(process).suspects == []


def test_what_follows_unread_work_that_was_moved_has_begun(bench: Bench) -> None:
    """Else it would have no time limit, and its report would be taken for a forgery."""
    busy = bench.add()
    bench.short(busy)
    first, second, third = bench.assign(3)
    bench.add()
    assert bench.scheduler.rebalance() == [first], "not even the first was read"
    assert second.started is not None and third.started is None
    assert (assignment := busy.take()) is not None and assignment.tag == second.number
    busy.done()
    bench.turn()
    assert bench.reports[-1][0] is second and not bench.killed


def test_a_worker_that_comes_after_the_retirement_is_retired(bench: Bench) -> None:
    bench.workers.retire()
    late = bench.add(ready=False)
    with pytest.raises(EOFError):
        late.end.receive()
    assert bench.workers.ready == 0
