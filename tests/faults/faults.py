"""Causes one kind of fault again and again under load, by a seeded schedule, and prints the ledger.

    faults.py [FAULT …] [--seed N] [--count N] [--list]      by `make faults FAULT=… SEED=… N=…`

Two dispatchers and two pools share the work; whatever of them ends is started again, as a service manager does. Every
line says what was done to whom and when, so that a failure can be played again with its seed. Exit status 1 where
anything was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cluster_faults
import delays
import pika.exceptions
import poison
from ledger import Load

import processes
from broker import PrivateBroker
from daemons import Daemon, Stage, Workerpool
from installation import Installation
from plain_amqp import PlainAmqp
from proxy import ACK, PUBLISH, Proxy
from waiting import wait_for

USER, PASSWORD = "daemons", "secret"
"""The broker's user that the daemons are; the ledger is another."""

PLUGIN = """
    import select
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            what, _, number = body.partition(" ")
            select.select([], [], [], float(what) / 1000)  # time.sleep fails under libfaketime
            return number
"""

CONFIG = """
[amqp]
heartbeat = 4
[workerpool]
stop_timeout = 5
[ledger]
workers: 2
max_crashes: 1000
"""


class World:
    """Broker, proxy, daemons and load of one fault run."""

    def __init__(
        self, stage: Stage, broker: PrivateBroker, vhost: str, proxy: Proxy, clock: Path, random_: random.Random
    ) -> None:
        self.stage, self.broker, self.vhost, self.proxy, self.clock = stage, broker, vhost, proxy, clock
        self.random = random_
        self.removals: list[tuple[float, float]] = []
        """When an operator removed what was in a queue: monotonic seconds, begin and end."""
        self.dispatchers: list[Daemon] = [stage.dispatcher, stage.another("dispatcher", "dispatcher2")]
        self.pools: list[Workerpool] = [stage.pool, stage.another("workerpool", "workerpool2")]
        self._watching = threading.Event()
        self._watcher = threading.Thread(target=self._keep, daemon=True)
        self.started = time.monotonic()
        self.number = 0

    def start(self) -> None:
        """Start everything, and keep it running."""
        for daemon in (*self.dispatchers, *self.pools):
            daemon.start()
        for pool in self.pools:
            pool.wait_running("ledger")
        self._watching.set()
        self._watcher.start()

    def end(self) -> None:
        """Keep nothing running any more."""
        self._watching.clear()
        self._watcher.join()

    def _keep(self) -> None:
        """What a service manager does with `Restart=always`."""
        while self._watching.is_set():
            for daemon in (*self.dispatchers, *self.pools):
                if not daemon.running:
                    daemon.start()
            time.sleep(0.1)

    def held(self) -> dict[str, int]:
        """Messages that wait or are unacked in a queue where none should be any more."""

        def left() -> dict[str, int]:
            rows = self.broker.ctl("list_queues", "-p", self.vhost, "name", "messages", "--no-table-headers")
            counts = {name: int(count) for name, count in map(str.split, rows.splitlines())}
            return {name: count for name, count in counts.items() if count and name != "results"}

        with contextlib.suppress(AssertionError):
            wait_for(lambda: not left(), 10, "the queues are empty", poll_s=0.5)
        return left()

    def say(self, what: str) -> None:
        """One line of what was done."""
        print(f"    {time.monotonic() - self.started:6.2f}s  {what}", flush=True)

    def some_pid(self, role: str) -> int:
        """The pid of a random process of that role, as soon as there is one."""
        if role == "dispatcher":
            return self.random.choice(self.dispatchers).pid
        if role == "workerpool":
            return self.random.choice(self.pools).pid

        def pids() -> list[int]:
            children = {pid for pool in self.pools for pid in processes.descendants(pool.pid)}
            return sorted(pid for pid in children if processes.title(pid).startswith(f"taskqueue: {role} "))

        return self.random.choice(wait_for(pids, 20, f"a {role}"))

    def kill(self, role: str) -> None:
        """SIGKILL a random process of a role."""
        pid = self.some_pid(role)
        self.say(f"SIGKILL {role} {pid}")
        processes.kill(pid)

    def freeze(self, role: str) -> None:
        """SIGSTOP it for longer than the broker waits for a heartbeat, then SIGCONT."""
        pid = self.some_pid(role)
        self.say(f"SIGSTOP {role} {pid} for 11 s")
        processes.kill(pid, signal.SIGSTOP)
        time.sleep(11)
        processes.kill(pid, signal.SIGCONT)

    def reload(self) -> None:
        """SIGHUP both pools with a changed group: every generation is replaced."""
        self.number += 1
        self.stage.configure(CONFIG + f"generation: {self.number}\n")
        self.say("SIGHUP workerpools, group changed")
        for pool in self.pools:
            pool.send(signal.SIGHUP)

    def terminate(self, role: str) -> None:
        """SIGTERM a daemon; it is started again."""
        pid = self.some_pid(role)
        self.say(f"SIGTERM {role} {pid}")
        processes.kill(pid, signal.SIGTERM)

    def stall(self) -> None:
        """No byte passes, no connection ends."""
        self.say("network stalls for 12 s")
        self.proxy.stall()
        time.sleep(12)
        self.proxy.resume()

    def cut(self) -> None:
        """All connections end at once."""
        self.say("network cut")
        self.proxy.cut()

    def restart_broker(self, *, graceful: bool) -> None:
        """Stop or kill the broker and start it again."""
        self.say("broker restarted" if graceful else "broker SIGKILLed and started")
        self.broker.restart(graceful=graceful)

    def close_connections(self) -> None:
        """The broker closes every connection."""
        self.say("broker closes all connections")
        self.broker.ctl("close_all_connections", "fault test")

    def alarm(self, kind: str) -> None:
        """A memory or disk alarm for three seconds."""
        on, off = {
            "memory": (["set_vm_memory_high_watermark", "0"], ["set_vm_memory_high_watermark", "0.6"]),
            "disk": (["set_disk_free_limit", "9000GB"], ["set_disk_free_limit", "1MB"]),
        }[kind]
        self.say(f"{kind} alarm for 3 s")
        self.broker.ctl(*on)
        time.sleep(3)
        self.broker.ctl(*off)

    def slow(self, how: str) -> None:
        """A network that is slow for eight seconds: in drops, or every byte late."""
        self.say(f"network {how}s for 8 s")
        if how == "trickle":
            self.proxy.trickle(512, 0.01)
        else:
            self.proxy.delay(0.4)
        time.sleep(8)
        self.proxy.hasten()

    def cut_at(self, name: str, method: tuple[int, int], *, before: bool) -> None:
        """One connection ends at the worst moment."""
        count = self.random.randint(1, 40)
        when = "before" if before else "after"
        self.say(f"connection cut right {when} {name} number {count}")
        if not self.proxy.cut_at(method, count=count, before=before, deadline_s=5):
            self.say("    which did not come")

    def forbid(self) -> None:
        """The daemons' user loses its permissions, and gets them back."""
        self.say("permissions withdrawn for 3 s")
        self.broker.ctl("set_permissions", "-p", self.vhost, USER, "^$", "^$", "^$")
        self.cut()  # each channel remembers what it was allowed
        time.sleep(3)
        self.broker.ctl("set_permissions", "-p", self.vhost, USER, ".*", ".*", ".*")

    def remove_queue(self) -> None:
        """An operator purges the busy queue, deletes it, and makes it again with other arguments."""
        began = time.monotonic()
        with PlainAmqp(self.broker.url(self.vhost)) as amqp:
            purged = amqp.purge("worker_ledger")
            deleted = amqp.delete("worker_ledger")
            time.sleep(0.5)  # at once, and RabbitMQ 3.10 moves consumers to the new one untold
            other: dict[str, object] = self.random.choice(({}, {"x-queue-type": "classic", "x-max-priority": 5}))
            with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):  # a daemon was quicker
                amqp.declare("worker_ledger", arguments=other)
        self.removals.append((began, time.monotonic()))
        self.say(f"queue worker_ledger purged ({purged}), deleted ({deleted}), declared with {other}")

    def fill_disk(self) -> None:
        """Logs, pid files and sockets of the daemons are on a disk that is full for six seconds; some are restarted."""
        self.say("disk full for 6 s")
        full = self.stage.directory / "full"
        with full.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(65536))
        for role in ("listener", "workerpool", "dispatcher"):
            time.sleep(self.random.uniform(0, 1))
            self.kill(role)
        time.sleep(6)
        full.unlink()

    def exhaust_descriptors(self) -> None:
        """No process of ours can open one more file for five seconds, while connections and workers end."""
        victim = self.some_pid("worker")
        self.say(f"no more descriptors for 5 s, SIGKILL worker {victim}")
        limited = set()
        for daemon in (*self.dispatchers, *self.pools):
            for pid in {daemon.pid, *processes.descendants(daemon.pid)}:
                with contextlib.suppress(FileNotFoundError):
                    used = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()) + 1
                    self._limit_descriptors(pid, used)
                    limited.add(pid)
        processes.kill(victim)
        time.sleep(2)
        self.cut()
        time.sleep(3)
        for pid in limited:
            with contextlib.suppress(FileNotFoundError):
                self._limit_descriptors(pid, 1024)

    def _limit_descriptors(self, pid: int, count: int) -> None:
        """As the user that `pid` runs as: a container's root may lack CAP_SYS_RESOURCE."""
        owner = Path(f"/proc/{pid}").stat()
        subprocess.run(
            ["prlimit", f"--pid={pid}", f"--nofile={count}:"],
            user=owner.st_uid, group=owner.st_gid, check=False, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def step_clock(self) -> None:
        """The daemons' wall clock jumps a day ahead, back two, and is right again."""
        for days in (1, -1, 0):
            self.say(f"clock {days:+} days" if days else "clock right")
            self.clock.write_text(f"{days:+}d\n")
            self.kill("worker")
            time.sleep(2)


FAULTS: dict[str, tuple[float, int, float, Callable[[World], None]]] = {
    "kill-worker": (0.3, 10, 0, lambda world: world.kill("worker")),
    "kill-listener": (2.5, 3, 0, lambda world: world.kill("listener")),
    "kill-template": (2.5, 3, 0, lambda world: world.kill("template")),
    "kill-pool": (2.5, 3, 0, lambda world: world.kill("workerpool")),
    "kill-dispatcher": (1.0, 4, 0, lambda world: world.kill("dispatcher")),
    "freeze-listener": (1.0, 1, 11, lambda world: world.freeze("listener")),
    "freeze-dispatcher": (1.0, 1, 11, lambda world: world.freeze("dispatcher")),
    "term-pool": (2.0, 3, 0, lambda world: world.terminate("workerpool")),
    "term-dispatcher": (1.0, 3, 0, lambda world: world.terminate("dispatcher")),
    "reload": (1.5, 4, 0, World.reload),
    "cut": (0.7, 6, 0, World.cut),
    "stall": (1.0, 1, 12, World.stall),
    "close-connections": (1.5, 3, 0, World.close_connections),
    "broker-restart": (2.0, 1, 8, lambda world: world.restart_broker(graceful=True)),
    "broker-kill": (2.0, 1, 6, lambda world: world.restart_broker(graceful=False)),
    "memory-alarm": (1.0, 1, 5, lambda world: world.alarm("memory")),
    "disk-alarm": (1.0, 1, 5, lambda world: world.alarm("disk")),
    "trickle": (1.0, 1, 8, lambda world: world.slow("trickle")),
    "delay": (1.0, 1, 8, lambda world: world.slow("delay")),
    "cut-after-publish": (0.3, 10, 0, lambda world: world.cut_at("publish", PUBLISH, before=False)),
    "cut-before-ack": (0.3, 10, 0, lambda world: world.cut_at("ack", ACK, before=True)),
    "forbid": (3.0, 2, 6, World.forbid),
    "remove-queue": (2.0, 3, 1, World.remove_queue),
    "disk-full": (1.0, 1, 8, World.fill_disk),
    "descriptors": (1.0, 2, 5, World.exhaust_descriptors),
    "clock": (1.0, 1, 6, World.step_clock),
}
"""Of each fault: the mean pause before it in seconds, how often it comes, how long it lasts, what it does."""
STANDARD = [*FAULTS, *cluster_faults.FAULTS, "mix"]
"""What is run where nothing is named."""


class _ClockStage(Stage):
    """Its daemons, and all that they start, see the wall clock that a file says: libfaketime, from Debian."""

    def env(self, **more: str) -> dict[str, str]:
        """The environment of a daemon."""
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        fake = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.directory / "clock"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        return super().env(**fake, **more)


@contextmanager
def _disk(directory: Path) -> Iterator[None]:
    """A small disk, where only root can make one."""
    directory.mkdir(mode=0o755)
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "taskqueue-faults", directory], check=True)
    try:
        yield
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", "--lazy", directory], check=True)


