"""The plugin API as a plugin author meets it, under the real pool: section 6 of the design, and reloads."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import processes
from daemons import Stage
from waiting import wait_for

WHO = """
    import os
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        made_by = "nobody"

        @classmethod
        def factory(cls):
            made = cls()
            made.made_by = "factory"
            return made

        def handle_task(self, body):
            return {"made_by": self.made_by, "pid": os.getpid(), "version": VERSION, "got": body}

    class Plain(Worker):
        factory = None

    class Duck:
        def __init__(self):
            import os
            self.pid = os.getpid()

        def handle_task(self, body):
            return {"made_by": "duck", "got": body, "same": self.pid == os.getpid()}

    def make():
        made = Worker()
        made.made_by = "function"
        return made

    VERSION = "1.0"
"""

MEET = """
    import asyncio
    import os
    import time
    from pathlib import Path
    from taskqueue.worker import BaseWorker

    class Meet(BaseWorker):
        "Each run waits until `body` of them are inside at once, in as many processes."

        def handle_task(self, body):
            here = Path("SCRATCH/meet")
            here.mkdir(exist_ok=True)
            (here / str(os.getpid())).touch()
            deadline = time.monotonic() + 10
            while len(list(here.iterdir())) < int(body):
                if time.monotonic() > deadline:
                    raise TimeoutError("the others did not come")
                time.sleep(0.01)
            return os.getpid()

    class AsyncMeet(BaseWorker):
        "The same, in one process."

        def __init__(self):
            self.inside = 0
            self.most = 0
            self.all_here = asyncio.Event()

        async def setup(self):
            self.loop = asyncio.get_running_loop()

        async def handle_task(self, body):
            self.inside += 1
            self.most = max(self.most, self.inside)
            if self.inside >= int(body):
                self.all_here.set()
            await asyncio.wait_for(self.all_here.wait(), 10)
            task_id = self.task.id
            await asyncio.sleep(0.01)
            assert task_id == self.task.id, "each coroutine has its own task"
            self.inside -= 1
            return {"pid": os.getpid(), "most": self.most, "id": task_id}
"""

AGAIN = """
    from taskqueue.worker import BaseWorker, Reject, Retry

    class Worker(BaseWorker):
        def handle_task(self, body):
            what, _, until = body.partition(" ")
            if what == "reject":
                raise Reject("not for me")
            if self.task.attempt < int(until or 99):
                if what == "retry":
                    raise Retry("not yet")
                if what == "soon":
                    raise Retry("not yet", delay_s=0)
                if what == "later":
                    raise Retry("not yet", delay_s=0.8)
                if what == "exit":
                    raise SystemExit(3)
                raise ValueError("no luck")
            return self.task.attempt
"""

TELL = """
    import os
    import sys
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def setup(self):
            print("setup says", self.settings["colour"])

        def handle_task(self, body):
            self.log.info("by self.log: %s", body)
            print("by print:", body)
            print("by stderr:", body, file=sys.stderr)
            os.write(1, b"without a newline")
            os.system("echo by a child: $(id -u)")
            names = ("workers", "max_retries", "report_results", "colour", "list")
            return {name: self.settings[name] for name in names}
"""

LIFE = """
    import os
    from taskqueue.worker import BaseWorker

    def note(what):
        with open("SCRATCH/life", "a") as file:
            file.write(f"{what} {os.getpid()}\\n")

    note("import")

    class Worker(BaseWorker):
        def __init__(self):
            note("init")

        def setup(self):
            note("setup")

        def handle_task(self, body):
            note("task")
            return os.getpid()

        def teardown(self):
            note("teardown")
"""

LIMITS = """
    import asyncio
    import os
    import time
    from taskqueue.worker import BaseWorker, SoftTimeLimitExceeded

    class Worker(BaseWorker):
        def handle_task(self, body):
            what, _, seconds = body.partition(" ")
            try:
                time.sleep(float(seconds or 0))
            except SoftTimeLimitExceeded:
                if what == "tidy":
                    return f"tidied up in {os.getpid()}"
                raise
            return os.getpid()

    class Async(BaseWorker):
        async def handle_task(self, body):
            what, _, seconds = body.partition(" ")
            try:
                await asyncio.sleep(float(seconds or 0))
            except SoftTimeLimitExceeded:
                if what == "tidy":
                    await asyncio.sleep(0)
                    return f"tidied up in {os.getpid()}"
                raise
            return os.getpid()
