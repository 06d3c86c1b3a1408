"""The life of a generation, without a process: the test holds the helpers' ends of the links and of the pipes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blueprints import blueprint
from clockwork import Clockwork
from descriptors import descriptors
from taskqueue.errors import ConfigError
from taskqueue.link import orders, packets
from taskqueue.link.exits import FAILED
from taskqueue.pool.generation import Generation
from taskqueue.pool.states import GenerationState


class Process:
    """Stands for a spawned process: `link` and `print_fd` are its ends of link and output."""

    def __init__(self, pid: int, link_fd: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.link = packets.adopt(os.dup(link_fd))
        read, self.print_fd = os.pipe()
        self.stdout = os.fdopen(read, "rb")

    def die(self) -> None:
        """What the kernel does at its end."""
        if self.print_fd >= 0:
            self.link.close()
            os.close(self.print_fd)
            self.print_fd = -1

    def received(self) -> list[orders.Order]:
        """Every order that it has not read yet."""
        found = []
        while (received := orders.receive(self.link)) is not None:
            found.append(received.order)
        return found


class Processes:
    """Stands for the host. `fails`: an error for the role that cannot be started."""

    def __init__(self) -> None:
        self.by_role: dict[str, Process] = {}
        self.killed: list[int] = []
        self.fails: dict[str, Exception] = {}
        self.dies_at_once = ""

    def spawn(self, module: str, fds: list[int], *rest: object) -> Process:
        role = "listener" if module == "taskqueue.listener" else "template"
        if role in self.fails:
            raise self.fails[role]
        process = self.by_role[role] = Process({"template": 101, "listener": 102}[role], fds[0])
        if role == self.dies_at_once:
            process.die()
            with Path("/dev/null").open() as nothing:
                os.dup2(nothing.fileno(), fds[0])  # the caller's copy, which it has not closed yet
        return process

    def kill(self, pid: int) -> None:
        self.killed.append(pid)


class Bench:
    """A generation, and all that it was given."""

    def __init__(self, **changes: Any) -> None:
        self.loop = Clockwork()
        self.processes = Processes()
        self.calls: list[str] = []
        self.generation = Generation(
            self.loop,
            blueprint(**changes),
            on_ready=lambda generation: self.calls.append("ready"),
            on_gone=lambda generation: self.calls.append("gone"),
            on_error=lambda generation, trace: self.calls.append(f"error: {trace}"),
            processes=self.processes,
        )

    @property
    def listener(self) -> Process:
        return self.processes.by_role["listener"]

    @property
    def template(self) -> Process:
        return self.processes.by_role["template"]

    @property
    def state(self) -> GenerationState:
        return self.generation.life.state

    def started(self) -> Bench:
        self.generation.start()
        self.listener.received()
        self.template.received()
        return self

    def reports(self, process: Process, *sent: orders.Order) -> None:
        for order in sent:
            orders.send(process.link, order)
        self.loop.ready()

    def reaped(self, process: Process, exit_code: int) -> None:
        process.die()
        self.generation.reaped(process.pid, exit_code)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A generation that is not started; whatever it leaves open shows."""
    bench = Bench()
    before = descriptors()
    yield bench
    for process in bench.processes.by_role.values():
        process.die()
    if bench.state is GenerationState.GONE:
        assert descriptors() == before, "every descriptor was given back"
        assert not bench.loop.handlers


def test_the_whole_life(bench: Bench) -> None:
    bench.generation.start()
    ((listener_start,), (template_start,)) = bench.listener.received(), bench.template.received()
    assert isinstance(listener_start, orders.ListenerStart) and listener_start.amqp["passwd"] == "guest"
    assert isinstance(template_start, orders.TemplateStart)
    assert template_start.entry_value == "worker1.module:Worker" and "guest" not in repr(template_start)
    assert bench.generation.pids == {"listener": 102, "template": 101}

    bench.reports(bench.listener, orders.Ready())
    assert (bench.state, bench.calls) == (GenerationState.READY, ["ready"])
    bench.generation.drain(30.0)
    assert (bench.listener.received(), bench.state) == ([orders.Drain()], GenerationState.DRAINING)
    bench.loop.advance(30.0)
    assert bench.listener.received() == [orders.StopNow()]
    bench.loop.advance(5.0)
    assert bench.processes.killed == [101, 102]
    bench.reaped(bench.listener, -9)
    assert (bench.state, bench.calls) == (GenerationState.ENDING, ["ready"])
    bench.reaped(bench.template, -9)
    assert (bench.state, bench.calls) == (GenerationState.GONE, ["ready", "gone"])
    assert bench.generation.last_error is None, "it was asked to end"
    assert not bench.loop.due