PROOFS: dict[str, Callable[[int, int | None], bool]] = {"delays": delays.prove, "poison": poison.prove}
"""Programs of their own, each with a broker and a number of workitems of its own: run only where they are named."""


@contextmanager
def _world(name: str, seed: int, broker: PrivateBroker, installation: Installation) -> Iterator[World]:
    vhost = f"{name}-{seed}"
    broker.add_vhost(vhost)
    broker.ctl("set_permissions", "-p", vhost, USER, ".*", ".*", ".*")
    disk = installation.prefix.parent / vhost
    kind = _ClockStage if name in {"clock", "mix"} else Stage
    with _disk(disk), Proxy(broker.port) as proxy:
        stage = kind(installation, disk / "stage", proxy.url(vhost, USER, PASSWORD))
        clock = stage.directory / "clock"
        clock.write_text("+0d\n")
        try:
            stage.site.install("ledger", PLUGIN)
            stage.configure(CONFIG)
            world = World(stage, broker, vhost, proxy, clock, random.Random(seed))
            world.start()
            try:
                yield world
            finally:
                world.end()
        finally:
            stage.close()
            for left in Path("/dev/shm").glob("*faketime_*"):
                if not Path("/proc", left.name.rpartition("_")[2]).exists():
                    left.unlink(missing_ok=True)


