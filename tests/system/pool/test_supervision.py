"""What the pool does about death: section 3 of the design, with real signals, and exact accounts afterwards."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pika
import pytest

import processes
from broker import PrivateBroker
from daemons import URL_VARIABLE, Stage
from plain_amqp import Message
from waiting import wait_for

BOSS = """
    import ctypes
    import os
    import signal
    import socket
    import subprocess
    import time
    from taskqueue.worker import BaseWorker

    time.sleep(IMPORT_S)

    def note(name, text):
        with open(f"SCRATCH/{name}", "a") as file:
            file.write(f"{text}\\n")

    class Worker(BaseWorker):
        def handle_task(self, body):
            what, *rest = body.split()
            note("runs", self.task.id)
            return getattr(self, what)(*rest)

        def nap(self, seconds="0"):
            time.sleep(float(seconds))
            return os.getpid()

        def kill(self):
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

        def crash(self):
            ctypes.string_at(0)

        def exit(self, status):
            os._exit(int(status))

        def once(self):
            if self.task.attempt == 1:
                os._exit(9)
            return self.task.attempt

        def family(self, seconds):
            "A child, one in a session of its own, and one that nobody is the parent of."
            children = [
                subprocess.Popen(["sleep", "300"]),
                subprocess.Popen(["sleep", "300"], start_new_session=True),
            ]
            orphan = subprocess.run(
                ["sh", "-c", "setsid sleep 300 >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, check=True
            )
            note("family", " ".join([*(str(child.pid) for child in children), orphan.stdout.decode().strip()]))
            time.sleep(float(seconds))

        def hold_the_gil(self, seconds):
            ctypes.PyDLL(None).sleep(int(seconds))  # PyDLL: unlike CDLL it keeps the GIL
            return os.getpid()

        def eat(self, megabytes):
            return len(bytearray(int(megabytes) << 20))

        def babble(self):
            for name in os.listdir("/proc/self/fd"):
                try:
                    link = socket.socket(fileno=os.dup(int(name)))
                except OSError:
                    continue
                if link.type == socket.SOCK_SEQPACKET:
                    link.send(b"this is no packet")
            time.sleep(60)
"""


def install(stage: Stage, worker_type: str = "boss", import_s: float = 0.0) -> None:
    """Install the plugin that does whatever it is told."""
    source = BOSS.replace("SCRATCH", str(stage.scratch)).replace("IMPORT_S", str(import_s))
    stage.site.install(worker_type, source)


@pytest.fixture
def boss(stage: Stage) -> Stage:
    """A pool with two workers."""
    install(stage)
    stage.configure("[boss]\nworkers: 2\n")
    stage.start("boss")
    return stage


# -- workers


def test_a_killed_worker_is_replaced_without_another_import(stage: Stage) -> None:
    "How fast is for `make bench`; that the slow import is not waited for again, is for here."
    import_s = 5.0
    install(stage, import_s=import_s)
    stage.configure("[boss]\nworkers: 2\n")
    stage.start("boss")
    for _ in range(5):
        before = stage.pool.pids("boss")
        victim = random.choice(sorted(before))
        started = time.monotonic()
        processes.kill(victim)
        new = wait_for(lambda before=before: stage.pool.pids("boss") - before, 20, "a new one serves", poll_s=0.002)  # type: ignore[misc]
        took_s = time.monotonic() - started
        print(f"replaced after {took_s * 1000:.0f} ms")
        assert took_s < import_s
        assert len(new) == 1
        stage.pool.wait_running("boss")
        assert not processes.left_of({victim}), "reaped"
    assert stage.pool.group("boss")["restarts"] == 5


def test_what_a_killed_worker_ran_is_run_again(boss: Stage) -> None:
    boss.amqp.submit("boss nap 0.7", message_id="again", headers={"own": 1})
    pid = boss.pool.running_task("boss", "again")
    processes.kill(pid)
    message = boss.amqp.take_for("again")
    assert (message.headers["status"], message.headers["attempt"]) == ("success", 2)
    assert message.json() != pid
    (line,) = boss.pool.logged("worker died")
    assert all(word in line for word in (f"pid={pid}", "signal SIGKILL", "group=boss", "again"))
    assert boss.output("runs") == ["again", "again"]


def test_what_no_worker_has_read_when_the_connection_ends_is_the_brokers(
    stage: Stage, broker: PrivateBroker, vhost: str, amqp_url: str
) -> None:
    """Another host gets it, and it is not run here, too."""
    install(stage)
    stage.configure("[boss]\nworkers: 1\nprefetch: 20\n")
    stage.start("boss")
    for number in range(20):  # that last no time: more are given to the worker ahead
        stage.amqp.submit("boss nap", message_id=f"before{number}")
    stage.amqp.take_many("results", 20)
    stage.amqp.submit("boss nap 8", message_id="long")
    stage.pool.running_task("boss", "long")
    behind = {f"behind{number}" for number in range(10)}
    for each in sorted(behind):
        stage.amqp.submit("boss nap", message_id=each)
    wait_for(lambda: stage.pool.generation("boss").get("waiting") == 10, 10, "all are there")
    other = pika.BlockingConnection(pika.URLParameters(amqp_url))
    channel = other.channel()
    found: set[str] = set()
    channel.basic_consume("worker_boss", lambda *delivery: found.add(delivery[2].message_id))

    broker.eval(
        '[rabbit_networking:close_connection(Pid, "test") || Pid <- rabbit_networking:connections(),'
        f' [{{vhost, <<"{vhost}">>}}, {{client_properties, Of}}]'
        " <- [rabbit_networking:connection_info(Pid, [vhost, client_properties])],"
        ' {<<"connection_name">>, _, <<"taskqueue-listener", _/binary>>} <- Of].'
    )

    wait_for(lambda: other.process_data_events(0.1) or len(found - {"long"}) >= 5, 10, "another host has some of them")
    wait_for(lambda: stage.pool.generation("boss")["workers"][0]["tasks"] == [], 20, "long has ended")
    run_here = set(stage.output("runs"))
    assert "long" in run_here and not run_here & found - {"long"}
    other.close()
    rest = stage.amqp.take_many("results", 11)
    assert {message.properties.message_id for message in rest} == behind | {"long"}
    assert len(stage.output("runs")) == 20 + 11


@pytest.mark.parametrize(
    ("how", "told"), [("kill", "signal SIGKILL"), ("crash", "signal SIGSEGV"), ("exit 3", "status 3")]
)
def test_a_workitem_that_kills_its_worker(boss: Stage, how: str, told: str) -> None:
    good = {f"good{number}" for number in range(100)}
    messages = [(b"boss nap 0", {"message_id": each}) for each in sorted(good)]
    messages.insert(30, (f"boss {how}".encode(), {"message_id": "poison"}))
    boss.amqp.submit_many(iter(messages))
    results = boss.amqp.take_many("results", 101)
    by_id = {message.properties.message_id: message for message in results}
    assert by_id.keys() == good | {"poison"}
    assert {by_id[each].headers["attempt"] for each in good} == {1}, "no innocent is counted"
    assert {by_id[each].headers["status"] for each in good} == {"success"}
    poison = by_id["poison"]
    assert (poison.headers["status"], poison.headers["attempt"]) == ("error", 3)
    assert poison.headers["error_type"] == "WorkerCrashed" and told in poison.json()["error"]
    dead = boss.amqp.take_for("poison", "taskqueue_dead")
    assert (dead.headers["x-dead-reason"], dead.headers["x-attempt"]) == ("crashed", 3)
    assert told in dead.headers["x-dead-detail"]
    runs = Counter(boss.output("runs"))
    assert runs["poison"] == 3 and {runs[each] for each in good} == {1}
    assert boss.amqp.take_now("results") is None and boss.amqp.take_now("taskqueue_dead") is None
    boss.pool.wait_running("boss")


def test_a_crash_that_does_not_come_back(boss: Stage) -> None:
    boss.amqp.submit("boss once", message_id="once")
    message = boss.amqp.take_for("once")
    assert (message.json(), message.headers["attempt"], message.headers["status"]) == (2, 2, "success")
    assert boss.amqp.take_now("taskqueue_dead") is None


def test_max_memory(stage: Stage) -> None:
    install(stage)
    stage.configure("[boss]\nmax_memory: 300M\nmax_crashes: 2\n")
    stage.start("boss")
    stage.amqp.submit("boss eat 50")
    assert stage.amqp.take().json() == 50 << 20
    stage.amqp.submit("boss eat 2000", message_id="hungry")
    message = stage.amqp.take_for("hungry")
    assert (message.headers["status"], message.headers["attempt"]) == ("error", 2)
    dead = stage.amqp.take_for("hungry", "taskqueue_dead")
    assert dead.headers["x-dead-reason"] == "crashed" and "memory" in dead.headers["x-dead-detail"].lower()


def test_a_worker_that_breaks_the_protocol(boss: Stage) -> None:
    boss.amqp.submit("boss babble", message_id="babble")
    boss.pool.logged("worker broke the protocol: group=boss")
    boss.amqp.submit("boss nap 0", message_id="good")
    messages = {message.properties.message_id: message for message in boss.amqp.take_many("results", 2)}
    assert messages["good"].headers["status"] == "success"
    assert messages["babble"].headers["status"] == "error"
    assert boss.amqp.take_for("babble", "taskqueue_dead").headers["x-dead-reason"] == "crashed"
    boss.pool.wait_running("boss")


@pytest.mark.parametrize("ended_by", ["SIGKILL", "time limit"])
def test_what_a_plugin_started_goes_with_its_worker(stage: Stage, ended_by: str) -> None:
    install(stage)
    stage.configure("[boss]\nmax_crashes: 1\n" + ("time_limit: 800ms\n" if ended_by == "time limit" else ""))
    stage.start("boss")
    stage.amqp.submit("boss family 60", message_id="family")
    pid = stage.pool.running_task("boss", "family")
    family = wait_for(lambda: [int(each) for line in stage.output("family") for each in line.split()], 5, "it has one")
    assert len(family) == 3 and all(processes.alive(each) for each in family)
    if ended_by == "SIGKILL":
        processes.kill(pid)
    processes.wait_gone({pid, *family})
    stage.amqp.take_for("family")


# -- template, listener, pool


@pytest.mark.parametrize("role", ["template", "listener"])
def test_a_helper_that_is_killed(boss: Stage, role: str) -> None:
    install(boss, "other")
    boss.reload()
    boss.pool.wait_running("other")
    other = boss.pool.pids("other")
    before = {boss.pool.helper("boss", each) for each in ("template", "listener")} | boss.pool.pids("boss")
    for number in range(60):
        boss.amqp.submit("boss nap 0.05", message_id=f"h{number}")
    boss.amqp.take_many("results", 5)
    processes.kill(boss.pool.helper("boss", role))
    processes.wait_gone(before)
    boss.pool.wait_running("boss", deadline_s=5)
    messages = boss.amqp.consume("results", 20, lambda taken: len(ids(taken)) >= 55)
    assert len(ids(messages)) == 55
    print(f"ledger of a killed {role}: results={5 + len(messages)} of 60")
    assert len(messages) <= 55 + 2 * 16, "only what was under way may come twice"
    boss.pool.logged(f"{role} died: group=boss .*signal SIGKILL")
    assert boss.pool.group("boss")["restarts"] >= 1
    assert boss.pool.pids("other") == other
    assert boss.amqp.take_now("taskqueue_dead") is None
    wait_for(lambda: not processes.zombies(processes.descendants(boss.pool.pid)), 5, "no zombie")


def ids(messages: list[Message]) -> set[str]:
    """The workitems that messages are of."""
    return {message.properties.message_id for message in messages}


def test_a_killed_pool_leaves_nothing_behind(boss: Stage) -> None:
    boss.amqp.submit("boss family 300", message_id="family")
    boss.pool.running_task("boss", "family")
    family = wait_for(lambda: [int(each) for line in boss.output("family") for each in line.split()], 5, "it has one")
    theirs = processes.descendants(boss.pool.pid)
    assert set(family) <= theirs and len(theirs) == 4 + 3
    processes.kill(boss.pool.pid)
    boss.pool.wait()
    processes.wait_gone(theirs, 5)
    wait_for(lambda: boss.amqp.depth("worker_boss") == 1, 5, "its workitem is back")
    assert boss.amqp.consumers("worker_boss") == 0

    boss.configure("[boss]\nworkers: 1\n")
    boss.pool.start()  # over what the dead one left: pid file and socket
    boss.pool.wait_running("boss")
    boss.pool.running_task("boss", "family")
    assert boss.pool.group("boss")["workers_wanted"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stray_signals_to_helpers_lose_nothing(boss: Stage, number: int) -> None:
    for each in range(40):
        boss.amqp.submit("boss nap 0.02", message_id=f"s{each}")
    boss.amqp.take_many("results", 3)
    for pid in [boss.pool.helper("boss", role) for role in ("listener", "template")]:
        processes.kill(pid, number)
    messages = boss.amqp.consume("results", 20, lambda taken: len(ids(taken)) >= 37)
    assert len(ids(messages)) == 37
    boss.pool.wait_running("boss")
    assert boss.amqp.take_now("taskqueue_dead") is None


def test_titles(boss: Stage) -> None:
    pytest.importorskip("setproctitle")
    assert processes.title(boss.pool.pid) == "taskqueue: workerpool"
    assert processes.title(boss.dispatcher.pid) == "taskqueue: dispatcher"
    for role in ("listener", "template"):
        assert processes.title(boss.pool.helper("boss", role)) == f"taskqueue: {role} boss"
    assert {processes.title(pid) for pid in boss.pool.pids("boss")} == {"taskqueue: worker boss"}
    boss.amqp.submit("boss nap 3", message_id="4f2a")
    pid = boss.pool.running_task("boss", "4f2a")
    wait_for(lambda: processes.title(pid) == "taskqueue: worker boss [task 4f2a]", 5, "it says what it runs")
    boss.amqp.take_for("4f2a")
    wait_for(lambda: processes.title(pid) == "taskqueue: worker boss", 5, "it is idle again")


def test_dispatcher_killed_at_work(boss: Stage) -> None:
    everything = {f"d{number}" for number in range(3000)}
    boss.amqp.submit_many((b"raw x", {"message_id": each}) for each in sorted(everything))
    wait_for(lambda: boss.amqp.depth("worker_raw") > 100, 10, "it is at work", poll_s=0.001)
    processes.kill(boss.dispatcher.pid)
    boss.dispatcher.wait()
    boss.dispatcher.start()
    messages = boss.amqp.consume("worker_raw", 30, lambda taken: ids(taken) >= everything)
    print(f"ledger of a killed dispatcher: workitems={len(everything)} dispatched={len(messages)}")
    assert ids(messages) == everything
    assert len(messages) <= len(everything) + 500, "no more than its prefetch comes twice"


# -- the measures of the issue


def test_ten_thousand_workitems_under_kill_9(stage: Stage) -> None:
    install(stage)
    stage.configure("[boss]\nworkers: 4\nmax_crashes: 1000\n")
    stage.start("boss")
    everything = [f"w{number}" for number in range(10_000)]
    stage.amqp.submit_many((b"boss nap 0.001", {"message_id": each}) for each in everything)
    template = stage.pool.helper("boss", "template")
    killed: list[int] = []
    done = threading.Event()

    def killer() -> None:
        chance = random.Random(7)
        while not done.wait(0.08):
            children = [pid for pid, parent in processes.parents().items() if parent == template]
            if children:
                killed.append(chance.choice(children))
                processes.kill(killed[-1])

    thread = threading.Thread(target=killer)
    started = time.monotonic()
    thread.start()
    try:
        messages = stage.amqp.consume("results", 90, lambda taken: len(ids(taken)) == len(everything))
    finally:
        done.set()
        thread.join()
    seconds = time.monotonic() - started
    results = Counter(message.properties.message_id for message in messages)
    attempts = Counter(message.headers["attempt"] for message in messages)
    crashes = sum((attempt - 1) * count for attempt, count in attempts.items())
    duplicates = len(messages) - len(results)
    print(
        f"ledger of kill -9: workitems={len(everything)} results={len(messages)} duplicates={duplicates} "
        f"workers_killed={len(killed)} attempts={dict(sorted(attempts.items()))} seconds={seconds:.1f}"
    )
    assert results.keys() == set(everything), "every message_id has a result"
    assert {message.headers["status"] for message in messages} == {"success"}
    assert len(killed) >= 10 and crashes >= 1, "the test has killed something"
    assert crashes <= len(killed), "no workitem is blamed for another's death"
    assert duplicates == 0, "nobody but workers was killed: no result comes twice"
    assert stage.amqp.take_now("taskqueue_dead") is None
    stage.pool.wait_running("boss")


@pytest.fixture(params=[pytest.param((25, 5), id="25s"), pytest.param((180, 10), id="180s", marks=pytest.mark.slow)])
def gil(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """For how long the GIL is held, and the heartbeat, in seconds."""
    yield request.param


@pytest.mark.timeout(280)
def test_a_handler_that_holds_the_gil(stage: Stage, gil: tuple[int, int]) -> None:
    hold_s, heartbeat_s = gil
    install(stage)
    stage.configure("")
    stage.pool.env[URL_VARIABLE] = f"{stage.amqp_url}?heartbeat={heartbeat_s}"
    stage.start("boss")
    started = time.monotonic()
    stage.amqp.submit(f"boss hold_the_gil {hold_s}", message_id="gil")
    pid = stage.pool.running_task("boss", "gil")
    before = stage.pool.log  # RabbitMQ 3.10 may end a connection (541) when two declare a new quorum queue at once
    message = stage.amqp.take_for("gil", deadline_s=hold_s + 15)
    assert time.monotonic() - started >= hold_s
    assert (message.headers["status"], message.headers["attempt"], message.json()) == ("success", 1, pid)
    assert stage.output("runs") == ["gil"], "it ran exactly once"
    meanwhile = stage.pool.log.removeprefix(before)
    assert not re.findall("broker connect", meanwhile), "the connection stayed up"
    assert stage.amqp.depth("worker_boss") == 0
    assert processes.alive(pid)
