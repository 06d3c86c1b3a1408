"""The delay ladder under the real daemons: in order, none early, none lost; `tests/faults/delays.py` at large."""

from __future__ import annotations

import random
import signal
import time
from itertools import pairwise

import pika.exceptions

from broker import PrivateBroker
from daemons import Stage
from plain_amqp import Message
from waiting import wait_for

AGAIN = """
    import time
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            with open("SCRATCH/began", "a") as began:
                began.write(f"{self.task.id} {time.time()}\\n")
            raise ValueError("no luck")
"""


def delayed(stage: Stage, seed: int, count: int, least_s: float, most_s: float) -> dict[str, float]:
    """Submit workitems with random delays; when each is due, Unix time."""
    chance = random.Random(seed)
    due = {}
    for number in range(count):
        delay_ms = round(chance.uniform(least_s, most_s) * 1000)
        due[str(number)] = time.time() + delay_ms / 1000
        stage.amqp.submit("later x", message_id=str(number), headers={"x-delay": delay_ms})
    return due


def arrivals(stage: Stage, count: int, deadline_s: float) -> list[tuple[str, float]]:
    """What comes into `worker_later`, and when, until there are `count` different ones."""
    came: list[tuple[str, float]] = []

    def enough() -> bool:
        try:
            while (message := stage.amqp.take_now("worker_later")) is not None:
                came.append((message.properties.message_id, time.time()))
        except pika.exceptions.AMQPError:  # a broker that has just started: its quorum queues elect their leaders
            stage.amqp.close()
        return len({name for name, _ in came}) >= count

    wait_for(enough, deadline_s, "all have come", poll_s=0.002, otherwise=lambda: f"{len(came)} of {count}")
    return came


def test_random_delays_come_out_in_order(stage: Stage) -> None:
    stage.start()
    due = delayed(stage, 1, 400, 2.0, 5.0)
    came = arrivals(stage, len(due), 60)
    late = sorted(at - due[name] for name, at in came)
    latest, overtaken = 0.0, 0
    for name, _ in came:
        overtaken += due[name] < latest - 0.1
        latest = max(latest, due[name])
    print(f"lateness p50={late[len(late) // 2]:.3f} max={late[-1]:.3f} s, overtaken by more than 100 ms: {overtaken}")
    assert late[0] >= 0, "none is early"
    assert len(came) == len(due)


def test_what_a_dispatcher_that_hangs_costs_is_made_up_for(stage: Stage) -> None:
    """8,176 ms are nine rungs. Behind the first, of 4,096 ms, it waits for a dispatcher until 7 s are over."""
    stage.start()
    submitted = time.time()  # before: a busy broker confirms late
    stage.amqp.submit("later x", message_id="0", headers={"x-delay": 2**13 - 16})
    wait_for(lambda: stage.amqp.depth("taskqueue_delay_12") == 1, 3, "it is on the first rung")
    stage.dispatcher.send(signal.SIGSTOP)
    wait_for(lambda: time.time() - submitted > 7.0, 10)
    stage.dispatcher.send(signal.SIGCONT)
    ((_, at),) = arrivals(stage, 1, 20)
    assert at - submitted > 8.1
    assert at - submitted < 10.5, "walked on by the rungs alone, it would come after 11 s"


def test_delays_outlive_a_broker_that_is_restarted(stage: Stage, broker: PrivateBroker) -> None:
    """Killed it is in `make faults FAULT=delays`: RabbitMQ 3.10 may leave a quorum queue without a leader, and what
    is in it waits for the next restart."""
    stage.start()
    due = delayed(stage, 2, 200, 2.5, 4.0)
    wait_for(lambda: stage.amqp.depth("worker_later") > 0, 20, "the first has come")
    broker.restart()
    came = arrivals(stage, len(due), 120)
    print(f"duplicates={len(came) - len(due)} latest={max(at - due[name] for name, at in came):.1f} s late")
    assert {name for name, _ in came} == due.keys()
    assert all(at >= due[name] for name, at in came)
    assert stage.amqp.take_now("taskqueue_dead") is None


def test_retries_back_off_with_jitter(stage: Stage) -> None:
    stage.site.install("again", AGAIN.replace("SCRATCH", str(stage.scratch)))
    stage.configure("[again]\nworkers: 2\nmax_retries: 3\nretry_delay: 200ms\n")
    stage.start("again")
    names = {f"a{number}" for number in range(8)}
    for name in names:
        stage.amqp.submit("again x", message_id=name)
    results: list[Message] = stage.amqp.take_many("results", len(names), 30)
    assert {(each.headers["status"], each.headers["attempt"]) for each in results} == {("error", 4)}
    began: dict[str, list[float]] = {}
    for line in stage.output("began"):
        name, at = line.split()
        began.setdefault(name, []).append(float(at))
    assert began.keys() == names and {len(each) for each in began.values()} == {4}
    waits = [[after - before for before, after in pairwise(each)] for each in began.values()]
    for each in waits:
        assert all(wait_s >= 0.2 * 2**number * 0.75 for number, wait_s in enumerate(each)), each
    third = sorted(each[2] for each in waits)
    print(f"third waits of {len(third)} workitems: {', '.join(f'{wait_s:.3f}' for wait_s in third)} s")
    assert third[-1] - third[0] > 0.005, "who failed together does not come back together"