def run(name: str, seed: int, count: int | None, broker: PrivateBroker, installation: Installation) -> bool:
    """One fault, or the mix of all; whether nothing was lost and nothing unexpected came."""
    if name in PROOFS:
        return PROOFS[name](seed, count)
    count = count or 1500
    if name in cluster_faults.FAULTS:
        return cluster_faults.run(name, seed, count, installation)
    print(f"{name}: seed={seed} count={count}", flush=True)
    began = time.monotonic()
    with _world(name, seed, broker, installation) as world:
        chance = world.random
        names = list(FAULTS) if name == "mix" else [name]
        events = [(each, FAULTS[each]) for each in names for _ in range(1 if name == "mix" else FAULTS[each][1])]
        chance.shuffle(events)
        length_s = sum(pause + lasts for _, (pause, _, lasts, _) in events) + 3
        bodies = [(f"{name}-{number}", f"ledger {chance.choice((0, 1, 2, 5, 20))} {number}") for number in range(count)]
        load = Load(broker.url(f"{name}-{seed}"), bodies, rate=count / length_s)
        load.start()
        for _, (pause, _, _, act) in events:
            time.sleep(pause * chance.uniform(0.5, 1.5))  # the schedule
            act(world)
        out = load.wait(120, world.removals)
        load.stop()
        ledger = load.ledger
        held = world.held()
        if ledger.dead:
            print(f"    dead: {dict(ledger.reasons)}")
        if held:
            print(f"    left in queues: {held}")
        fine = out and not held and not ledger.lost and not ledger.unexpected and not ledger.dead
        if not fine or os.environ.get("SHOW_LOGS"):
            for daemon in (*world.dispatchers, *world.pools):
                print(f"--- log of {daemon.name}\n{daemon.tail()}")
    print(f"  {name}: {ledger.line()} seconds={time.monotonic() - began:.0f}", flush=True)
    for lost in sorted(ledger.lost)[:10]:
        print(f"    lost: {lost}")
    return fine


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="one or more, or mix; all by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, help="workitems of each run: 1500, or a proof's own number")
    parser.add_argument("--hours", type=float, default=0.0, help="repeat with the next seed for so long")
    parser.add_argument("--jobs", type=int, default=1, help="so many at a time, each with a broker of its own")
    parser.add_argument("--list", action="store_true", help="name the faults and exit")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join([*STANDARD, *PROOFS]))
        return 0
    unknown = set(arguments.faults) - {*STANDARD, *PROOFS}
    if unknown:
        parser.error(f"unknown fault: {', '.join(sorted(unknown))}; see --list")
    names = arguments.faults or STANDARD
    run_all = _in_turn if arguments.jobs == 1 else _side_by_side
    failed = run_all(names, arguments)
    print(f"faults: {'failed: ' + ', '.join(failed) if failed else 'nothing lost'}")
    return 1 if failed else 0


