"""The second act of the demonstration: tasks over HTTP, with a front that is killed on the way.

1. `Target` is a small web daemon. It notes what comes, and answers 503 to the first attempt of one task in 23.
2. `Sender` is a client with eight connections. A request that gets no 2xx is sent again with the same
   `Idempotency-Key`, until it gets one: so there is one task, whether the request got lost or only its answer.
3. `SecondAct` starts a front, sends tasks in every shape, kills the front in the middle, starts it again, and holds the
   id of every task that was answered 2xx against those that came to the target.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from demo_screen import DemoError, Screen
from demo_sender import Sender, Task
from demo_target import Target

CONFIG = """\
[http]
listen: 127.0.0.1:{port}
book: sqlite:{book}

[http_steady]
rate_limit: {rate}/s
burst: {burst}
"""
RATE, BURST = 50, 20
"""Of the queue `steady`: requests a second, and how many may come at once after a rest."""
PATIENCE_S = 15.0
"""How long nothing may happen before the demonstration gives up."""


class Front(Protocol):
    """What the act needs of the front: a process that somebody else looks after."""

    port: int

    def start(self) -> float:
        """Start it; returns once it serves. Gives the seconds that it took."""

    def kill(self) -> int:
        """Kill it with -9; gives its pid."""

    def check(self) -> None:
        """Raise `DemoError` where a daemon has ended by itself."""


class Account(NamedTuple):
    """What came of it. Tasks go by their number, which target and sender both know, and by their id."""

    tasks: int
    answered: dict[int, str]
    """Number and id of each task that was answered 2xx."""
    again: int
    """Requests that were sent again."""
    runs: dict[str, int]
    """How often a task of this id was done: the target answered 2xx, or the plugin's result was right."""
    by_plugin: int
    """How many of these the plugin did."""
    failed_first: int
    """How many the target failed at first."""
    per_s: float
    """Requests of the queue `steady` per second, at the target."""
    most: int
    """The most of them within one second."""
    away_ms: float
    """From the end of the killed front until another one served."""

    @property
    def lost(self) -> list[str]:
        """The ids that were answered 2xx and never done."""
        return [task_id for task_id in self.answered.values() if not self.runs.get(task_id)]

    @property
    def strange(self) -> list[str]:
        """The ids that were done and answered to nobody: there would be a second task for one request."""
        return sorted(self.runs.keys() - set(self.answered.values()))

    @property
    def twice(self) -> int:
        """How many were done more than once."""
        return sum(runs > 1 for runs in self.runs.values())


