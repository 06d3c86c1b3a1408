"""Proves the delay ladder: none lost, none early, how late, in order; over restarts of the broker too.

    delays.py [--seed N] [--count N]        by `make faults FAULT=delays SEED=… N=…`

1. Every rung: workitems delayed by 2**32 - 16 ms, 49.7 days, walk all 28 rungs, each shrunk to 16 ms by a policy: what
   a rung costs beyond its time.
2. Long: 65.5 s over 12 rungs that take their time: how late after a long walk.
3. A flood: `count` workitems (100,000) with random delays, due one after the other over two minutes once all were
   published: in order of their time?
4. The same again, and in the middle the broker is stopped and started, and later SIGKILLed and started.

Lateness is from when the client published to when a consumer of `worker_later` has it. It is told, not asserted: the
machine decides. Takes about eight minutes; a smaller count takes less.
"""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
from collections.abc import Callable

import pika
import pika.exceptions
from proof import Ground, ground, main, say, spread

from plain_amqp import PlainAmqp
from waiting import wait_for

_TROUBLE = (pika.exceptions.AMQPError, OSError, AssertionError)
"""What a broker that is being restarted does to a client."""

_PUBLISHERS = 5
_RATE = 1500.0
"""Published a second: below what a dispatcher takes, so that nothing waits before the ladder."""
_SPAN_S = 120.0
"""For how long a full count is due, one after the other."""
_INVERTED_S = 0.1
"""What comes after one that was due so much later has been overtaken: the accuracy that is promised."""
_TARGET = "worker_later"


