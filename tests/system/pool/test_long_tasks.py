"""A task that runs longer than the broker's `consumer_timeout`: once, undisturbed, and again where its host dies."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from broker import PrivateBroker
from daemons import Stage
from waiting import wait_for

SLEEPER = """
    import os
    import time
    from pathlib import Path
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            if body == "short":
                return "short"
            with Path(self.settings["scratch"], "began").open("a") as began:
                began.write(f"{self.task.id} {os.getpid()}\\n")
            end = time.monotonic() + float(body)
            while time.monotonic() < end:
                time.sleep(0.1)
            return "slept"
"""

TIMEOUT_S = 30
TICK_S = 5


@pytest.fixture
def impatient(broker: PrivateBroker) -> Iterator[None]:
    """A broker that gives a delivery 30 s, and looks every 5 s; as it was, afterwards. New channels only."""
    set_env = "application:set_env(rabbit, {}, {})"
    before = ["consumer_timeout", "channel_tick_interval"]
    values = [broker.eval(f"application:get_env(rabbit, {name}, 60000).").strip() for name in before]
    broker.eval(
        f"{set_env.format('consumer_timeout', TIMEOUT_S * 1000)},"
        f"{set_env.format('channel_tick_interval', TICK_S * 1000)}."
    )
    yield
    for name, value in zip(before, values, strict=True):
        broker.eval(f"{set_env.format(name, value.removeprefix('{ok,').rstrip('}'))}.")


def began(stage: Stage) -> list[str]:
    """The ids of the long workitems that were begun, once for each time."""
    return [line.split()[0] for line in stage.output("began")]


def waiting(stage: Stage) -> int:
    """Workitems that the pool has, and none of its workers runs."""
    count: int = stage.pool.generation("sleeper")["waiting"]
    return count


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
def test_runs_once_past_the_consumer_timeout(
    stage: Stage, broker: PrivateBroker, vhost: str, impatient: None, queue_type: str
) -> None:
    stage.site.install("sleeper", SLEEPER)
    stage.configure(f"[amqp]\nqueue_type = {queue_type}\n[sleeper]\nworkers: 2\nscratch: {stage.scratch}\n")
    stage.start("sleeper")
    stage.amqp.submit("sleeper 50", message_id="long")
    ended = time.monotonic() + 80
    seen: list[str] = []
    submitted = 0
    while "long" not in seen:
        assert time.monotonic() < ended, f"no result\n{stage.pool.tail()}"
        stage.amqp.submit("sleeper short", message_id=f"short-{submitted}")
        submitted += 1
        while (message := stage.amqp.take(deadline_s=15.0)).headers["task_id"] != f"short-{submitted - 1}":
            seen.append(message.headers["task_id"])
        seen.append(message.headers["task_id"])
        time.sleep(0.5)  # the rate of the load, not a wait for a fact
    assert began(stage) == ["long"]
    assert len(seen) == len(set(seen)) == submitted + 1
    assert "channel closed" not in stage.pool.log
    assert "cancelled the consumer" not in stage.pool.log
    assert stage.pool.stop() == 0
    assert "lease" not in broker.ctl("list_queues", "-q", "--no-table-headers", "-p", vhost, "name")


def test_what_stands_behind_tasks_that_hang_goes_to_another_host(stage: Stage) -> None:
    """Workers were given short ones ahead; then all of them hang. Nothing waits there for as long as they do."""
    stage.site.install("sleeper", SLEEPER)
    stage.configure(f"[sleeper]\nworkers: 2\nscratch: {stage.scratch}\n")
    stage.start("sleeper")
    bodies = ["short"] * 500 + ["3600"] * 2 + ["short"] * 500
    stage.amqp.submit_many((f"sleeper {body}".encode(), {"message_id": f"{n}"}) for n, body in enumerate(bodies))
    wait_for(lambda: sorted(began(stage)) == ["500", "501"], 20, "both hang", otherwise=stage.pool.tail)
    wait_for(lambda: waiting(stage) == 0, 5, "nothing stands behind them")
    other = stage.another("workerpool", "other")
    other.start()
    wait_for(lambda: stage.amqp.depth("results") == 1000, 15, "all others are done", otherwise=other.tail)
    assert "lease taken" not in stage.pool.log, "which would have taken longer"


def test_runs_again_elsewhere_within_the_lease(stage: Stage) -> None:
    stage.site.install("sleeper", SLEEPER)
    stage.configure(f"[sleeper]\nworkers: 1\nscratch: {stage.scratch}\n")
    stage.start("sleeper")
    stage.amqp.submit("sleeper 40", message_id="long")
    wait_for(lambda: began(stage) == ["long"], 20)
    wait_for(lambda: stage.amqp.depth("worker_sleeper") == 0 and "lease taken" in stage.pool.log, 40)
    stage.pool.send(signal.SIGKILL)
    stage.pool.wait()
    other = stage.another("workerpool", "other")
    other.start()
    wait_for(lambda: began(stage) == ["long", "long"], 80, "begun again", otherwise=other.tail)
    assert stage.amqp.take_for("long", deadline_s=60).headers["status"] == "success"
