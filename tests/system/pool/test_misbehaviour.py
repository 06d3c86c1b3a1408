"""Plugins that misbehave, each in its way, under the real pool: what becomes of the workitem, of the worker, of the
next workitem. The outcomes are those of docs/guarantees.rst, "What a plugin does".
"""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import processes
from daemons import Stage
from waiting import wait_for

MB = 1_000_000

IMPORTS = """
    import array
    import asyncio
    import builtins
    import gc
    import itertools
    import json
    import locale
    import logging
    import multiprocessing
    import os
    import resource
    import signal
    import socket
    import subprocess
    import sys
    import threading
    import time
    import warnings
    from concurrent.futures import ThreadPoolExecutor
    from os import getcwd, getpid
    from taskqueue.worker import BaseWorker, Reject, Retry, SoftTimeLimitExceeded

    def note(pid):
        with open("SCRATCH/children", "a") as file:
            file.write(f"{pid}\\n")

    def sleep_for_ever():
        while True:
            time.sleep(600)

    class Unprintable(Exception):
        def __init__(self, say):
            self.say = say

        def __str__(self):
            return self.say()

        __repr__ = __str__

    def deep(frames):
        if frames == 0:
            raise ValueError("at the bottom")
        deep(frames - 1)

    class Forever(BaseException):
        pass

    class Busy(Retry):
        def __init__(self):
            pass

    class Nameless(type):
        @property
        def __name__(cls):
            raise RuntimeError("no name")

    class NoName(Exception, metaclass=Nameless):
        pass

    class NotText(str):
        def encode(self, *arguments):
            sys.exit("no")

    def links():
        for name in os.listdir("/proc/self/fd"):
            try:
                link = socket.socket(fileno=os.dup(int(name)))
            except OSError:
                continue
            if link.type == socket.SOCK_SEQPACKET:
                yield link
"""

SYNC = """
    class Worker(BaseWorker):
        def handle_task(self, body):
            return getattr(self, body)()

        def good(self):
            return {"pid": getpid(), "cwd": getcwd()}
"""

ASYNC = """
    class Worker(BaseWorker):
        async def handle_task(self, body):
            return await getattr(self, body)()

        async def good(self):
            return {"pid": getpid(), "cwd": getcwd()}
"""


@dataclass(frozen=True)
class Case:
    """What a handler does, and what happens then."""

    title: str
    code: str
    result: Any = None
    """Of a handler that succeeds all the same, as JSON."""
    raised: str | None = None
    """`error_type` of one that fails; the worker lives on."""
    died: str | None = None
    """What is said of one whose worker dies; it is replaced."""

    def __str__(self) -> str:
        return self.title

    @property
    def name(self) -> str:
        """As a method."""
        return "do_" + re.sub(r"\W+", "_", self.title)


def succeeds(title: str, code: str, result: Any = "done") -> Case:
    return Case(title, code, result=result)


def fails(title: str, error_type: str, code: str) -> Case:
    return Case(title, code, raised=error_type)


def dies(title: str, how: str, code: str) -> Case:
    return Case(title, code, died=how)


RETURNS = (
    fails("returns a generator", "TypeError", "return (number for number in range(3))"),
    fails("returns a coroutine", "TypeError", "return asyncio.sleep(0)"),
    fails("returns an open file", "TypeError", "return open('/dev/null')"),
    fails("returns NaN", "ValueError", "return float('nan')"),
    fails("returns a dict with tuples for keys", "TypeError", "return {(1, 2): 3}"),
    succeeds("returns a dict with numbers for keys", "return {1: 2, None: 3}", {"1": 2, "null": 3}),
    fails("returns a circular list", "ValueError", "circle = []; circle.append(circle); return circle"),
    fails("returns a list that is 100,000 deep", "RecursionError", """
        nested = []
        for _ in range(100_000):
            nested = [nested]
        return nested
    """),
    fails("returns a lone surrogate", "UnicodeEncodeError", "return '\\ud800'"),
    succeeds("returns a lone surrogate in a list", "return ['\\ud800']", ["\ud800"]),
    fails("returns an integer of 10,000 digits", "ValueError", "return 1 << 33_220"),
    fails("returns text that exits when it is encoded", "SystemExit", "return NotText('x')"),
    fails("returns 100 MB", "ValueError", "return bytes(100_000_000)"),
    fails("returns 100 MB of JSON", "ValueError", "return ['x' * 1_000_000] * 100"),
)  # fmt: skip

