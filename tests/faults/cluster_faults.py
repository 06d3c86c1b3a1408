"""Faults of a RabbitMQ cluster of three nodes under load: each node killed or stopped in turn, or its link cut.

Two dispatchers and two pools know all three hosts. Nobody starts a daemon again, for none of them may end. The load
comes from three clients, each at home on another node, which fail over as the daemons do.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
from ledger import Load

from broker import PrivateBroker
from cluster import SIZE, PrivateCluster, Switch
from daemons import URL_VARIABLE, Daemon, Stage
from installation import Installation

PLUGIN = """
    import time
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            time.sleep(float(body.split()[0]) / 1000)
"""

HEARTBEAT_S = 3
CONFIG = f"""
[amqp]
host = %s
vhost = %s
heartbeat = {HEARTBEAT_S}
[workerpool]
stop_timeout = 5
[ledger]
workers: 2
"""
BROKER_CONFIG = "net_ticktime = 5\n"
"""After how long without a word from another node a node gives it up; RabbitMQ's default is a minute."""
CUT_S = 15.0
"""How long a link is cut: longer than any heartbeat, and than nodes wait for one another."""
REJOIN_S = 12.0
"""After its link is mended, a node that was cut off is back by itself, or is restarted."""
LENGTH_S = 40.0
"""A run takes at least so long: `count` workitems are submitted in that time, and more if it takes longer."""

_TROUBLE = (pika.exceptions.AMQPError, OSError, AssertionError)
"""What a broker that goes away does to a client."""