@pytest.mark.parametrize(
    ("exit_code", "sent", "error", "logged"),
    [
        (-11, [], "listener died: signal SIGSEGV", "listener died: group=worker1 pid=102 signal SIGSEGV"),
        (3, [], "listener died: status 3", "listener died: group=worker1 pid=102 status 3"),
        (FAILED, [orders.Failed("Traceback: no such plugin")], "Traceback: no such plugin", ""),
        (0, [], "its processes ended by themselves, with status 0", ""),
    ],
)
def test_an_end_that_nobody_asked_for(
    bench: Bench, caplog: pytest.LogCaptureFixture, exit_code: int, sent: list[orders.Order], error: str, logged: str
) -> None:
    bench.started()
    for order in sent:
        orders.send(bench.listener.link, order)  # not read before it is reaped
    bench.reaped(bench.listener, exit_code)
    bench.loop.advance(4.9)
    assert not bench.processes.killed, "the template follows by itself"
    bench.loop.advance(0.2)
    assert bench.processes.killed == [101]
    bench.reaped(bench.template, 0)
    assert bench.generation.last_error == error and bench.calls[-1] == "gone"
    assert [line for line in caplog.messages if "died" in line] == ([logged] if logged else [])


@pytest.mark.parametrize("role", ["template", "listener"])
def test_a_helper_that_dies_before_its_first_order(bench: Bench, role: str) -> None:
    """Defect 6.5: the start goes on, and the helper is reaped as one that died later."""
    bench.processes.dies_at_once = role
    bench.generation.start()
    assert set(bench.generation.pids) == {"listener", "template"}
    bench.reaped(bench.processes.by_role[role], -9)
    other = bench.listener if role == "template" else bench.template
    bench.reaped(other, 0)
    assert bench.calls == ["gone"] and bench.generation.last_error == f"{role} died: signal SIGKILL"


def test_a_start_that_fails_half_way(bench: Bench) -> None:
    bench.processes.fails["listener"] = OSError(11, "Resource temporarily unavailable")
    with pytest.raises(OSError):
        bench.generation.start()
    assert bench.generation.pids == {"template": 101}
    bench.reaped(bench.template, -9)
    assert bench.calls == ["gone"]


def test_a_user_that_does_not_exist() -> None:
    bench = Bench(user="no-such-user")
    with pytest.raises(ConfigError, match="no-such-user"):
        bench.generation.start()
    assert bench.generation.pids == {}


def test_a_failure_to_start_ends_it_and_one_with_workers_left_does_not(bench: Bench) -> None:
    bench.started()
    bench.reports(bench.listener, orders.Failed("one worker raised", 2))
    assert (bench.state, bench.calls) == (GenerationState.READY, ["error: one worker raised", "ready"])
    bench.reports(bench.listener, orders.Failed("another one", 0))
    assert bench.state is GenerationState.READY, "it serves: the listener knows what to do"
    other = Bench().started()
    other.reports(other.template, orders.Failed("cannot import", 0))
    assert (other.state, other.listener.received()) == (GenerationState.DRAINING, [orders.Drain()])


def test_status(bench: Bench) -> None:
    answered: list[str] = []
    assert not bench.generation.ask_status(lambda: answered.append("never")), "nobody can be asked"
    bench.started()
    assert bench.generation.ask_status(lambda: answered.append("once"))
    assert bench.listener.received() == [orders.AskStatus()]
    bench.reports(bench.listener, orders.Status({"waiting": 3}), orders.Status({"waiting": 4}))
    assert (bench.generation.status, answered) == ({"waiting": 4}, ["once"])


def test_nonsense_from_a_helper_kills_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.started()
    bench.template.link.send(["no-such-order"])
    bench.loop.ready()
    assert bench.processes.killed == [101]
    assert "template broke the protocol: group=worker1 pid=101" in caplog.text


def test_descriptors_that_come_uninvited_are_closed(bench: Bench) -> None:
    bench.started()
    before = descriptors()
    with Path("/dev/null").open() as file:
        orders.send(bench.template.link, orders.Ready(), (file.fileno(), file.fileno()))
    bench.loop.ready()
    assert descriptors() == before


def test_output_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench.started()
    os.write(bench.template.print_fd, b"hello\nlast")
    bench.loop.ready()
    assert caplog.messages[-1] == "template output: group=worker1 pid=101: hello"
    bench.reaped(bench.template, 1)
    assert "template output: group=worker1 pid=101: last" in caplog.messages


def test_abandoned_it_is_killed_and_not_heard(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.started()
    orders.send(bench.listener.link, orders.Ready())
    bench.generation.abandon()
    assert (bench.processes.killed, bench.state) == ([101, 102], GenerationState.ENDING)
    bench.loop.ready()
    bench.reaped(bench.listener, -9)
    assert bench.calls == [] and bench.generation.pids == {"template": 101}
    bench.generation.abandon()
    bench.reaped(bench.template, -9)
    assert (bench.calls, bench.state) == (["gone"], GenerationState.GONE)
    assert "died" not in caplog.text and not bench.loop.due