RAISES = (
    fails("raises with a message of 100 MB", "ValueError", "raise ValueError('x' * 100_000_000)"),
    fails("raises with a note of 100 MB", "ValueError",
          "error = ValueError('x'); error.add_note('x' * 100_000_000); raise error"),
    fails("rejects with 100 MB", "Reject", "raise Reject('x' * 100_000_000)"),
    fails("raises what raises when it is printed", "Unprintable", "raise Unprintable(lambda: 1 / 0)"),
    fails("raises what is printed as a number", "Unprintable", "raise Unprintable(lambda: 5)"),
    fails("raises what exits when it is printed", "Unprintable", "raise Unprintable(lambda: sys.exit(0))"),
    fails("raises what is interrupted when it is printed", "Unprintable",
          "raise Unprintable(lambda: signal.default_int_handler(2, None))"),
    fails("raises from 100,000 frames deep", "ValueError", "sys.setrecursionlimit(200_000); deep(100_000)"),
    fails("raises with 100,000 causes", "ValueError", """
        error = None
        for number in range(100_000):
            error, cause = ValueError(number), error
            error.__cause__ = cause
        raise error
    """),
    fails("raises 5,000 groups in each other", "ExceptionGroup", """
        error = ValueError("innermost")
        for number in range(5_000):
            error = ExceptionGroup(str(number), [error])
        raise error
    """),
    fails("raises what cannot be pickled", "Local", """
        class Local(Exception):
            pass
        raise Local(lambda: 0, open("/dev/null"))
    """),
    fails("raises an exception of a class without a name", "NoName", "raise NoName"),
    fails("raises a BaseException of its own", "Forever", "raise Forever"),
    fails("raises KeyboardInterrupt", "KeyboardInterrupt", "raise KeyboardInterrupt"),
    fails("raises GeneratorExit", "GeneratorExit", "raise GeneratorExit"),
    fails("raises StopIteration", "StopIteration", "raise StopIteration(5)"),
    fails("raises CancelledError", "CancelledError", "raise asyncio.CancelledError"),
    fails("calls sys.exit(0)", "SystemExit", "sys.exit(0)"),
    fails("calls sys.exit(1)", "SystemExit", "sys.exit(1)"),
    fails("calls sys.exit('text')", "SystemExit", "sys.exit('text')"),
    fails("raises a MemoryError without max_memory", "MemoryError", "raise MemoryError"),
)  # fmt: skip

DIES = (
    dies("calls os._exit(0)", "status 0", "os._exit(0)"),
    dies("calls os._exit(3)", "status 3", "os._exit(3)"),
    dies("kills itself", "signal SIGKILL", "os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)"),
    dies("aborts", "signal SIGABRT", "os.abort()"),
    dies("takes a signal that it does not handle", "signal SIGUSR1",
         "os.kill(os.getpid(), signal.SIGUSR1); time.sleep(60)"),
    dies("sets an alarm", "signal SIGALRM", "signal.alarm(1); time.sleep(60)"),
    dies("closes all descriptors", "lost its link", "os.closerange(3, 1024)"),
    dies("closes all descriptors and opens files", "lost its link", """
        os.closerange(3, 1024)
        self.kept = [open("/dev/null", "r+b", 0) for _ in range(64)]
    """),
    dies("closes all descriptors and opens links of its own", "lost its link", """
        os.closerange(3, 1024)
        self.kept = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(64)]
    """),
    dies("has no descriptor left for a large result", "lost its link", """
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        return "x" * 1_000_000
    """),
    dies("writes to the link", "broke the protocol", """
        for link in links():
            link.send(b"this is no packet")
        time.sleep(60)
    """),
    dies("writes a packet of 100 MB to the link", "broke the protocol", """
        large = os.memfd_create("large")
        os.truncate(large, 100_000_000)
        for link in links():
            link.sendmsg([bytes([1, 0, 0, 0, 10])], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [large]))])
        time.sleep(60)
    """),
)  # fmt: skip

