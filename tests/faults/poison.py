"""Proves crash accounting: what kills its worker is run `max_crashes` times and buried; nothing beside it is counted.

    poison.py [--seed N] [--count N]        by `make faults FAULT=poison SEED=… N=…`

1. Among `count` good workitems (5,000) one in a hundred kills its worker, each in its way: SIGSEGV, SIGKILL to itself,
   `os._exit`, `os.abort`, a stack overflow in C, out of memory. On classic and on quorum queues.
2. One kills its listener, again and again: the broker's delivery limit ends that. Seven pools, since each waits longer
   before it starts its group once more.

The plugin writes a line at the start of each run: that is the account. Takes about two minutes.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from itertools import pairwise

from proof import ground, holds, main, say, spread

from daemons import Stage, Workerpool
from plain_amqp import Message
from waiting import wait_for

PLUGIN = """
    import ctypes
    import os
    import signal
    import time
    from pathlib import Path
    from taskqueue.worker import BaseWorker

    RUNS = os.open("SCRATCH/runs", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    class Worker(BaseWorker):
        def handle_task(self, body):
            os.write(RUNS, f"{self.task.id} {os.getpid()} {time.time()}\\n".encode())
            what, _, rest = body.partition(" ")
            return getattr(self, what)(*rest.split())

        def good(self, ms):
            time.sleep(float(ms) / 1000)
            return {"returned": self.task.headers.get("x-delivery-count", 0)}

        def segv(self):
            ctypes.string_at(0)

        def kill(self):
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

        def exit(self):
            os._exit(7)

        def abort(self):
            os.abort()

        def stack(self):
            "glibc's parser of regular expressions calls itself for each bracket."
            ctypes.CDLL(None).regcomp(ctypes.create_string_buffer(4096), b"(" * 1_000_000, 1)

        def memory(self):
            eaten = []
            while True:
                eaten.append(bytearray(16 << 20))

        def listener(self):
            "Kill that of our own pool: template and listener are its children."
            pool = int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1])
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    try:
                        stat = (entry / "stat").read_text()
                        command = (entry / "cmdline").read_text()
                    except OSError:
                        continue
                    if int(stat.rpartition(")")[2].split()[1]) == pool and "listener" in command:
                        os.kill(int(entry.name), signal.SIGKILL)
            time.sleep(60)
"""

CONFIG = """
[amqp]
queue_type = {queue_type}
[poison]
workers: {workers}
max_memory: 300M
"""

KINDS = {
    "segv": "signal SIGSEGV",
    "kill": "signal SIGKILL",
    "exit": "status 7",
    "abort": "signal SIGABRT",
    "stack": "signal SIGSEGV",
    "memory": "out of memory: max_memory is 314572800 bytes",
}
"""Ways to kill a worker, and what the dead letter says of each."""

MAX_CRASHES = 3


def install(stage: Stage, queue_type: str, workers: int) -> None:
    """Install the plugin and configure its group."""
    stage.site.install("poison", PLUGIN.replace("SCRATCH", str(stage.scratch)))
    stage.configure(CONFIG.format(queue_type=queue_type, workers=workers))


def runs(stage: Stage) -> list[tuple[str, int, float]]:
    """Workitem, worker's pid and Unix time of every run, in the order in which they began."""
    lines = (line.split() for line in stage.output("runs"))
    return [(name, int(pid), float(at)) for name, pid, at in lines]


def by_id(messages: list[Message]) -> dict[str, Message]:
    """Messages by the workitem that they are of; none may come twice."""
    found = {message.properties.message_id: message for message in messages}
    assert len(found) == len(messages), "one came twice"
    return found