class Submitted:
    """Publishes delayed workitems with confirms, `delays_ms[i]` for number i, or so that it is due `at[i]`."""

    def __init__(self, url: str, count: int, delay_ms: Callable[[int, float], int], rate: float = _RATE) -> None:
        self.due: list[float] = [0.0] * count
        """When each was to come out, Unix time."""
        self._url = url
        self._count = count
        self._delay_ms = delay_ms
        self._rate = rate
        self._began = time.time()

    def run(self) -> None:
        """Return when all are confirmed."""
        threads = [threading.Thread(target=self._publish, args=(first,)) for first in range(_PUBLISHERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(self.due), "a publisher failed"

    def _publish(self, first: int) -> None:
        with PlainAmqp(self._url) as amqp:
            channel = amqp.channel
            for number in range(first, self._count, _PUBLISHERS):
                time.sleep(max(0.0, self._began + number / self._rate - time.time()))  # the rate of the load
                now = time.time()
                delay_ms = self._delay_ms(number, now)
                properties = pika.BasicProperties(
                    delivery_mode=2, message_id=str(number), headers={"x-delay": delay_ms}
                )
                channel.basic_publish("", "taskqueue", b"later x", properties, mandatory=True)
                self.due[number] = now + delay_ms / 1000


class Arrivals:
    """Consumes what comes out of the ladder, in a thread, also over a broker's restart."""

    def __init__(self, url: str) -> None:
        self.came: list[tuple[int, float]] = []
        """Number and Unix time of each, in the order in which they came."""
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._consume, daemon=True)
        self._thread.start()

    @property
    def numbers(self) -> set[int]:
        """Which have come."""
        return {number for number, _ in self.came}

    def end(self) -> None:
        """Consume no more."""
        self._stop.set()
        self._thread.join()

    def _consume(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(*_TROUBLE), PlainAmqp(self._url) as amqp:
                wait_for(lambda amqp=amqp: amqp.exists(_TARGET), 120)  # type: ignore[misc]
                channel = amqp.channel
                channel.basic_qos(prefetch_count=2000)
                channel.basic_consume(_TARGET, self._arrived)
                while not self._stop.is_set():
                    channel.connection.process_data_events(time_limit=0.05)
            self._stop.wait(0.1)

    def _arrived(self, channel: pika.channel.Channel, method: object, properties: object, body: bytes) -> None:
        self.came.append((int(properties.message_id), time.time()))  # type: ignore[attr-defined]
        channel.basic_ack(method.delivery_tag)  # type: ignore[attr-defined]


def inverted(came: list[tuple[int, float]], due: list[float]) -> int:
    """How many came behind one that was due more than 100 ms later."""
    latest, found, seen = 0.0, 0, set()
    for number, _ in came:
        if number in seen:
            continue  # a duplicate comes when it comes
        seen.add(number)
        found += due[number] < latest - _INVERTED_S
        latest = max(latest, due[number])
    return found


def account(name: str, submitted: Submitted, arrivals: Arrivals, deadline_s: float) -> bool:
    """Wait for all; one line of ledger and one of lateness. Whether none was lost and none was early."""
    due = submitted.due
    came_all = True
    try:
        wait_for(lambda: len(arrivals.came) >= len(due) and len(arrivals.numbers) == len(due), deadline_s, poll_s=0.2)
    except AssertionError:
        came_all = False
    time.sleep(1.0)  # for duplicates
    arrivals.end()
    first: dict[int, float] = {}
    for number, at in arrivals.came:
        first.setdefault(number, at)
    late = [at - due[number] for number, at in first.items()]
    early = sum(each < 0 for each in late)
    say(
        f"{name}: published={len(due)} completed={len(first)} lost={len(due) - len(first)} "
        f"duplicated={len(arrivals.came) - len(first)} early={early} overtaken={inverted(arrivals.came, due)}"
    )
    say(spread(f"{name}: lateness", late))
    return came_all and not early


def every_rung(at: Ground, count: int) -> bool:
    """All 28 rungs of the ladder, shrunk to 16 ms each."""
    rungs = 28
    with at.stage("every-rung") as stage:
        stage.configure("")
        at.broker.ctl(
            "set_policy", "-p", "every-rung", "shrunk", "^taskqueue_delay_..$", '{"message-ttl":16}',
            "--apply-to", "queues",
        )  # fmt: skip
        stage.dispatcher.start()
        wait_for(lambda: stage.amqp.consumers("taskqueue") == 1, 20, otherwise=stage.dispatcher.tail)
        Submitted(stage.amqp_url, 1, lambda _number, _now: 2**32 - 16).run()  # declares every queue
        stage.amqp.take(_TARGET, 30)
        arrivals = Arrivals(stage.amqp_url)
        submitted = Submitted(stage.amqp_url, count, lambda _number, _now: 2**32 - 16, rate=20)
        submitted.run()
        wait_for(lambda: len(arrivals.numbers) == count, 60, "all have walked")
        arrivals.end()
        per_rung = [
            (at_s - (submitted.due[number] - (2**32 - 16) / 1000) - rungs * 0.016) / rungs
            for number, at_s in arrivals.came
        ]
        say(spread(f"every rung: {rungs} rungs of 16 ms, beyond its time each took", per_rung))
        return len(arrivals.came) == count


def long(at: Ground, count: int) -> bool:
    """A walk of 65.5 s."""
    with at.stage("long") as stage:
        stage.configure("")
        stage.dispatcher.start()
        wait_for(lambda: stage.amqp.consumers("taskqueue") == 1, 20, otherwise=stage.dispatcher.tail)
        arrivals = Arrivals(stage.amqp_url)
        submitted = Submitted(stage.amqp_url, count, lambda _number, _now: 2**16 - 16, rate=10)
        submitted.run()
        return account("65.5 s over 12 rungs", submitted, arrivals, 120)


def flood(at: Ground, seed: int, count: int, *, restarts: bool) -> bool:
    """Random delays."""
    name = "flood with restarts" if restarts else "flood"
    chance = random.Random(seed)
    span_s = _SPAN_S * count / 100_000
    with at.stage(name.replace(" ", "-")) as stage:
        stage.configure("[amqp]\nheartbeat = 10\n")
        dispatchers = [stage.dispatcher, stage.another("dispatcher", "dispatcher2")]
        for dispatcher in dispatchers:
            dispatcher.start()
        wait_for(lambda: stage.amqp.consumers("taskqueue") == 2, 20, otherwise=stage.dispatcher.tail)
        begins = time.time() + count / _RATE * 1.3 + 5
        offsets = [chance.uniform(0, span_s) for _ in range(count)]
        submitted = Submitted(
            stage.amqp_url, count, lambda number, now: max(0, round((begins + offsets[number] - now) * 1000))
        )
        submitted.run()
        say(f"{name}: {count} published, the first due in {begins - time.time():.1f} s, the last {span_s:.0f} s later")
        arrivals = Arrivals(stage.amqp_url)
        for graceful in (True, False) if restarts else ():
            time.sleep(max(0.0, begins + span_s * (0.33 if graceful else 0.67) - time.time()))  # the schedule
            say(f"{name}: broker {'stopped' if graceful else 'SIGKILLed'}, {len(arrivals.came)} have come")
            at.broker.stop(graceful=graceful) if graceful else at.broker.kill()
            at.broker.start()
        held = account(name, submitted, arrivals, begins - time.time() + span_s + 120)
        dead = stage.amqp.depth("taskqueue_dead")
        say(f"{name}: dead={dead} dispatchers={'alive' if all(each.running for each in dispatchers) else 'DEAD'}")
        return held and dead == 0


def prove(seed: int, count: int | None = None) -> bool:
    """All of it."""
    count = count or 100_000
    print(f"delays: seed={seed} count={count}", flush=True)
    with ground() as at:
        return all(
            [
                every_rung(at, 100),
                long(at, 200),
                flood(at, seed, count, restarts=False),
                flood(at, seed, count, restarts=True),
            ]
        )


if __name__ == "__main__":
    sys.exit(main(__doc__, prove))