"""

NAP = """
    import os
    import time
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            time.sleep(float(body))
            return {"pid": os.getpid(), "version": VERSION, "colour": self.settings.get("colour")}

    VERSION = "1.0"
"""

CONFIG = """
[DEFAULT]
colour: blue

[meet]
workers: 3

[ameet]
concurrency: 10

[again]
max_retries: 2
retry_delay: 60ms

[tell]
colour: green
list: a, b
max_retries: 1

[tasks3]
max_tasks: 3

[soft]
soft_time_limit: 300ms

[asoft]
soft_time_limit: 300ms
concurrency: 4

[hard]
time_limit: 400ms
workers: 2

[harder]
time_limit: 400ms
max_retries: 1
retry_delay: 50ms
"""


@pytest.fixture(scope="module")
def stage(shared_stage: Stage) -> Stage:
    """One pool with many plugins, for all tests here that leave it as it was."""
    site = shared_stage.site
    site.install("factory", WHO)
    site.install("class", WHO, entry="Plain")
    site.install("function", WHO, entry="make")
    site.install("duck", WHO, entry="Duck")
    site.install("meet", MEET.replace("SCRATCH", str(shared_stage.scratch)), entry="Meet.factory")
    site.install("ameet", MEET, entry="AsyncMeet.factory")
    site.install("again", AGAIN)
    site.install("tell", TELL)
    site.install("tasks3", NAP)
    site.install("soft", LIMITS)
    site.install("asoft", LIMITS, entry="Async.factory")
    site.install("hard", LIMITS)
    site.install("harder", LIMITS)
    shared_stage.configure(CONFIG)
    shared_stage.start(
        *("factory", "class", "function", "duck", "meet", "ameet", "again", "tell", "tasks3"),
        *("soft", "asoft", "hard", "harder"),
    )
    return shared_stage


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test takes all that it has led to: nothing may be left for the next one."""
    yield
    if "stage" in request.fixturenames:
        stage: Stage = request.getfixturevalue("stage")
        for queue in ("results", "taskqueue_dead"):
            if left := stage.amqp.take_now(queue):
                pytest.fail(f"left in {queue}: {left}")


# -- what may be registered


@pytest.mark.parametrize(
    ("worker_type", "made_by"),
    [("factory", "factory"), ("class", "nobody"), ("function", "function"), ("duck", "duck")],
)
def test_what_an_entry_point_may_name(stage: Stage, worker_type: str, made_by: str) -> None:
    stage.amqp.submit(f"{worker_type} hello")
    said = stage.amqp.take().json()
    assert (said["made_by"], said["got"]) == (made_by, "hello")


# -- concurrency


def test_sync_workers_run_side_by_side(stage: Stage) -> None:
    for _ in range(3):
        stage.amqp.submit("meet 3")
    assert {int(message.text) for message in stage.amqp.take_many("results", 3)} == stage.pool.pids("meet")


def test_coroutines_run_side_by_side_in_one_process(stage: Stage) -> None:
    for number in range(10):
        stage.amqp.submit("ameet 10", message_id=f"c{number}")
    messages = stage.amqp.take_many("results", 10)
    said = [message.json() for message in messages]
    assert {each["pid"] for each in said} == stage.pool.pids("ameet")
    assert max(each["most"] for each in said) == 10, "never more than concurrency allows"
    assert {each["id"] for each in said} == {f"c{number}" for number in range(10)}
    assert all(message.json()["id"] == message.properties.message_id for message in messages)


# -- retry, reject, fail


@pytest.mark.parametrize("what", ["retry", "soon", "fail", "exit"])
def test_run_again_until_it_works(stage: Stage, what: str) -> None:
    stage.amqp.submit(f"again {what} 3", message_id=f"again-{what}", headers={"own": "kept"})
    message = stage.amqp.take_for(f"again-{what}")
    assert (message.json(), message.headers["attempt"], message.headers["status"]) == (3, 3, "success")