def _in_turn(names: list[str], arguments: argparse.Namespace) -> list[str]:
    """Run these faults one after the other; what failed."""
    processes.adopt_orphans()
    directory = Path(tempfile.mkdtemp(prefix="taskqueue-faults-", dir="/var/tmp"))
    directory.chmod(0o755)
    failed: list[str] = []
    ends = time.monotonic() + arguments.hours * 3600
    seed = arguments.seed
    try:
        installation = Installation(directory)
        with PrivateBroker(Path(".run/faults").absolute() / str(os.getpid())) as broker:
            broker.ctl("add_user", USER, PASSWORD)
            while True:
                for name in names:
                    if not run(name, seed, arguments.count, broker, installation):
                        failed.append(f"{name} (seed {seed})")
                seed += 1
                if time.monotonic() >= ends:
                    break
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(Path(".run/faults") / str(os.getpid()), ignore_errors=True)
    return failed


def _side_by_side(names: list[str], arguments: argparse.Namespace) -> list[str]:
    """Run these faults in processes of their own; what failed."""
    common = ["--seed", str(arguments.seed), "--hours", str(arguments.hours)]
    if arguments.count is not None:
        common += ["--count", str(arguments.count)]

    def one(name: str) -> bool | None:
        """Whether it was fine; None where it broke off, without a ledger."""
        command = [sys.executable, __file__, name, *common]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
        print("\n".join(line for line in ran.stdout.splitlines() if not line.startswith("faults: ")), flush=True)
        return ran.returncode == 0 if f"  {name}: published=" in ran.stdout else None

    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = dict(zip(names, pool.map(one, names), strict=True))
    for name in [name for name, fine in found.items() if fine is None]:
        print(f"faults: {name} broke off before there was a ledger (see above); once more, by itself", flush=True)
        found[name] = one(name)
    return [name for name, fine in found.items() if not fine]


if __name__ == "__main__":
    sys.exit(main())
