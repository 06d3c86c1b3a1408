"""Time limits, memory and max_tasks, against handlers that do what they can to escape them. What a soft limit can
interrupt, and what `max_memory` counts, is in docs/guarantees.rst, "Limits".
"""

from __future__ import annotations

import itertools
import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

import processes
from daemons import Stage
from waiting import wait_for

PLUGIN = """
    import asyncio
    import ctypes
    import hashlib
    import mmap
    import os
    import re
    import signal
    import subprocess
    import sys
    import threading
    import time
    from taskqueue.worker import BaseWorker, SoftTimeLimitExceeded

    libc = ctypes.PyDLL(None)  # PyDLL: unlike CDLL it keeps the GIL

    def note(*pids):
        with open("SCRATCH/started", "a") as file:
            file.writelines(f"{pid}\\n" for pid in pids)

    def wait_in_c():
        "For ever, with the GIL held; pthread_mutex_lock(3) goes on waiting after a signal."
        lock = ctypes.create_string_buffer(64)
        libc.pthread_mutex_lock(lock)
        libc.pthread_mutex_lock(lock)

    def daemonise():
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                note(os.getpid())
                os.closerange(0, 1024)
                signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
                time.sleep(600)
            os._exit(0)
        os.wait()

    def fill(kept):
        while True:
            kept.append(bytearray(200))

    STUBBORN = ["/bin/sh", "-c", "trap '' TERM INT HUP; while :; do sleep 600; done"]

    class Slow(Exception):
        def __str__(self):
            time.sleep(600)

    class Worker(BaseWorker):
        def handle_task(self, body):
            exec(body, globals() | {"self": self, "result": self.__dict__})
            return self.__dict__.pop("said", os.getpid())

    class Async(BaseWorker):
        async def handle_task(self, body):
            what, seconds = body.split()
            if what == "block":
                time.sleep(float(seconds))
            await asyncio.sleep(float(seconds))
            return os.getpid()
"""

CONFIG = """
[DEFAULT]
max_crashes: 1

[soft]
soft_time_limit: 300ms

[hard]
soft_time_limit: 200ms
time_limit: 1s

[family]
time_limit: 3s

[ahard]
soft_time_limit: 200ms
time_limit: 1s
concurrency: 2

[memory]
max_memory: 256M

[one]
max_tasks: 1
"""

_numbers = itertools.count(1)

GROUPS = ("soft", "hard", "family", "ahard", "memory", "one")