LEAVES = (
    succeeds("changes the working directory", "os.chdir('/tmp'); return os.getcwd()", "/tmp"),
    succeeds("removes its working directory", """
        os.mkdir("SCRATCH/gone")
        os.chdir("SCRATCH/gone")
        os.rmdir("SCRATCH/gone")
        return "done"
    """),
    succeeds("closes its standard streams", "os.close(0); os.close(1); os.close(2); return 'done'"),
    succeeds("replaces its standard streams", "sys.stdout = sys.stderr = sys.stdin = None; return 'done'"),
    succeeds("forks a child that sleeps", """
        child = os.fork()
        if child == 0:
            sleep_for_ever()
        note(child)
        return "done"
    """),
    succeeds("forks a child that returns too", """
        child = os.fork()
        note(child)
        return "done"
    """),
    fails("forks a child that raises too", "ValueError", """
        child = os.fork()
        note(child)
        raise ValueError
    """),
    succeeds("forks a child that nobody waits for", """
        child = os.fork()
        if child == 0:
            os._exit(0)
        note(child)
        return "done"
    """),
    succeeds("forks a daemon", """
        if os.fork() == 0:
            os.setsid()
            os.chdir("/")
            if os.fork() == 0:
                os.closerange(0, 1024)
                note(os.getpid())
                sleep_for_ever()
            os._exit(0)
        os.wait()
        return "done"
    """),
    succeeds("starts a daemon with an empty environment", """
        script = "setsid sleep 600 <&- >&- 2>&- & echo $! >>SCRATCH/children"
        subprocess.run(["/bin/sh", "-c", script], env={}, check=True)
        return "done"
    """),
    succeeds("starts a process with multiprocessing", """
        process = multiprocessing.get_context("fork").Process(target=sleep_for_ever)
        process.start()
        note(process.pid)
        return "done"
    """),
    succeeds("starts threads that never end", """
        for daemon in (True, False):
            threading.Thread(target=sleep_for_ever, daemon=daemon).start()
        ThreadPoolExecutor(1).submit(sleep_for_ever)
        return "done"
    """),
    succeeds("ignores every signal", """
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, 32, 33}:
            signal.signal(number, signal.SIG_IGN)
        return "done"
    """),
    succeeds("blocks every signal", "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); return 'done'"),
    succeeds("sets a wake-up descriptor", "signal.set_wakeup_fd(os.open('/dev/null', 2049)); return 'done'"),
    succeeds("leaves an alarm behind", "signal.setitimer(signal.ITIMER_REAL, 0.001); return 'done'"),
    succeeds("sets the umask", "os.umask(0o777); return 'done'"),
    succeeds("empties its environment", "os.environ.clear(); return 'done'"),
    succeeds("sets the locale", "locale.setlocale(locale.LC_ALL, 'C'); return 'done'"),
    succeeds("takes all descriptors from itself",
             "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); return 'done'"),
    succeeds("lowers the recursion limit", """
        depth = len(__import__("traceback").extract_stack())
        sys.setrecursionlimit(depth + 5)
        return "done"
    """),
    succeeds("turns the garbage collector off", "gc.disable(); return 'done'"),
    fails("makes a session", "PermissionError", "os.setsid()"),
    succeeds("patches json", "json.dumps = json.loads = json.JSONEncoder = None; return ['done']", ["done"]),
    succeeds("patches sockets", """
        socket.socket = socket.socketpair = socket.fromfd = None
        return "done"
    """),
    succeeds("patches the clock", "time.time = time.monotonic = time.sleep = lambda *_: 0.0; return 'done'"),
    succeeds("patches os", "os.fork = os._exit = os.getpid = os.kill = lambda *_: 0; return 'done'"),
    succeeds("patches builtins", "builtins.print = builtins.open = None; return 'done'"),
    succeeds("forgets all modules", "sys.modules.clear(); return 'done'"),
    succeeds("turns warnings into errors", "warnings.simplefilter('error'); return 'done'"),
    succeeds("shuts logging down", "logging.shutdown(); logging.disable(); return 'done'"),
)  # fmt: skip

PRINTS = (
    succeeds("prints 100 MB in lines", """
        for _ in range(100):
            print(("x" * 99 + "\\n") * 10_000)
        return "done"
    """),
    succeeds("prints 100 MB in one line", """
        for _ in range(100):
            print("x" * 1_000_000, end="", file=sys.stderr)
        return "done"
    """),
    succeeds("has a child print 100 MB", """
        subprocess.run("yes | head -c 100000000", shell=True, check=True)
        return "done"
    """),
    succeeds("logs 100 MB", "self.log.info('x' * 100_000_000); return 'done'"),
)  # fmt: skip