class ClusterLoad(Load):
    """A load from clients at home on each node, until `finish`."""

    def __init__(self, urls: list[str], bodies: Iterator[tuple[str, str]], rate: float) -> None:
        super().__init__(urls[0], [], rate)
        self._urls = urls
        self._next = enumerate(bodies)
        self._finished = threading.Event()
        self._results_at: list[float] = []
        self._submitters, collectors = (
            [threading.Thread(target=work, args=(home,), daemon=True) for home in range(len(urls))]
            for work in (self._submit_from, self._collect_at)
        )
        self._threads = [*self._submitters, *collectors]

    def start(self) -> None:
        """Begin."""
        self._started = time.monotonic()
        super().start()

    def finish(self) -> None:
        """Submit no more."""
        self._finished.set()
        for thread in self._submitters:
            thread.join()
        self.all_submitted.set()

    def gap_s(self, began: float, ended: float) -> float:
        """The longest time without a result that was over between two times."""
        with self._lock:
            pairs = itertools.pairwise(self._results_at)
            return max((after - before for before, after in pairs if began < after <= ended), default=0.0)

    def _connect(self, home: int) -> Any:
        """To the node where we are at home, or the next that answers; a link that is cut is noticed within 3 s."""
        parameters = [pika.URLParameters(url) for url in (*self._urls[home:], *self._urls[:home])]
        for each in parameters:
            each.heartbeat, each.socket_timeout, each.stack_timeout = HEARTBEAT_S, 2.0, 3.0
            each.tcp_options = {"TCP_USER_TIMEOUT": 3000}
        return pika.BlockingConnection(parameters)

    def _submit_from(self, home: int) -> None:
        channel: Any = None
        while not self._finished.is_set():
            with self._lock:
                number, (message_id, body) = next(self._next)
            self._stop.wait(max(0.0, self._started + number / self._rate - time.monotonic()))
            while not self._stop.is_set():
                try:
                    if channel is None:
                        channel = self._connect(home).channel()
                        channel.confirm_delivery()
                    properties = pika.BasicProperties(delivery_mode=2, message_id=message_id)
                    channel.basic_publish("", "taskqueue", body.encode(), properties, mandatory=True)
                except _TROUBLE:
                    channel = None
                    self._stop.wait(0.1)
                else:
                    with self._lock:
                        self.ledger.submitted_at[message_id] = time.monotonic()
                    break

    def _collect_at(self, home: int) -> None:
        while not self._stop.is_set():
            try:
                connection = self._connect(home)
                channel = connection.channel()
                channel.basic_qos(prefetch_count=50)
                for queue in ("results", "taskqueue_dead"):
                    channel.basic_consume(queue, self._came)
                while not self._stop.is_set():
                    connection.process_data_events(time_limit=0.1)
                connection.close()
            except _TROUBLE:
                self._stop.wait(0.1)

    def _came(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Our own ack can be lost with its node: what is redelivered and was counted is not counted again."""
        headers = properties.headers or {}
        task, status = str(headers.get("task_id")), str(headers.get("status"))
        with self._lock:
            if method.routing_key == "taskqueue_dead":
                self.ledger.dead[str(properties.message_id)] += 1
            elif not (method.redelivered and task in self.ledger.results):
                self.ledger.result(task, status)
                self._results_at.append(time.monotonic())
        channel.basic_ack(method.delivery_tag)


class World:
    """Cluster, daemons and schedule of one run."""

    def __init__(
        self, cluster: PrivateCluster, switch: Switch | None, stage: Stage, vhost: str, chance: random.Random
    ) -> None:
        self.cluster, self.vhost, self.random = cluster, vhost, chance
        self._switch = switch
        self.pools = [stage.pool, stage.another("workerpool", "workerpool2")]
        self.daemons: list[Daemon] = [*self.pools, stage.dispatcher, stage.another("dispatcher", "dispatcher2")]
        for daemon in self.daemons:
            del daemon.env[URL_VARIABLE]  # the hosts are in the config file
        self.events: list[tuple[str, float]] = []
        """What was done, and when."""
        self._started = time.monotonic()

    def start(self) -> None:
        """Start the daemons."""
        for daemon in self.daemons:
            daemon.start()
        for pool in self.pools:
            pool.wait_running("ledger")

    def say(self, what: str) -> None:
        """One line of what happens."""
        print(f"    {time.monotonic() - self._started:6.2f}s  {what}", flush=True)

    def did(self, what: str) -> None:
        """Note what is done, just before it is."""
        self.say(what)
        self.events.append((what, time.monotonic()))

    def pause(self) -> None:
        """Let work go on for a while."""
        time.sleep(self.random.uniform(1.0, 3.0))  # the schedule

    def leader(self) -> int:
        """The node that leads the busiest queue."""
        return self.cluster.leader_of(self.vhost, "worker_ledger")

    def node(self, number: int) -> str:
        """A node, and what it is for the load."""
        leads = "leader, " if self.leader() == number else ""
        return f"node {number} ({leads}{self.cluster.connections()[number]} clients)"

    def end_each(self, what: str, end: Callable[[PrivateBroker], None]) -> None:
        """End each node, the leader first; it is started again, and has caught up, before the next one ends."""
        leader = self.leader()
        others = [number for number in range(SIZE) if number != leader]
        self.random.shuffle(others)
        for number in (leader, *others):
            self.pause()
            self.did(f"{self.node(number)} {what}")
            end(self.cluster.nodes[number])
            self.pause()
            self.cluster.nodes[number].start()
            self.cluster.wait_whole()
            self.say(f"node {number} is back")
        self.pause()

    def cut_off(self) -> None:
        """Cut the link of the leader, then of the node that has most clients: that of the daemons."""
        assert self._switch is not None
        for choose in (self.leader, lambda: max(range(SIZE), key=self.cluster.connections().__getitem__)):
            number = choose()
            self.pause()
            self.did(f"{self.node(number)} cut off")
            self._switch.cut(number)
            time.sleep(CUT_S)
            self._switch.mend(number)
            self.did(f"node {number} linked again")
            try:
                self.cluster.wait_whole(REJOIN_S)
            except AssertionError:
                self.did(f"node {number} does not rejoin, is restarted")
                self.cluster.nodes[number].restart(graceful=False)
                self.cluster.wait_whole()
            self.say("the cluster is whole")
        self.pause()


FAULTS: dict[str, Callable[[World], None]] = {
    "cluster-kill": lambda world: world.end_each("killed", PrivateBroker.kill),
    "cluster-stop": lambda world: world.end_each("stopped", lambda node: node.stop(graceful=True)),
    "cluster-partition": World.cut_off,
}


def run(name: str, seed: int, count: int, installation: Installation) -> bool:
    """One fault of a cluster; whether nothing was lost, nothing unexpected came, and no daemon ended."""
    with ThreadPoolExecutor(1) as own:  # a thread that may move to a network of its own
        return own.submit(_run, name, seed, count, installation).result()


def _run(name: str, seed: int, count: int, installation: Installation) -> bool:
    print(f"{name}: seed={seed} count={count}", flush=True)
    began = time.monotonic()
    vhost = f"{name}-{seed}"
    directory = Path(".run/faults").absolute() / f"{os.getpid()}-{vhost}"
    with ExitStack() as until_the_end:
        until_the_end.callback(shutil.rmtree, directory, ignore_errors=True)
        switch = until_the_end.enter_context(Switch()) if name == "cluster-partition" else None
        cluster = until_the_end.enter_context(PrivateCluster(directory, switch=switch, config=BROKER_CONFIG))
        cluster.add_vhost(vhost)
        stage = Stage(installation, installation.prefix.parent / vhost, cluster.nodes[0].url(vhost))
        until_the_end.callback(stage.close)
        stage.site.install("ledger", PLUGIN)
        stage.configure(CONFIG % (cluster.hosts(), vhost))
        world = World(cluster, switch, stage, vhost, random.Random(seed))
        fine, line = _under_load(world, FAULTS[name], name, count)
    print(f"  {name}: {line} seconds={time.monotonic() - began:.0f}", flush=True)
    return fine


def _under_load(world: World, act: Callable[[World], None], name: str, count: int) -> tuple[bool, str]:
    world.start()
    chance = random.Random(world.random.random())
    bodies = ((f"{name}-{number}", f"ledger {chance.choice((0, 1, 2, 5, 20))}") for number in itertools.count())
    load = ClusterLoad(world.cluster.urls(world.vhost), bodies, rate=count / LENGTH_S)
    load.start()
    act(world)
    load.finish()
    out = load.wait(120)
    load.stop()
    ledger = load.ledger
    for (what, began), (_, ended) in itertools.pairwise([*world.events, ("", time.monotonic())]):
        print(f"    {what}: longest gap {load.gap_s(began, ended):.1f} s")
    fine = out and not ledger.lost and not ledger.unexpected and all(daemon.running for daemon in world.daemons)
    if not fine or os.environ.get("SHOW_LOGS"):
        for daemon in world.daemons:
            print(f"--- log of {daemon.name}, {'running' if daemon.running else 'ENDED'}\n{daemon.tail()}")
    for lost in sorted(ledger.lost)[:10]:
        print(f"    lost: {lost}")
    return fine, ledger.line()