def crashes(stage: Stage, queue_type: str, seed: int, count: int) -> None:
    """One in a hundred of `count` workitems, and one of each kind, kill their worker. Raises `AssertionError`."""
    chance = random.Random(seed)
    kinds = list(KINDS)
    bodies = {f"good-{number}": f"good {chance.choice((0, 1, 2, 5))}" for number in range(count)}
    poison = {f"{kind}-{n}": kind for n in range(max(1, count // 100 // len(kinds) + 1)) for kind in kinds}
    order = [*bodies.items(), *poison.items()]
    chance.shuffle(order)
    install(stage, queue_type, workers=4)
    stage.start("poison")
    began = time.monotonic()
    for name, body in order:
        stage.amqp.submit(f"poison {body}", message_id=name)
    results = by_id(stage.amqp.consume("results", 120, lambda taken: len(taken) >= len(order)))
    took_s = time.monotonic() - began
    dead = by_id(stage.amqp.take_many("taskqueue_dead", len(poison)))

    began_runs = runs(stage)
    counted = Counter(name for name, _, _ in began_runs)
    attempts = Counter(results[name].headers["attempt"] for name in bodies)
    say(
        f"{queue_type}: good={len(bodies)} poison={len(poison)} results={len(results)} dead={len(dead)} "
        f"attempts of the good={dict(attempts)} runs of the good={dict(Counter(counted[name] for name in bodies))} "
        f"runs of the poison={dict(Counter(counted[name] for name in poison))} seconds={took_s:.0f}"
    )
    returned = Counter(results[name].json()["returned"] for name in bodies)
    say(f"{queue_type}: times that the good were given back to the broker before they were run: {dict(returned)}")
    starts = sorted(at for _, _, at in began_runs)
    say(spread(f"{queue_type}: between two starts", [after - before for before, after in pairwise(starts)]))
    fatal = [(pid, at) for name, pid, at in began_runs if name in poison]
    fresh: dict[int, float] = {}
    for _, pid, at in began_runs:
        fresh.setdefault(pid, at)
    new = sorted(fresh.values())
    waits = [next((at for at in new if at > died), died) - died for _, died in fatal]
    say(spread(f"{queue_type}: from a poison's start to the first run of a worker that is new", waits))

    assert results.keys() == bodies.keys() | poison.keys()
    assert attempts == {1: len(bodies)}, "no good one is counted"
    assert {counted[name] for name in bodies} == {1}, "nor run twice"
    assert {results[name].headers["status"] for name in bodies} == {"success"}
    # A prefetch that is lowered ends a consumer, and RabbitMQ counts what it has not sent yet as given back: few, once.
    # Were the deaths counted, it would be one for each death beside it.
    assert max(returned) <= 3 and returned[0] > 0.95 * len(bodies), "nor given back"
    assert dead.keys() == poison.keys()
    for name, kind in poison.items():
        assert counted[name] == MAX_CRASHES, name
        headers = results[name].headers
        assert (headers["status"], headers["attempt"], headers["error_type"]) == ("error", 3, "WorkerCrashed"), name
        assert KINDS[kind] in results[name].json()["error"], name
        headers = dead[name].headers
        assert (headers["x-dead-reason"], headers["x-attempt"], headers["x-crashes"]) == ("crashed", 3, 3), name
        assert KINDS[kind] in headers["x-dead-detail"], (name, headers["x-dead-detail"])
        assert dead[name].text == kind
    assert stage.amqp.take_now("results") is None and stage.amqp.take_now("taskqueue_dead") is None


def backstop(stage: Stage, pools: list[Workerpool], limit: int, good: int) -> None:
    """A workitem kills its listener, wherever it runs: it is begun once more often than `limit`, then buried.

    Raises `AssertionError`.
    """
    names = [f"good-{number}" for number in range(good)]
    bodies = {**dict.fromkeys(names[: good // 2], "good 2"), "poison": "listener", **dict.fromkeys(names, "good 2")}
    for name, body in bodies.items():
        stage.amqp.submit(f"poison {body}", message_id=name)
    dead = wait_for(
        lambda: stage.amqp.take_now("taskqueue_dead"), 170, "it is a dead letter",
        otherwise=lambda: f"runs={Counter(name for name, _, _ in runs(stage))['poison']}\n{pools[0].tail()}",
    )  # fmt: skip
    assert dead is not None
    results = stage.amqp.consume(
        "results", 60, lambda taken: {each.properties.message_id for each in taken} >= set(names)
    )
    counted = Counter(name for name, _, _ in runs(stage))
    say(
        f"kills its listener: runs={counted['poison']} dead={dead.headers.get('x-first-death-reason')} "
        f"good={good} completed={len({each.properties.message_id for each in results})} "
        f"runs of the good beyond one={sum(counted[name] for name in names) - good}"
    )
    assert dead.properties.message_id == "poison"
    assert dead.headers["x-first-death-reason"] == "delivery_limit"
    assert dead.headers["x-first-death-queue"] == "worker_poison"
    assert counted["poison"] == limit + 1
    assert stage.amqp.take_now("taskqueue_dead") is None, "no other is buried with it"


def prove(seed: int, count: int | None = None) -> bool:
    """All of it."""
    count = count or 5000
    print(f"poison: seed={seed} count={count}", flush=True)
    held = True
    with ground() as at:
        for queue_type in ("classic", "quorum"):
            with at.stage(queue_type) as stage:
                held &= holds(lambda: crashes(stage, queue_type, seed, count), stage)  # noqa: B023
        with at.stage("backstop") as stage:
            install(stage, "quorum", workers=2)
            pools = [stage.pool, *(stage.another("workerpool", f"workerpool{number}") for number in range(2, 8))]
            stage.start("poison")
            for pool in pools[1:]:
                pool.start()
            for pool in pools:
                pool.wait_running("poison")
            held &= holds(lambda: backstop(stage, pools, 20, 300), stage)
    return held


if __name__ == "__main__":
    sys.exit(main(__doc__, prove))