def test_retry_with_a_delay_of_its_own(stage: Stage) -> None:
    started = time.monotonic()
    stage.amqp.submit("again later 2", message_id="later")
    stage.amqp.take_for("later")
    assert 0.8 <= time.monotonic() - started < 2.0


@pytest.mark.parametrize(("what", "error_type"), [("retry", "Retry"), ("fail", "ValueError"), ("exit", "SystemExit")])
def test_retries_that_are_used_up(stage: Stage, what: str, error_type: str) -> None:
    stage.amqp.submit(f"again {what}", message_id=f"never-{what}")
    message = stage.amqp.take_for(f"never-{what}")
    assert (message.headers["status"], message.headers["attempt"]) == ("error", 3)
    assert message.headers["error_type"] == error_type
    dead = stage.amqp.take_for(f"never-{what}", "taskqueue_dead")
    assert (dead.headers["x-dead-reason"], dead.headers["x-attempt"]) == ("failed", 3)


def test_reject(stage: Stage) -> None:
    stage.amqp.submit("again reject", message_id="rejected")
    message = stage.amqp.take_for("rejected")
    assert (message.headers["status"], message.headers["attempt"]) == ("error", 1)
    assert message.json()["error"] == "not for me"
    dead = stage.amqp.take_for("rejected", "taskqueue_dead")
    assert (dead.headers["x-dead-reason"], dead.headers["x-dead-detail"]) == ("rejected", "not for me")


def test_a_dead_letter_is_all_that_a_replay_needs(stage: Stage) -> None:
    queue = stage.amqp.private()
    workitem = {"worker_type": "again", "workitem": "fail"}
    asked = {
        "message_id": "replayed", "correlation_id": "c1", "reply_to": queue, "priority": 1, "type": "t", "app_id": "a",
        "timestamp": 1_700_000_000, "headers": {"own": "kept", "x-delay": 20},
    }  # fmt: skip
    stage.amqp.submit_json(workitem, **asked)
    assert stage.amqp.take_for("replayed", queue).headers["status"] == "error"
    dead = stage.amqp.take_for("replayed", "taskqueue_dead")
    assert dead.json() == "fail"
    why = {name: value for name, value in dead.headers.items() if name.startswith("x-dead-")}
    assert why["x-dead-reason"] == "failed" and why["x-dead-queue"] == "worker_again"
    assert "ValueError: no luck" in why["x-dead-detail"] and "in handle_task" in why["x-dead-detail"]
    assert why["x-dead-host"] == socket.gethostname() and abs(why["x-dead-at"] / 1000 - time.time()) < 30
    assert {name: value for name, value in dead.headers.items() if name not in why} == {"own": "kept", "x-attempt": 3}
    for name in asked.keys() - {"headers"}:
        assert getattr(dead.properties, name) == asked[name], name
    assert dead.properties.expiration is None

    # as docs/protocol.rst says; what the operator has mended is that there is luck now
    headers = {name: value for name, value in dead.headers.items() if name not in why}
    again = {name: asked[name] for name in asked if name != "headers"}
    stage.amqp.submit_json("fail 2", why["x-dead-queue"], **again, headers=headers)
    message = stage.amqp.take_for("replayed", queue)
    assert (message.headers["status"], message.properties.correlation_id) == ("success", "c1")
    stage.amqp.submit_json("fail 2", "taskqueue", **again, headers={**dead.headers, "worker_type": "again"})
    assert stage.amqp.take_for("replayed", queue).headers["attempt"] == 2, "by way of taskqueue it begins anew"


# -- settings and log


def test_settings(stage: Stage) -> None:
    stage.amqp.submit("tell settings")
    assert stage.amqp.take().json() == {
        "workers": 1,
        "max_retries": 1,
        "report_results": True,
        "colour": "green",
        "list": ["a", "b"],
    }


def test_output_goes_to_the_log_with_group_and_pid(stage: Stage) -> None:
    (pid,) = stage.pool.pids("tell")
    stage.amqp.submit("tell wörd", message_id="told")
    stage.amqp.take_for("told")
    uid = processes.status(pid)["Uid"].split()[0]
    for stream, text in (
        ("stdout", "setup says green"),
        ("stdout", "by print: wörd"),
        ("stderr", "by stderr: wörd"),
        ("stdout", f"by a child: {uid}"),
    ):
        line = stage.pool.logged(rf"group=tell pid={pid} {stream}: .*{text}")[-1]
        assert " INFO " in line
    stage.pool.logged("without a newline")
    (line,) = stage.pool.logged("by self.log: wörd")
    assert "task=told" in line and "tell" in line.partition("by self.log")[0] and f"[{pid}]" in line


