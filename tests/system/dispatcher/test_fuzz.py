"""Hostile input: whatever a client publishes is dispatched, run, or a dead letter with its reason; the daemons live on.

Real daemons and a real broker get the corpus (`tests/corpus`), then the cases of a seed: `make fuzz SEED=… N=…`. What
breaks something is looked for among the cases that were under way, one by one, made as simple as it still breaks, and
printed as a line for the corpus.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice
from pathlib import Path

import pika
import pytest

import processes
from broker import PrivateBroker
from daemons import Stage
from hostile import CANARY, LARGE_UNTIL, MAX_BODY, REPLIES, WORKER, Case, cases, corpus, numbered, simpler, to_line
from raw_amqp import Fate, Got, Publish, RawAmqp, content_header
from waiting import wait_for

PLUGIN = """
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            if len(body) % 8 == 7:
                raise ValueError(body)
            return body
"""
CONFIG = f"""
[dispatcher]
max_body = {MAX_BODY}
[{WORKER}]
workers: 2
"""
REASONS = {"malformed", "unknown-format", "too-large", "failed", "rejected"}
"""Of the contract's: no case here crashes its worker or takes long."""

ROUND = 2000
STALLED_S = 15.0
"""Without any progress for so long, what is not accounted for is lost."""
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ taskqueue-[a-z]+(\[\w+\])?\[\d+\]: |    ")
LOG_LINE_LIMIT = 2000
SHRINK_S = 120.0

GROWTH_LIMIT = 8 << 20
"""Bytes of PSS that the processes of a role may gain in all cases behind `LARGE_UNTIL`: 100 for each of 80,000."""


class Broken(AssertionError):
    """Something happened that must not, while `under_way` were the cases that were not accounted for."""

    def __init__(self, what: str, under_way: Iterable[Case] = ()) -> None:
        super().__init__(what)
        self.under_way = list(under_way)


@dataclass
class Ledger:
    """What became of all cases."""

    outs: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    duplicated: int = 0

    @property
    def published(self) -> int:
        """How many the broker has taken."""
        return sum(self.outs.values())

    def line(self) -> str:
        """The ledger in one line."""
        outs = " ".join(f"{name}={number}" for name, number in sorted(self.outs.items()))
        return f"published={self.published} {outs} lost=0 duplicated={self.duplicated} refused_by_broker={self.refused}"