ASYNC_CASES = (
    fails("returns NaN", "ValueError", "return float('nan')"),
    fails("raises KeyboardInterrupt", "KeyboardInterrupt", "raise KeyboardInterrupt"),
    fails("raises GeneratorExit", "GeneratorExit", "raise GeneratorExit"),
    fails("raises CancelledError", "CancelledError", "raise asyncio.CancelledError"),
    fails("calls sys.exit(0)", "SystemExit", "sys.exit(0)"),
    dies("calls os._exit(0)", "status 0", "os._exit(0)"),
    dies("raises KeyboardInterrupt in a task of its own", "status 1", """
        async def interrupt():
            raise KeyboardInterrupt
        await asyncio.gather(interrupt())
    """),
    dies("closes all descriptors", "lost its link", "os.closerange(3, 1024); return 'done'"),
    dies("closes all descriptors and waits", "status 1", "os.closerange(3, 1024); await asyncio.sleep(0.1)"),
    dies("stops the loop", "status 1", "asyncio.get_running_loop().stop(); await asyncio.sleep(600)"),
    dies("cancels all tasks", "status 1", """
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(600)
    """),
    succeeds("forks a child that returns too", "note(os.fork()); return 'done'"),
    succeeds("leaves tasks that will not be cancelled", """
        async def stubborn():
            while True:
                try:
                    await asyncio.sleep(600)
                except asyncio.CancelledError:
                    pass
        self.kept = asyncio.create_task(stubborn())
        return "done"
    """),
    succeeds("leaves threads that never end", """
        self.kept = asyncio.create_task(asyncio.to_thread(sleep_for_ever))
        await asyncio.sleep(0)
        return "done"
    """),
    succeeds("changes the working directory", "os.chdir('/tmp'); return os.getcwd()", "/tmp"),
)  # fmt: skip

ALL = (*RETURNS, *RAISES, *DIES, *LEAVES, *PRINTS)

LOUD = """
    import sys
    import threading
    import time
    from taskqueue.worker import BaseWorker

    for _ in range(100):
        print("x" * 999_999)
    for daemon in (True, False):
        threading.Thread(target=time.sleep, args=[100_000], daemon=daemon).start()

    class Worker(BaseWorker):
        def handle_task(self, body):
            return threading.active_count()
"""

MUTE = """
    import os
    os._exit(0)
"""

CRASH = """
    import ctypes
    ctypes.string_at(0)
"""

TEARDOWN = """
    import sys
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            self.do = body
            return "done"

        def teardown(self):
            exec(self.do)
"""


def source(frame: str, cases: tuple[Case, ...], scratch: object) -> str:
    """A plugin whose handler does what the body names."""
    kind = "async def" if frame is ASYNC else "def"
    methods = "".join(
        f"\n    {kind} {case.name}(self):\n{textwrap.indent(textwrap.dedent(case.code).strip(), ' ' * 8)}\n"
        for case in cases
    )
    text = textwrap.dedent(IMPORTS) + "\n" + textwrap.dedent(frame) + methods
    return text.replace("SCRATCH", str(scratch))


CONFIG = """
[DEFAULT]
max_crashes: 1

[bad]
max_tasks: 2

[abad]
max_tasks: 2
concurrency: 2

[teardown]
max_tasks: 1
"""


@pytest.fixture(scope="module")
def stage(shared_stage: Stage) -> Stage:
    """One pool. Each case finds a worker that has run nothing, and after a good workitem `max_tasks` ends it."""
    site = shared_stage.site
    site.install("bad", source(SYNC, ALL, shared_stage.scratch))
    site.install("abad", source(ASYNC, ASYNC_CASES, shared_stage.scratch))
    for worker_type, text in (("loud", LOUD), ("mute", MUTE), ("crash", CRASH), ("teardown", TEARDOWN)):
        site.install(worker_type, text)
    shared_stage.configure(CONFIG)
    shared_stage.start("bad", "abad", "loud", "teardown")
    return shared_stage


@pytest.fixture(autouse=True)
def clean(stage: Stage) -> Iterator[None]:
    """What a test that failed has left is not the next one's."""
    yield
    stage.amqp.drain("worker_bad", "worker_abad", "results", "taskqueue_dead")


def helpers(stage: Stage, group: str) -> set[int]:
    return {stage.pool.helper(group, role) for role in ("listener", "template")}