# -- limits


def test_max_tasks(stage: Stage) -> None:
    for _ in range(12):
        stage.amqp.submit("tasks3 0")
    pids = [message.json()["pid"] for message in stage.amqp.take_many("results", 12)]
    assert sorted(pids.count(pid) for pid in set(pids)) == [3, 3, 3, 3]
    assert all(message != "worker died" for message in stage.pool.log.splitlines())
    stage.pool.wait_running("tasks3")


@pytest.mark.parametrize("worker_type", ["soft", "asoft"])
def test_soft_time_limit(stage: Stage, worker_type: str) -> None:
    stage.amqp.submit(f"{worker_type} fast 0")
    pid = int(stage.amqp.take().text)
    stage.amqp.submit(f"{worker_type} tidy 30")
    message = stage.amqp.take(deadline_s=5)
    assert message.text == f"tidied up in {pid}"
    assert 300 <= message.headers["runtime_ms"] < 1500
    stage.amqp.submit(f"{worker_type} stubborn 30")
    message = stage.amqp.take(deadline_s=5)
    assert (message.headers["status"], message.headers["error_type"]) == ("error", "SoftTimeLimitExceeded")
    assert stage.amqp.take("taskqueue_dead").headers["x-dead-reason"] == "failed"
    stage.amqp.submit(f"{worker_type} fast 0.2")
    assert int(stage.amqp.take().text) == pid, "the limit is of each run, and the worker lives on"


def test_time_limit(stage: Stage) -> None:
    before = stage.pool.pids("hard")
    stage.amqp.submit("hard x 30", message_id="too-long")
    victim = stage.pool.running_task("hard", "too-long")
    stage.amqp.submit("hard x 0.3", message_id="innocent")
    messages = {message.properties.message_id: message for message in stage.amqp.take_many("results", 2)}
    assert messages["innocent"].headers["status"] == "success" and messages["innocent"].headers["attempt"] == 1
    message = messages["too-long"]
    assert (message.headers["status"], message.headers["error_type"]) == ("error", "TimeLimitExceeded")
    assert message.headers["attempt"] == 1
    dead = stage.amqp.take_for("too-long", "taskqueue_dead")
    assert dead.headers["x-dead-reason"] == "timeout" and "0.4 s" in dead.headers["x-dead-detail"]
    assert not processes.alive(victim)
    stage.pool.wait_running("hard")
    assert stage.pool.pids("hard") & before == before - {victim}


def test_time_limit_with_retries(stage: Stage) -> None:
    stage.amqp.submit("harder x 30", message_id="too-long-again")
    message = stage.amqp.take_for("too-long-again")
    assert (message.headers["status"], message.headers["attempt"]) == ("error", 2)
    assert stage.amqp.take_for("too-long-again", "taskqueue_dead").headers["x-dead-reason"] == "timeout"


# -- pools of their own


@pytest.fixture
def own_stage(stage_of_its_own: Stage) -> Stage:
    """A stage that the test may turn upside down."""
    return stage_of_its_own


def life(stage: Stage) -> dict[str, list[int]]:
    """Who noted what, in the order in which it was noted."""
    noted: dict[str, list[int]] = {}
    for line in stage.output("life"):
        what, pid = line.split()
        noted.setdefault(what, []).append(int(pid))
    return noted