class Field:
    """Daemons in a vhost, a writer, a reader of every queue that something can come out of, and the ledger."""

    def __init__(self, stage: Stage, broker: PrivateBroker) -> None:
        self.stage, self.broker = stage, broker
        self.vhost = stage.amqp_url.rpartition("/")[2]
        self.ledger = Ledger()
        self._numbers = count(1)
        stage.site.install(WORKER, PLUGIN)
        stage.configure(CONFIG)
        self.start()

    def start(self) -> None:
        """Everything anew, but for the ledger: after something broke."""
        for daemon in self.stage.daemons:
            daemon.end()
        for queue in self._queues():
            self.stage.amqp.delete(queue)
        for queue in ("results", REPLIES):
            self.stage.amqp.declare(queue)
        self.stage.start(WORKER)
        self._logs = {daemon.name: len(daemon.log) for daemon in self.stage.daemons}
        self._pids = self.pids()
        self._writer, self._reader = RawAmqp(self.stage.amqp_url), RawAmqp(self.stage.amqp_url)
        self._read: set[str] = set()
        self._find_queues()

    def pids(self) -> set[int]:
        """Every process of both daemons."""
        pids = {self.stage.dispatcher.pid, self.stage.pool.pid}
        return pids | {child for pid in pids for child in processes.descendants(pid)}

    def memory(self) -> dict[str, int]:
        """Bytes of PSS, by what the process is."""
        found: Counter[str] = Counter()
        for pid in self._pids:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            found[self._role(pid)] += int(re.findall(r"^Pss: +(\d+) kB", rollup, re.MULTILINE)[0]) * 1024
        return dict(found)

    def descriptors(self) -> dict[int, int]:
        """How many descriptors each process has open."""
        return {pid: len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self._pids}

    def _role(self, pid: int) -> str:
        if pid == self.stage.dispatcher.pid:
            return "dispatcher"
        return "workerpool" if pid == self.stage.pool.pid else processes.title(pid).split()[1]

    # -- a round

    def play(self, round_of: Sequence[Case]) -> None:
        """Publish some cases, and return once each is accounted for; raises `Broken`."""
        published: dict[int, Case] = {}
        for wild in (False, True):
            chosen = {next(self._numbers): case for case in round_of if case.wild == wild}
            messages = [
                Publish(case.routing_key.encode(), content_header(numbered(case, number)), case.body)
                for number, case in chosen.items()
            ]
            fates = map(self._writer.publish_one, messages) if wild else self._writer.publish(messages)
            for (number, case), fate in zip(chosen.items(), fates, strict=True):
                if fate is Fate.CONFIRMED:
                    published[number] = case
                else:
                    self.ledger.refused += 1
        self._account(published)

    def _account(self, published: dict[int, Case]) -> None:
        """Take what comes out until it is as much as was put in."""
        left, nameless = dict(published), []
        moved = time.monotonic()
        while len(left) > len(nameless):
            came = [*self._received(), *self._dropped()]
            for number, out, body in came:
                if number in left:
                    del left[number]
                    self.ledger.outs[out] += 1
                elif number is None:
                    nameless.append((out, body))
                elif number in published and "reply_to" not in published[number].properties:
                    self.ledger.duplicated += 1
            now = time.monotonic()
            if came:
                moved = now
            elif now - moved > 0.3:
                self._find_queues()
                self._check(left)
            if now - moved > STALLED_S:
                raise Broken(f"{len(left) - len(nameless)} lost", left.values())
        for out, body in nameless:  # its message_id cannot be read: known by its body
            number = next((number for number, case in left.items() if case.body == body), None)
            if number is None:
                raise Broken(f"came out and was never put in: {out} {body!r:.80}", published.values())
            del left[number]
            self.ledger.outs[out] += 1
        self._check(published)

    def _received(self) -> Iterator[tuple[int | None, str, bytes]]:
        for got in self._reader.received(0.05):
            out = self._out(got)
            if out:
                numbers = re.findall(rb"#(\d{8})", got.properties)
                yield int(numbers[0]) if numbers else None, out, got.body

    def _out(self, got: Got) -> str:
        """What a message that came out says of its case; nothing where another says it."""
        if got.queue.startswith("worker_"):
            return "dispatched"
        if got.queue.startswith("taskqueue_delay_"):
            return "delayed"
        properties = pika.BasicProperties()
        properties.decode(got.properties)
        headers = properties.headers or {}
        if "status" in headers and "x-dead-reason" not in headers:
            return "run" if headers["status"] == "success" else ""  # of an error, the dead letter says it
        told = all(headers.get(f"x-dead-{what}") for what in ("detail", "queue", "at", "host"))
        if headers.get("x-dead-reason") not in REASONS or not told:
            raise Broken(f"a dead letter that does not say why: {headers}")
        return f"dead:{headers['x-dead-reason']}"

    def _dropped(self) -> Iterator[tuple[int | None, str, bytes]]:
        """Results whose `reply_to` is no queue, as the log says; and whether the log says too much."""
        for daemon in self.stage.daemons:
            with daemon._log.open("rb") as log:
                log.seek(self._logs[daemon.name])
                new = log.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._logs[daemon.name] += len(whole)
            for line in whole.decode(errors="replace").split("\n")[:-1]:
                if CANARY in line or len(line) > LOG_LINE_LIMIT or LOG_LINE.match(line) is None:
                    raise Broken(f"in the log of {daemon.name}: {line[:LOG_LINE_LIMIT]}")
                if "result dropped: " in line:
                    yield int(re.findall(r"#(\d{8})", line)[0]), "run", b""

    def _check(self, under_way: dict[int, Case]) -> None:
        """The daemons are who they were."""
        dead = [daemon.name for daemon in self.stage.daemons if not daemon.running]
        if dead or self.pids() != self._pids:
            tails = "\n".join(daemon.tail() for daemon in self.stage.daemons)
            raise Broken(f"ended: {', '.join(dead) or 'a process of the pool'}\n{tails}", under_way.values())

    def _queues(self) -> list[str]:
        """Every queue of the vhost."""
        vhost = f"<<{','.join(map(str, self.vhost.encode()))}>>"
        names = "[binary_to_list(element(4, amqqueue:get_name(Q))) || Q <- rabbit_amqqueue:list({})]."
        return re.findall(r'"([^"]+)"', self.broker.eval(names.format(vhost)))

    def _find_queues(self) -> None:
        """Read from every queue that nothing of ours reads: each worker type's but the one that is served, the rungs
        of a second and more."""
        for name in self._queues():
            rung = re.fullmatch(r"taskqueue_delay_(\d\d)", name)
            ours = name in {"results", REPLIES, "taskqueue_dead"} or (rung and int(rung[1]) >= 10)
            if name not in self._read and (ours or name.startswith("worker_")) and name != f"worker_{WORKER}":
                self._read.add(name)
                self._reader.consume(name)

    # -- what has broken it

    def culprit(self, suspects: Sequence[Case]) -> str:
        """The simplest case of `suspects` that still breaks it, as a line for the corpus."""
        ends = time.monotonic() + SHRINK_S
        self.start()
        for case in suspects:
            said = self._breaks(case)
            if said:
                break
            if time.monotonic() > ends:
                return "(not found in time)"
        else:
            return f"(none of {len(suspects)} cases alone)"
        smaller = True
        while smaller and time.monotonic() < ends:
            smaller = False
            for simple in simpler(case):
                if time.monotonic() < ends and (again := self._breaks(simple)):
                    case, said, smaller = simple, again, True
                    break
        return f"{said}\n{to_line(case, '')}"

    def _breaks(self, case: Case) -> str:
        try:
            self.play([case])
        except Broken as broken:
            self.start()
            return str(broken)
        return ""