class SecondAct:
    """Plays it, and keeps the account."""

    def __init__(self, front: Front, screen: Screen) -> None:
        self._front = front
        self._screen = screen

    def play(self, tasks: int) -> Account:
        """`tasks` tasks, and one of each shape before."""
        self._screen.title("Over HTTP: every way to send a task, and when it came to its target")
        with Target() as target, Sender(self._front.port, target.url) as sender:
            took_s = self._front.start()
            at = f"127.0.0.1:{self._front.port}"
            self._screen.row("front", f"taskqueue-http on {at}, its book in SQLite ({took_s:.1f} s)")
            self._screen.row("target", f"a web daemon on {target.url[7:]}, which fails now and then")
            for task in one_of_each():
                self._show(task, sender, target)
            self._screen.title(f"{tasks:,} tasks over HTTP; the front is killed on the way")
            crowd = list(mixed(len(sender.answered) + 1, tasks))
            away_ms = self._show_crowd(crowd, sender, target)
            by_plugin = {
                sender.answered[task.number]: math.prod(sender.factors(sender.answered[task.number])) == task.to_factor
                for task in (*one_of_each(), *crowd) if task.shape == "worker type"
            }  # fmt: skip
            runs = Counter(each.task_id for each in target.arrived if each.status < 300)
            runs.update(task_id for task_id, right in by_plugin.items() if right)
            times = [each.at for each in target.arrived if each.queue == "steady"]
            return Account(
                tasks + len(one_of_each()), sender.answered, sender.again, runs, sum(by_plugin.values()),
                sum(each.status == 503 for each in target.arrived),
                (len(times) - 1) / (times[-1] - times[0]), most_within_a_second(times), away_ms,
            )  # fmt: skip

    def _show(self, task: Task, sender: Sender, target: Target) -> None:
        """One task: what is sent, what the front answers, and when it came."""
        self._screen.row(task.shape, sender.said(task))
        started = time.monotonic()
        sender.send([task])
        answered_ms = (time.monotonic() - started) * 1000
        task_id = sender.answered[task.number]
        if task.shape == "worker type":
            found = sender.factors(task_id)
            came = f"the plugin's result: {' * '.join(map(str, found))}"
        else:
            self._wait_for(lambda: task_id in target.done, f"task {task_id} at the target", 0.001)
            came = f"at the target after {(time.monotonic() - started) * 1000:.0f} ms"
        self._screen.row("", f"-> task …{task_id[-8:]} in {answered_ms:.0f} ms, {came}")

    def _show_crowd(self, crowd: list[Task], sender: Sender, target: Target) -> float:
        """Send all, with the end of a front in the middle; returns when all have come, or nothing comes any more.

        Gives the milliseconds without a front.
        """
        half = len(sender.answered) + len(crowd) // 2
        started = latest = time.monotonic()
        before, done, away_ms = len(target.done), 0, 0.0
        total = sum(task.shape != "worker type" for task in crowd)
        sender.start(crowd)
        while done < total or sender.busy:
            sender.check()
            self._front.check()
            if not away_ms and len(sender.answered) >= half:
                away_ms = self._kill_and_start(sender, target)
            if len(target.done) - before > done:
                done, latest = len(target.done) - before, time.monotonic()
                self._screen.progress(done, total, done / (latest - started))
            if time.monotonic() - latest > PATIENCE_S:
                if sender.busy:
                    raise DemoError(f"no task was answered within {PATIENCE_S:.0f} s")
                break  # the summary says which are lost
            time.sleep(0.01)
        took_s = time.monotonic() - started
        came = "all of them" if done == total else f"{done:,} of {total:,}"
        self._screen.row(
            "target", f"{came} came within {took_s:.1f} s; the plugin does the other {len(crowd) - total:,}"
        )
        time.sleep(0.3)  # what comes twice would come now
        return away_ms

    def _kill_and_start(self, sender: Sender, target: Target) -> float:
        killed = time.monotonic()
        pid = self._front.kill()
        answered, done = len(sender.answered), len(target.done)
        self._front.start()
        away_ms = (time.monotonic() - killed) * 1000
        self._screen.row("kill -9", f"the front, pid {pid}: {answered:,} tasks were answered, {done:,} had come")
        self._screen.row("", f"started again; it serves after {away_ms:.0f} ms")
        return away_ms

    def _wait_for(self, fact: Callable[[], bool], what: str, poll_s: float) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not fact():
            self._front.check()
            if time.monotonic() > deadline:
                raise DemoError(f"not within {PATIENCE_S:.0f} s: {what}")
            time.sleep(poll_s)

    def summary(self, account: Account) -> int:
        """Show the account; gives the exit status: 1 where a task is lost, or there are two for one request."""
        row, lost, strange = self._screen.row, account.lost, account.strange
        at_target = sum(account.runs.values()) - account.by_plugin
        answered, arrived = len(account.answered), len(account.runs)
        row("sent", f"{account.tasks:>9,}   tasks; {account.again:,} requests again, by the same keys")
        row("answered 2xx", f"{answered:>9,}   ids of tasks", good=answered == account.tasks)
        row("arrived", f"{arrived:>9,}   tasks: {at_target:,} requests, {account.by_plugin:,} results of primes")
        row("lost", f"{len(lost):>9,}", good=not lost)
        row("run twice", f"{account.twice:>9,}   {_why(account.twice)}")
        row("failed first", f"{account.failed_first:>9,}   attempts, answered 503; all of them came again")
        row("rate", f"{account.per_s:>9,.0f}   a second, at most {account.most} in one; "
            f"limit {RATE}, burst {BURST}", good=account.most <= RATE + BURST)  # fmt: skip
        row("kill -9", f"{account.away_ms:>9,.0f}   ms until the front served again")
        for name, ids in (("lost", lost), ("not asked for", strange)):
            for task_id in ids[:10]:
                row("", f"{name}: task {task_id}")
        return 1 if lost or strange or answered != account.tasks else 0


def one_of_each() -> list[Task]:
    """A task of each shape, numbered from 1."""
    shapes = ("Miyamoto", "JSON", "raw", "batch", "worker type", "rate limited")
    return [Task(number, shape) for number, shape in enumerate(shapes, 1)]


def mixed(first: int, count: int) -> Iterator[Task]:
    """`count` tasks, numbered from `first`, in all shapes by turns."""
    turns = ["Miyamoto"] * 4 + ["JSON"] * 4 + ["raw"] * 3 + ["batch"] * 4 + ["worker type"] * 2 + ["rate limited"] * 3
    for number in range(first, first + count):
        yield Task(number, turns[number % len(turns)])


def most_within_a_second(times: list[float]) -> int:
    """The largest number of `times` (seconds, in order) within any one second."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def _why(twice: int) -> str:
    if not twice:
        return "the killed front had noted each hand-out"
    return "the front was killed before it noted the hand-out"