@pytest.mark.parametrize("preload", ["yes", "no"])
def test_import_setup_and_teardown(own_stage: Stage, preload: str) -> None:
    stage = own_stage
    stage.site.install("life", LIFE.replace("SCRATCH", str(stage.scratch)))
    stage.configure(f"[life]\nworkers: 2\npreload: {preload}\n")
    stage.start("life")
    workers, template = stage.pool.pids("life"), stage.pool.helper("life", "template")
    for number in range(20):
        stage.amqp.submit(f"life {number}")
    stage.amqp.take_many("results", 20)
    noted = life(stage)
    assert "teardown" not in noted
    assert sorted(noted["import"]) == ([template] if preload == "yes" else sorted(workers))
    for once in ("init", "setup"):
        assert sorted(noted[once]) == sorted(workers)
    assert len(noted["task"]) == 20
    owner = (stage.scratch / "life").stat().st_uid
    assert owner == int(processes.status(template)["Uid"].split()[0]), "not even its import ran as another user"
    assert stage.pool.stop() == 0
    noted = life(stage)
    assert sorted(noted["teardown"]) == sorted(workers)
    assert stage.pool.pid not in {pid for pids in noted.values() for pid in pids}, "the pool never imports a plugin"


BROKEN = """
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        RAISE
"""

BREAKS = {
    "import": "raise RuntimeError('cannot start')",
    "factory": "factory = classmethod(lambda cls: 1 / 0)",
    "no worker": "factory = staticmethod(lambda: 'text')",
    "setup": "setup = lambda self: 1 / 0",
    "exit": "import sys; sys.exit(0)",
}


@pytest.mark.parametrize("how", BREAKS)
def test_plugin_that_cannot_start(own_stage: Stage, how: str) -> None:
    stage = own_stage
    module = stage.site.install("broken", BROKEN.replace("RAISE", BREAKS[how]))
    stage.site.install("good", NAP)
    stage.configure("")
    stage.start("good")
    good = stage.pool.pids("good")
    said = {
        "import": "RuntimeError: cannot start",
        "factory": "ZeroDivisionError",
        "no worker": "PluginError",
        "setup": "ZeroDivisionError",
        "exit": "SystemExit",
    }[how]
    group = wait_for(
        lambda: found if said in str((found := stage.pool.group("broken")).get("last_error")) else {},
        10,
        "it is told",
        otherwise=stage.pool.tail,
    )
    assert "Traceback" in group["last_error"]
    assert group["state"] in {"starting", "backoff"}
    stage.amqp.submit("broken 0", message_id="waits")
    stage.pool.logged("failed again: group=broken", 15)
    assert stage.pool.log.count("group failed: group=broken") == 1, "the traceback is logged once"
    assert stage.pool.log.count("Traceback") == group["last_error"].count("Traceback")
    stage.amqp.submit("good 0", message_id="good")
    stage.amqp.take_for("good")
    assert stage.amqp.depth("worker_broken") == 1, "its workitem waits"
    assert stage.pool.pids("good") == good

    module.write_text(Path(stage.site.packages / "plugin_good" / "worker.py").read_text())  # mended, and nobody told
    stage.amqp.take_for("waits", deadline_s=20)
    stage.pool.wait_running("broken")
    assert stage.pool.group("broken")["last_error"] is None
    assert stage.pool.pids("good") == good


def test_reload_with_a_bad_config_changes_nothing(own_stage: Stage) -> None:
    stage = own_stage
    stage.site.install("nap", NAP)
    stage.configure("[nap]\nworkers: 2\n")
    stage.start("nap")
    before = stage.pool.pids("nap")
    stage.configure("[nap]\nworkers: 5\nmax_retries: many\n")
    stage.reload()
    (line,) = stage.pool.logged(r"ERROR .*config\.ini:3: ")
    assert "max_retries" in line
    stage.pool.logged("not reloaded: .*nothing was changed")
    stage.amqp.submit("nap 0")
    stage.amqp.take()
    assert stage.pool.pids("nap") == before


