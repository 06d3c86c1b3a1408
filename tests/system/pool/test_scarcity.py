"""What a host or an operator takes away while work goes on: log space, descriptors, the queue itself."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import processes
from daemons import Daemon, Stage
from waiting import wait_for

CHATTER = """
    import time
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            print("x" * 400)
            time.sleep(float(body))
            return body
"""


@contextlib.contextmanager
def unread_log(daemon: Daemon) -> Iterator[int]:
    """Its log is a pipe, kept open by us; gives the end to read from."""
    path = Path(daemon._log)
    path.unlink()
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 8192)
    try:
        yield fd
    finally:
        path.unlink()
        path.touch()
        os.close(fd)


def test_a_log_that_nobody_reads(stage: Stage) -> None:
    """`taskqueue-workerpool -f | something that hangs`: work goes on, and the log says what it has lost."""
    stage.site.install("chatter", CHATTER)
    stage.configure("[amqp]\nheartbeat: 4\n[chatter]\nworkers: 2\n")
    with unread_log(stage.pool) as log:
        stage.start("chatter")
        expected = {f"unread-{number}" for number in range(600)}  # they print more than all pipes hold
        for name in expected:
            stage.amqp.submit("chatter 0", message_id=name)
        assert {message.headers["task_id"] for message in stage.amqp.take_many("results", 600)} == expected
        assert set(stage.pool.pids("chatter")), "the pool answers"

        def said_so() -> bool:
            stage.amqp.submit("chatter 0")
            stage.amqp.take("results")
            with contextlib.suppress(BlockingIOError):
                return b"log lines lost: count=" in os.read(log, 100_000)
            return False

        wait_for(said_so, 10, "the loss is told")
        assert stage.pool.stop() == 0


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
def test_a_deleted_queue_takes_nothing_that_was_delivered(stage: Stage, queue_type: str) -> None:
    stage.site.install("chatter", CHATTER)
    stage.configure(f"[amqp]\nqueue_type: {queue_type}\n[chatter]\nprefetch: 6\n")
    stage.start("chatter")
    for number in range(6):
        stage.amqp.submit("chatter 0.3", message_id=f"held-{number}")
    wait_for(
        lambda: stage.pool.generation("chatter")["waiting"] == 4,
        10,
        "all are delivered",
        otherwise=stage.pool.tail,
    )
    assert stage.amqp.delete("worker_chatter") == 0
    stage.amqp.submit("chatter 0", message_id="after")
    ids = {message.headers["task_id"] for message in stage.amqp.take_many("results", 7)}
    assert ids == {"after", *(f"held-{number}" for number in range(6))}
    assert len(stage.pool.logged("broker cancelled the consumer")) == 1
    stage.amqp.submit("chatter 0", message_id="as-before")
    assert stage.amqp.take("results").headers["attempt"] == 1


def test_more_workers_than_the_usual_limit_has_descriptors_for(stage: Stage) -> None:
    stage.site.install("chatter", CHATTER)
    stage.configure("[chatter]\nworkers: 30\n")
    limited = stage.another("workerpool", "limited", prefix=["prlimit", "--nofile=48:4096"])
    limited.start()
    limited.wait_running("chatter")
    for pid in limited.pids("chatter"):
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert "Max open files            48                   4096" in limits, "a plugin may use select(2)"


def test_no_descriptor_left_for_a_new_worker(stage: Stage) -> None:
    """The template says so and tries again; the workers that are there work on."""
    stage.site.install("chatter", CHATTER)
    stage.configure("[chatter]\nworkers: 2\n")
    stage.start("chatter")
    template = stage.pool.helper("chatter", "template")
    victim, other = stage.pool.pids("chatter")
    limit_descriptors(template, len(list(Path(f"/proc/{template}/fd").iterdir())) - 3)
    processes.kill(victim)
    stage.pool.logged(r"worker not started: group=chatter reason=.*Too many open files next_try_in=")
    stage.amqp.submit("chatter 0")
    assert stage.amqp.take("results").headers["status"] == "success"
    assert stage.pool.pids("chatter") == {other}
    limit_descriptors(template, 1024)
    stage.pool.wait_running("chatter")
    assert stage.pool.helper("chatter", "template") == template
    assert "Traceback" not in stage.pool.log


def limit_descriptors(pid: int, count: int) -> None:
    """As the user that `pid` runs as: a container's root may lack CAP_SYS_RESOURCE."""
    owner = Path(f"/proc/{pid}").stat()
    command = ["prlimit", f"--pid={pid}", f"--nofile={count}:"]
    subprocess.run(command, user=owner.st_uid, group=owner.st_gid, extra_groups=[], check=True)
