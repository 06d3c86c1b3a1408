"""The delay ladder under the real daemons: in order, none early, none lost; `tests/faults/delays.py` at large."""

from __future__ import annotations

import random
import signal
import time
from itertools import pairwise

from broker import PrivateBroker
from daemons import Stage
from delayed import arrivals, lateness, submit
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


DELAY_MS = 2**13 - 16
"""8,176 ms: nine rungs, the first of 4,096 ms."""


def delayed(stage: Stage, seed: int, count: int, least_s: float, most_s: float) -> dict[str, float]:
    """Submit workitems with random delays; when each is due, Unix time."""
    chance = random.Random(seed)
    return {
        name: submit(stage.amqp, "later x", name, round(chance.uniform(least_s, most_s) * 1000))
        for name in map(str, range(count))
    }


def test_random_delays_come_out_in_order(stage: Stage) -> None:
    stage.start()
    due = delayed(stage, 1, 400, 2.0, 5.0)
    came = arrivals(stage.amqp, "worker_later", len(due), 60)
    late = lateness(due, came)
    latest, overtaken = 0.0, 0
    for each in came:
        overtaken += due[each.name] < latest - 0.1
        latest = max(latest, due[each.name])
    print(f"lateness p50={late[len(late) // 2]:.3f} max={late[-1]:.3f} s, overtaken by more than 100 ms: {overtaken}")
    assert late[0] >= 0, "none is early"
    assert len(came) == len(due)


def test_what_a_dispatcher_that_hangs_costs_is_made_up_for(stage: Stage) -> None:
    """Behind the first rung, the workitem waits for a dispatcher until 7 s are over."""
    stage.start()
    due_s = submit(stage.amqp, "later x", "0", DELAY_MS)
    wait_for(lambda: stage.amqp.depth("taskqueue_delay_12") == 1, 3, "it is on the first rung")
    stage.dispatcher.send(signal.SIGSTOP)
    wait_for(lambda: time.time() > due_s - DELAY_MS / 1000 + 7.0, 10)
    stage.dispatcher.send(signal.SIGCONT)
    (late_s,) = lateness({"0": due_s}, arrivals(stage.amqp, "worker_later", 1, 20))
    assert late_s >= 0
    assert late_s < 10.5 - DELAY_MS / 1000, "walked on by the rungs alone, it would come after 11 s"


def test_delays_outlive_a_broker_that_is_restarted(stage: Stage, broker: PrivateBroker) -> None:
    """Killed it is in `make faults FAULT=delays`: RabbitMQ 3.10 may leave a quorum queue without a leader, and what
    is in it waits for the next restart."""
    stage.start()
    due = delayed(stage, 2, 200, 2.5, 4.0)
    wait_for(lambda: stage.amqp.depth("worker_later") > 0, 20, "the first has come")
    broker.restart()
    came = arrivals(stage.amqp, "worker_later", len(due), 120)
    late = lateness(due, came)
    print(f"duplicates={len(came) - len(due)} latest={late[-1]:.1f} s late")
    assert {each.name for each in came} == due.keys()
    assert late[0] >= 0
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