NO_CGROUP = (
    *("unshare", "--mount", "--propagation=private", *(() if os.geteuid() == 0 else ("--user", "--map-current-user"))),
    *("sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "sh"),
)
"""In front of a command: the command sees no cgroup, and cannot make one."""


@pytest.fixture(scope="module")
def stage(shared_stage: Stage) -> Stage:
    """One pool with all kinds of limits; `max_memory` is by RLIMIT_DATA, also on a host that has cgroup v2 for it."""
    source = PLUGIN.replace("SCRATCH", str(shared_stage.scratch))
    for worker_type in GROUPS:
        shared_stage.site.install(worker_type, source, entry="Async" if worker_type == "ahard" else "Worker")
    shared_stage.configure(CONFIG)
    shared_stage.start(*GROUPS)
    if shared_stage.pool.generation("memory")["max_memory_by"] == "cgroup v2":
        shared_stage.pool.logged("max_memory in force: group=memory by=cgroup v2")
        assert shared_stage.pool.stop() == 0
        shared_stage.pool.command[:0] = NO_CGROUP
        shared_stage.pool.start()
        shared_stage.pool.wait_running(*GROUPS)
    return shared_stage


@pytest.fixture(autouse=True)
def clean(stage: Stage) -> Iterator[None]:
    """What a test that failed has left is not the next one's."""
    yield
    stage.amqp.drain(*(f"worker_{group}" for group in GROUPS), "results", "taskqueue_dead")


def run(stage: Stage, group: str, code: str, error_type: str = "") -> str:
    """Run `code` in a worker of `group`, once; it ends with this error, or successfully where none is named.

    Gives the result, or the dead letter's detail.
    """
    message_id = f"m{next(_numbers)}"
    stage.amqp.submit(f"{group} {textwrap.dedent(code).strip()}", message_id=message_id)
    message = stage.amqp.take_for(message_id, deadline_s=20)
    status = "error" if error_type else "success"
    assert (message.headers["status"], message.headers.get("error_type", "")) == (status, error_type), message
    assert message.headers["attempt"] == 1
    if status == "success":
        return message.text
    return str(stage.amqp.take_for(message_id, "taskqueue_dead").headers["x-dead-detail"])


@dataclass(frozen=True)
class Case:
    """What a handler of `group` does, what becomes of it, and of the next workitem."""

    group: str
    what: str
    code: str
    error_type: str = ""
    """Of the result; none where the handler succeeds."""
    detail: str = ""
    """The dead letter's detail, as a regular expression for all of it."""
    killed: bool = False
    """Whether the worker dies, with all that it has started."""
    after: str = "pass"
    """What the next handler does: in the same worker, unless that was killed."""
    error_type_after: str = ""

    def __str__(self) -> str:
        return f"{self.group}: {self.what}"


def cases(
    group: str, codes: Mapping[str, str], error_type: str = "", detail: str = "", **rest: Any
) -> tuple[Case, ...]:
    """A case for each of `codes`, which all have the same outcome."""
    return tuple(Case(group, what, code, error_type, detail, **rest) for what, code in codes.items())


INTERRUPTED = {
    "in a loop": "while True: pass",
    "in time.sleep": "time.sleep(600)",
    "in a catastrophic re.match": "re.match('(a*)*b', 'a' * 1000)",
    "in a huge power": "pow(7, 10 ** 9)",
    "in a sleep(3) that holds the GIL": "while libc.sleep(600): pass",
    "waiting for a child": "subprocess.run(STUBBORN)",
    "waiting for a thread": "t = threading.Thread(target=time.sleep, args=[600], daemon=True); t.start(); t.join()",
    "waiting for a lock": "l = threading.Lock(); l.acquire(); l.acquire()",
    "reading a pipe": "os.read(os.pipe()[0], 1)",
}

SPOILS_THE_NEXT_LIMIT = {
    "ignores SIGALRM": "signal.signal(signal.SIGALRM, signal.SIG_IGN)",
    "takes SIGALRM": "signal.signal(signal.SIGALRM, lambda *_: None)",
    "blocks all signals": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
    "stops the timer": "signal.setitimer(signal.ITIMER_REAL, 0)",
    "starts its own": "signal.setitimer(signal.ITIMER_REAL, 3600, 3600)",
    "sets a wake-up descriptor": "signal.set_wakeup_fd(os.open('/dev/null', os.O_WRONLY | os.O_NONBLOCK))",
}

KILLED = {
    "waits in C and holds the GIL": "wait_in_c()",
    "computes in C": "hashlib.pbkdf2_hmac('sha512', b'', b'', 10 ** 9)",
    "takes the soft limit for an error like others": """
        while True:
            try:
                time.sleep(600)
            except Exception:
                pass
    """,
    "blocks all signals": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(600)",
    "ignores all signals": """
        for number in signal.valid_signals() - {9, 19, 32, 33}:
            signal.signal(number, signal.SIG_IGN)
        time.sleep(600)
    """,
    "stops itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "stops its group": "os.killpg(0, signal.SIGSTOP)",
    "leaves the GIL to a thread that waits in C": "threading.Thread(target=wait_in_c).start()",
    "raises what is never printed": "raise Slow",
}

STARTED = {
    "a child that ignores SIGTERM": """
        child = subprocess.Popen(STUBBORN)
        note(child.pid)
        wait_in_c()
    """,
    "a child in a session of its own": """
        child = subprocess.Popen(STUBBORN, start_new_session=True)
        note(child.pid)
        wait_in_c()
    """,
    "a daemon, with all signals blocked": "daemonise(); wait_in_c()",
    "a daemon with an empty environment": """
        script = "setsid sleep 600 <&- >&- 2>&- & echo $! >>SCRATCH/started"
        subprocess.run(["/bin/sh", "-c", script], env={}, check=True)
        wait_in_c()
    """,
    "a hundred children": """
        for _ in range(100):
            note(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
        wait_in_c()
    """,
}

TOO_MUCH = {
    "in one piece": "bytearray(1 << 30)",
    "in small pieces": "fill([])",
    "in an attribute": "self.kept = []; fill(self.kept)",
    "in a private mapping": "mmap.mmap(-1, 1 << 30, mmap.MAP_PRIVATE)",
}

NOT_COUNTED = {
    "shared memory": "mmap.mmap(-1, 1 << 30)",
    "a file": "f = open(sys.executable, 'rb'); [mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) for _ in range(100)]",
    "what children take": """
        code = "kept = bytearray(150 << 20); import sys; sys.stdin.read()"
        children = [subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) for _ in range(3)]
        assert [child.communicate(b"") and child.returncode for child in children] == [0, 0, 0]
    """,
    "an error that is handled": """
        try:
            bytearray(1 << 30)
        except MemoryError:
            pass
    """,
}

SOFT, HARD = "SoftTimeLimitExceeded", "TimeLimitExceeded"
IN_A_CHILD = "subprocess.run([sys.executable, '-c', 'bytearray(1 << 30)'], check=True)"
RAISED = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))"