@pytest.fixture
def field_(stage: Stage, broker: PrivateBroker) -> Field:
    """The daemons, ready."""
    return Field(stage, broker)


def played(field_: Field, every: Iterator[Case]) -> Iterator[int]:
    """Play all of `every` in rounds; after each, how many cases that were."""
    done = 0
    while round_of := list(islice(every, ROUND)):
        try:
            field_.play(round_of)
        except Broken as broken:
            what = field_.culprit(broken.under_way or round_of)
            pytest.fail(f"{broken}\n\nthe simplest case that does it: {what}", pytrace=False)
        done += len(round_of)
        yield done


@pytest.mark.timeout(900)
@pytest.mark.parametrize("most", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_hostile_messages(field_: Field, most: int) -> None:
    """See the module. With enough cases, no process has grown over the last half of them."""
    seed = int(os.environ.get("FUZZ_SEED") or 1)
    most = int(os.environ.get("FUZZ_CASES") or most)
    began = time.monotonic()
    settled: dict[str, int] = {}
    open_before = field_.descriptors()
    for done in played(field_, chain((case for _, case in corpus()), cases(most, seed))):
        if not settled and done >= LARGE_UNTIL + ROUND:
            settled = field_.memory()
    ledger = field_.ledger
    print(f"fuzz: seed={seed} cases={most} {ledger.line()} seconds={time.monotonic() - began:.0f}")
    assert ledger.duplicated == 0
    assert ledger.refused < most * 0.05, "the broker refuses what was to be tried"
    assert {"dispatched", "run", "delayed", *(f"dead:{reason}" for reason in REASONS)} == ledger.outs.keys()
    wait_for(lambda: field_.descriptors() == open_before, 10, "no descriptor more than before")
    if settled and most >= LARGE_UNTIL + 50_000:
        now = field_.memory()
        print("fuzz: MiB:", *(f"{role} {settled[role] / 2**20:.1f} -> {now[role] / 2**20:.1f}" for role in now))
        grown = {role: now[role] - settled[role] for role in now if now[role] - settled[role] > GROWTH_LIMIT}
        assert not grown, grown
