"""What was answered 2xx arrives, whatever is killed, stopped, or full meanwhile: counted at the target by task id."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker import PrivateBroker
from daemons import Daemon, Stage
from front_daemons import FrontDaemon, ask, health
from postgresql import PrivatePostgresql
from targets import Target
from waiting import wait_for

POOL = "[webhook]\ntargets: private\nconcurrency: 100\n"


class Load:
    """Clients that send tasks, and each again with its key until it is taken, until the end of the context."""

    def __init__(self, ports: list[int], url: str, name: str = "") -> None:
        self.ports, self.url = ports, url
        self.taken: dict[str, str] = {}
        """The id of each task that was answered 201, by its key."""
        self.other: list[tuple[int, float]] = []
        """The other answers: (status, seconds)."""
        self._ends = False
        self._name = name
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(6)]

    def _client(self, client: int) -> None:
        number = 0
        while not self._ends:
            number += 1
            key = f"{self._name}{client}-{number}"
            while key not in self.taken:
                self._try(key, self.ports[(client + number) % len(self.ports)])

    def _try(self, key: str, port: int) -> None:
        began = time.monotonic()
        try:
            status, task = ask(
                port, "POST", "/v1/queues/default/tasks", {"url": f"{self.url}/{key}"}, {"Idempotency-Key": key}
            )
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
            return
        if status == 201:
            self.taken[key] = task["id"]
        else:
            self.other.append((status, time.monotonic() - began))
            time.sleep(0.05)

    def more(self, count: int) -> None:
        """Return when that many more tasks were taken."""
        wanted = len(self.taken) + count
        wait_for(lambda: len(self.taken) >= wanted, 30, f"{count} more are taken", otherwise=lambda: self.other[-3:])

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: Any) -> None:
        self._ends = True
        for thread in self._threads:
            thread.join(60)


def all_arrive(load: Load, target: Target, deadline_s: float = 30.0) -> None:
    """Every task that was taken arrives, and nothing else does; hand-outs that vanished take 13 s."""
    assert len(set(load.taken.values())) == len(load.taken), "no two keys gave one task"
    wait_for(lambda: set(load.taken.values()) <= set(target.ids()), deadline_s, "all tasks arrived",
             otherwise=lambda: f"{len(set(load.taken.values()) - set(target.ids()))} of {len(load.taken)}")  # fmt: skip
    assert set(target.ids()) == set(load.taken.values()), "nothing was stored that nobody was told of, or twice"


@pytest.fixture
def target() -> Iterator[Target]:
    """A web daemon."""
    with Target() as made:
        yield made


@pytest.fixture
def front(request: pytest.FixtureRequest, stage: Stage) -> FrontDaemon:
    """A front with a pool of webhook workers; the pool runs, the front does not."""
    stage.site.install_webhook()
    made = FrontDaemon(stage, more=POOL)
    stage.start("webhook")
    return made


def second_front(front: FrontDaemon) -> tuple[Daemon, int]:
    """Another front on the same book; started. Gives it and its port."""
    from broker import free_ports

    (port,) = free_ports(1)
    config = front.stage.directory / "second.ini"
    config.write_text(f"[http]\nlisten: 127.0.0.1:{port}\nbook: {front.book}\n")
    daemon: Daemon = front.stage.another("http", "front2", arguments=["-f", "-c", config])
    daemon.start()
    daemon.logged("front started", 20)
    return daemon, port


@pytest.fixture
def database(postgresql: PrivatePostgresql) -> Iterator[str]:
    """An empty database of this test."""
    yield postgresql.make_database("lost")
    postgresql.drop_database("lost")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_front_that_is_killed_under_load(
    request: pytest.FixtureRequest, front: FrontDaemon, target: Target, kind: str
) -> None:
    if kind == "postgresql":
        front.book = request.getfixturevalue("database")
        front.configure(more=POOL)
    front.start()
    with Load([front.port], target.url) as load:
        for _ in range(3):
            load.more(100)
            front.daemon.send(signal.SIGKILL)
            assert front.daemon.wait() == -signal.SIGKILL
            front.start()
        load.more(50)
    all_arrive(load, target)
    assert front.daemon.stop() == 0


def test_a_broker_that_is_stopped_and_started(front: FrontDaemon, target: Target, broker: PrivateBroker) -> None:
    front.start()
    with Load([front.port], target.url) as load:
        # a quorum queue of RabbitMQ 3.10 that is younger than 2 s when its node is killed may never have a leader again
        began = time.monotonic()
        wait_for(lambda: time.monotonic() > began + 3, 5)
        broker.kill()
        try:
            load.more(100)
            status, document = ask(front.port, "GET", "/health/ready")
            assert status == 200 and document["broker"].startswith("down"), document
        finally:
            broker.start()
        front.daemon.logged("broker connected", 30, count=2)
        load.more(50)
    all_arrive(load, target, 60)
    assert front.daemon.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_postgresql_that_is_stopped_and_started(
    front: FrontDaemon, target: Target, postgresql: PrivatePostgresql, database: str, number: signal.Signals
) -> None:
    front.book = database
    front.configure(more=POOL)
    front.start()
    with Load([front.port], target.url) as load:
        load.more(100)
        postgresql.stop(number)
        try:
            wait_for(lambda: len(load.other) > 20, 10, "clients are told")
            began = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=10)
            connection.request("POST", "/v1/queues/default/tasks", '{"url": "http://127.0.0.1:9/"}',
                               {"Content-Type": "application/json"})  # fmt: skip
            answer = connection.getresponse()
            assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1
            connection.close()
            assert time.monotonic() - began < 1
            assert health(front.port) == 503
        finally:
            postgresql.start()
        load.more(100)
    assert {status for status, _took in load.other} == {503}
    assert max(took for _status, took in load.other) < 1.5, sorted(load.other)[-3:]
    all_arrive(load, target)
    assert "Traceback" not in front.daemon.log
    assert front.daemon.stop() == 0


def test_one_key_through_two_fronts_at_the_same_instant(front: FrontDaemon, database: str) -> None:
    front.book = database
    front.configure()
    front.start()
    second, port = second_front(front)
    answers: dict[tuple[int, int], tuple[int, Any]] = {}
    for number in range(200):
        barrier = threading.Barrier(2)

        def send(to: int, number: int = number, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            body = {"url": f"https://example.com/{number}", "delay": "1h"}
            answers[number, to] = ask(to, "POST", "/v1/queues/default/tasks", body, {"Idempotency-Key": f"k{number}"})

        threads = [threading.Thread(target=send, args=(to,)) for to in (front.port, port)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 400 and {status for status, _task in answers.values()} <= {200, 201, 409}
    for number in range(200):
        assert len({answers[number, to][1]["id"] for to in (front.port, port) if answers[number, to][0] != 409}) == 1
    status, document = ask(port, "GET", "/v1/queues/default")
    assert status == 200 and document["tasks"]["scheduled"] == 200, document
    assert second.stop() == front.daemon.stop() == 0


@pytest.mark.parametrize("how", ["killed", "stopped for 20 s"])
def test_a_front_that_is_gone_with_its_claims(front: FrontDaemon, target: Target, database: str, how: str) -> None:
    front.book = database
    front.configure(more=POOL)
    front.start()
    second, port = second_front(front)
    with Load([port], target.url) as load:
        load.more(300)
        front.daemon.send(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        gone = time.monotonic()
        load.more(100)
    before = dict(load.taken)
    wait_for(lambda: set(before.values()) <= set(target.ids()), 15, "all arrived", otherwise=front.daemon.tail)
    print(f"after {how}: all arrived within {time.monotonic() - gone:.1f} s")
    if how != "killed":
        time.sleep(max(0.0, 20 - (time.monotonic() - gone)))  # the named time is what is tested
        front.daemon.send(signal.SIGCONT)
        with Load([front.port, port], target.url, "after-") as after:
            after.more(100)
        load.taken |= after.taken
        assert front.daemon.stop() == 0
    all_arrive(load, target)
    assert second.stop() == 0


@pytest.mark.root_only
def test_a_disk_that_is_full(front: FrontDaemon, target: Target) -> None:
    disk = front.stage.directory / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0777", "none", disk], check=True)
    try:
        front.book = f"sqlite:{disk}/http.db"
        front.configure(more=POOL)
        front.start()
        with Load([front.port], target.url) as load:
            load.more(20)
            free = os.statvfs(disk)
            filler = Path(disk, "filler")
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                for _ in range(free.f_blocks):
                    file.write(b"x" * 4096)
            wait_for(lambda: len(load.other) > 20, 20, "the disk is full", otherwise=front.daemon.tail)
            assert health(front.port) == 503
            filler.unlink()
            load.more(50)
        assert {status for status, _took in load.other} == {503}
        all_arrive(load, target)
        wait_for(lambda: health(front.port) == 200, 5, "it is well")
        assert "Traceback" not in front.daemon.log
        assert front.daemon.stop() == 0
    finally:
        front.daemon.end()
        subprocess.run(["umount", disk], check=True)