CASES = (
    *cases("soft", INTERRUPTED, SOFT, ".*soft_time_limit of 0[.]3 s is over.*", after="time.sleep(0.01)"),
    *cases("soft", SPOILS_THE_NEXT_LIMIT, after="time.sleep(600)", error_type_after=SOFT),
    *cases("hard", KILLED, HARD, "time_limit of 1 s is over", killed=True),
    *cases("family", STARTED, HARD, "time_limit of 3 s is over", killed=True),
    *cases("memory", TOO_MUCH, "WorkerCrashed", ".*memory.*", killed=True, after="bytearray(100 << 20)"),
    *cases("memory", NOT_COUNTED),
    Case("memory", "has a child that takes too much", IN_A_CHILD, "CalledProcessError", ".*CalledProcessError.*"),
    Case("memory", "raises its limit", RAISED, "ValueError", ".*ValueError.*"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_limit_for_a_handler_that(stage: Stage, case: Case) -> None:
    worker = stage.pool.only_worker(case.group)
    before = len(stage.output("started"))
    outcome = run(stage, case.group, case.code.replace("SCRATCH", str(stage.scratch)), case.error_type)
    assert re.fullmatch(case.detail, outcome, re.DOTALL) if case.error_type else outcome == str(worker), outcome
    started = {int(pid) for pid in stage.output("started")[before:]}
    assert bool(started) == (case.group == "family"), "only the test's own children are looked for"
    if case.killed:
        processes.wait_gone({worker, *started})
    outcome = run(stage, case.group, case.after, case.error_type_after)
    serving = stage.pool.only_worker(case.group)
    assert case.error_type_after or outcome == str(serving)
    assert (serving == worker) == (not case.killed)


def test_the_time_limit_of_coroutines(stage: Stage) -> None:
    """One that blocks the loop is killed, and its neighbour runs again; one that awaits hears the soft limit."""
    worker = stage.pool.only_worker("ahard")
    stage.amqp.submit("ahard await 600", message_id="awaits")
    message = stage.amqp.take_for("awaits")
    assert message.headers["error_type"] == "SoftTimeLimitExceeded"
    stage.amqp.take_for("awaits", "taskqueue_dead")
    assert stage.pool.only_worker("ahard") == worker
    stage.amqp.submit("ahard block 600", message_id="blocks")
    wait_for(lambda: stage.pool.running_task("ahard", "blocks"), 5, "it runs")
    message = stage.amqp.take_for("blocks")
    assert (message.headers["error_type"], message.headers["attempt"]) == ("TimeLimitExceeded", 1)
    assert stage.amqp.take_for("blocks", "taskqueue_dead").headers["x-dead-reason"] == "timeout"
    assert stage.pool.only_worker("ahard") != worker


def test_the_mechanism_of_max_memory_is_said(stage: Stage) -> None:
    """Here RLIMIT_DATA; by cgroup v2 in tests/system/cgroup_vm.py."""
    assert stage.pool.generation("memory")["max_memory_by"] == "RLIMIT_DATA"
    stage.pool.logged("max_memory in force: group=memory by=RLIMIT_DATA")
    assert stage.pool.generation("soft")["max_memory_by"] is None


def test_max_tasks_ends_a_worker_whatever_it_has_started(stage: Stage) -> None:
    for number in range(3):
        worker = stage.pool.only_worker("one")
        code = f"threading.Thread(target=time.sleep, args=[600]).start(); daemonise() # {number}"
        assert run(stage, "one", code) == str(worker)
        processes.wait_gone({worker, *map(int, stage.output("started"))})