def test_reload_replaces_only_what_changed_and_loses_nothing(own_stage: Stage) -> None:
    stage = own_stage
    for worker_type in ("changed", "same"):
        stage.site.install(worker_type, NAP)
    stage.configure("[changed]\ncolour: red\n[same]\ncolour: red\n")
    stage.start("changed", "same")
    (old,), same = stage.pool.pids("changed"), stage.pool.pids("same")
    helpers = [stage.pool.helper("same", role) for role in ("listener", "template")]
    stage.amqp.submit("changed 3", message_id="runs")
    stage.pool.running_task("changed", "runs")
    stage.configure("[changed]\ncolour: blue\n[same]\ncolour: red\n")
    stage.reload()
    stage.amqp.submit("changed 0", message_id="new")
    said = stage.amqp.take_for("new", deadline_s=2.5).json()  # before the old one has finished: no gap
    assert said["colour"] == "blue" and said["pid"] != old
    assert processes.alive(old)
    message = stage.amqp.take_for("runs")
    assert (message.json()["pid"], message.json()["colour"], message.headers["attempt"]) == (old, "red", 1)
    processes.wait_gone({old})
    wait_for(lambda: len(stage.pool.group("changed")["generations"]) == 1, 10, "only the new generation is left")
    assert stage.pool.pids("same") == same
    assert [stage.pool.helper("same", role) for role in ("listener", "template")] == helpers

    stage.reload()  # nothing has changed
    stage.amqp.submit("changed 0")
    assert stage.amqp.take().json()["pid"] == said["pid"]


def test_reload_under_load_loses_nothing(own_stage: Stage) -> None:
    stage = own_stage
    stage.site.install("nap", NAP)
    stage.configure("[nap]\nworkers: 2\ncolour: c0\n")
    stage.start("nap")
    ids = {f"l{number}" for number in range(600)}
    stage.amqp.submit_many((b"nap 0.008", {"message_id": each}) for each in ids)
    for number in range(1, 4):
        stage.configure(f"[nap]\nworkers: 2\ncolour: c{number}\n")
        stage.reload()
        if number != 2:  # which is replaced before it has begun
            stage.pool.logged("group running: group=nap", count=number - number // 3 + 1)
    last = {f"behind-{number}" for number in range(20)}  # however fast the others were
    stage.amqp.submit_many((b"nap 0.008", {"message_id": each}) for each in last)
    messages = stage.amqp.take_many("results", 620)
    assert {message.properties.message_id for message in messages} == ids | last
    assert {message.headers["attempt"] for message in messages} == {1}
    assert stage.amqp.take_now("results") is None
    assert {message.json()["colour"] for message in messages} >= {"c0", "c1", "c3"}


def test_plugins_come_change_and_go(own_stage: Stage) -> None:
    stage = own_stage
    stage.site.install("first", NAP)
    stage.start("first")

    def versions() -> dict[str, Any]:
        found = {}
        for worker_type in ("first", "second"):
            stage.amqp.submit(f"{worker_type} 0")
            message = stage.amqp.take()
            found[message.headers["worker_type"]] = message.json()["version"]
        return found

    stage.amqp.submit("second 0", message_id="early")
    stage.site.install("second", NAP)
    stage.reload()
    stage.amqp.take_for("early")  # sent before its plugin was there
    first = stage.pool.pids("first")
    assert versions() == {"first": "1.0", "second": "1.0"}

    stage.site.install("second", NAP.replace('"1.0"', '"2.0"'), version="2.0")
    stage.reload()
    stage.pool.logged(r"group running: group=second .*plugin=plugin_second-2\.0")
    wait_for(lambda: versions() == {"first": "1.0", "second": "2.0"}, 10, "the new version runs")

    stage.site.install("second", NAP.replace('"1.0"', '"2.0-rebuilt"'), version="2.0")  # the same number, other files
    stage.reload()
    wait_for(lambda: versions() == {"first": "1.0", "second": "2.0-rebuilt"}, 10, "the rebuilt one runs")

    theirs = {stage.pool.helper("second", role) for role in ("listener", "template")} | stage.pool.pids("second")
    stage.site.remove("second")
    stage.reload()
    processes.wait_gone(theirs, 10)
    assert stage.pool.group("second") == {}
    stage.amqp.submit("second 0", message_id="late")
    wait_for(lambda: stage.amqp.depth("worker_second") == 1, 10, "its work waits")
    assert stage.pool.pids("first") == first, "the other group did not notice"


def test_pool_runs_only_the_plugins_it_is_told_to(own_stage: Stage) -> None:
    stage = own_stage
    for worker_type in ("one", "two", "three"):
        stage.site.install(worker_type, NAP)
    stage.configure("[workerpool]\nplugins: one, two\n[two]\nworkers: 0\n")
    stage.start("one")
    assert {group["name"] for group in stage.pool.status()["groups"]} <= {"one", "two"}
    assert len(stage.pool.workers("one")) == 1 and stage.pool.workers("two") == []