def misbehave(stage: Stage, group: str, case: Case) -> None:
    """Let a worker of `group` do what `case` says: its outcome comes, and good workitems run as if nothing had been."""
    worker, before = stage.pool.only_worker(group), helpers(stage, group)
    stage.amqp.submit(f"{group} {case.name}", message_id=case.title)
    message = stage.amqp.take_for(case.title, deadline_s=60)
    if case.raised is None and case.died is None:
        assert message.headers["status"] == "success", message
        assert (message.text if isinstance(case.result, str) else message.json()) == case.result
    else:
        assert (message.headers["status"], message.headers["attempt"]) == ("error", 1), message
        assert message.headers["error_type"] == (case.raised or "WorkerCrashed"), message
        assert len(message.body) < 100_000
        dead = stage.amqp.take_for(case.title, "taskqueue_dead")
        reason = {"WorkerCrashed": "crashed", "Reject": "rejected"}.get(message.headers["error_type"], "failed")
        assert dead.headers["x-dead-reason"] == reason
        assert (case.died or "") in dead.headers["x-dead-detail"]
    for number in range(2 if case.died else 1):  # the last that this worker, or its successor, may run
        good = f"good {number} after {case.title}"
        stage.amqp.submit(f"{group} good", message_id=good)
        said = stage.amqp.take_for(good)
        assert (said.headers["status"], said.headers["attempt"]) == ("success", 1), "nobody else is blamed"
        assert said.json()["cwd"] == "/"
        assert (said.json()["pid"] == worker) == (case.died is None)
    processes.wait_gone({worker, *map(int, stage.output("children"))} - {0})  # with all that it has started
    stage.pool.wait_running(group)
    assert helpers(stage, group) == before
    assert stage.amqp.take_now("results") is None and stage.amqp.take_now("taskqueue_dead") is None
    for pid in before:
        assert int(processes.status(pid)["VmHWM"].split()[0]) < 150_000, "kB that a helper has ever had in memory"


@pytest.mark.parametrize(
    ("group", "case"),
    [
        *(pytest.param("bad", case, id=f"handler that {case}") for case in (*RETURNS, *RAISES, *DIES, *LEAVES)),
        *(pytest.param("abad", case, id=f"coroutine handler that {case}") for case in ASYNC_CASES),
    ],
)
def test_a(stage: Stage, group: str, case: Case) -> None:
    misbehave(stage, group, case)


@pytest.mark.parametrize("case", PRINTS, ids=str)
def test_a_handler_that_says_too_much(stage: Stage, case: Case) -> None:
    before, started = len(stage.pool.log), time.monotonic()
    misbehave(stage, "bad", case)
    windows = (time.monotonic() - started) // 10 + 2  # of 1 MiB each, and what stands before each line
    assert len(stage.pool.log) - before < windows * 1.5 * MB
    if "logs" not in case.title:  # on a loaded host it prints through several windows, with a line at the end of each

        def left_out() -> int:
            return sum(map(int, re.findall(r"group=bad .* (\d+) bytes left out", stage.pool.log[before:])))

        wait_for(lambda: left_out() > 90 * MB, 20, "bytes left out", otherwise=left_out)


def test_a_plugin_that_is_loud_when_it_is_imported(stage: Stage) -> None:
    """…and starts threads: they stay in the template, which ends with them."""
    stage.amqp.submit("loud x")
    assert stage.amqp.take().json() == 1
    stage.pool.logged("template output: group=loud .*left out", 20)
    assert len(stage.pool.log) < 20_000_000


def test_a_plugin_that_ends_the_template_when_it_is_imported(stage: Stage) -> None:
    group = stage.pool.wait_state("mute", "backoff")
    assert "by themselves, with status 0" in group["last_error"]
    assert helpers(stage, "bad"), "the others run"


def test_a_plugin_that_crashes_when_it_is_imported(stage: Stage) -> None:
    group = stage.pool.wait_state("crash", "backoff")
    assert "template died: signal SIGSEGV" in group["last_error"]
    stage.pool.logged("template output: group=crash .*Fatal Python error: Segmentation fault")
    stage.pool.logged(r"template output: group=crash .*plugin_crash/worker\.py\", line 2 in <module>")
    assert helpers(stage, "bad"), "the others run"


@pytest.mark.parametrize("what", ["1 / 0", "sys.exit(3)", "sys.exit('text')", "import os; os._exit(4)"])
def test_a_teardown_that_fails(stage: Stage, what: str) -> None:
    worker, before = stage.pool.only_worker("teardown"), helpers(stage, "teardown")
    stage.amqp.submit(f"teardown {what}", message_id=what)
    assert stage.amqp.take_for(what).headers["status"] == "success", "the result was there before"
    stage.pool.logged(f"worker died: group=teardown pid={worker} status [134] tasks=none")
    stage.pool.wait_running("teardown")
    assert helpers(stage, "teardown") == before


def test_nothing_is_left_when_the_pool_stops(stage: Stage) -> None:
    """The last test: of workers that have just misbehaved, too."""
    titles = {"forks a daemon", "starts threads that never end", "blocks every signal", "ignores every signal"}
    for case in (case for case in LEAVES if case.title in titles):
        stage.pool.only_worker("bad")
        stage.amqp.submit(f"bad {case.name}", message_id=case.title)
        stage.amqp.take_for(case.title)
    theirs = processes.descendants(stage.pool.pid)
    assert not processes.zombies(theirs)
    assert stage.pool.stop() == 0
    assert not processes.left_of({*theirs, *map(int, stage.output("children"))} - {0})
