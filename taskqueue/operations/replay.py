"""Sends dead letters back to the queues they died in; each is removed once the broker has confirmed its copy.

1. `worker1`'s handler failed: letter `42` lies in `taskqueue_dead`, with `x-dead-queue: worker_worker1`.
2. The replay reads the letter, publishes a copy without the `x-dead-*` headers to `worker_worker1`, and holds the
   letter (`claim`) while up to `_WINDOW` others are under way.
3. The broker confirms the copy: the letter is acked, and `replayed` of the observer is called.
4. The broker refuses the copy: the letter stays dead, counted in `ReplayOutcome.left` by the reason.
5. The connection is cut before an answer came: nobody knows whether the copy arrived. The letter stays dead, counted as
   doubtful. The replay goes through the queue again, and leaves out the letters that are in doubt.

A letter is never lost and never replayed twice: this module must never publish again what may have arrived.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

from taskqueue.amqp import Delivery, Published
from taskqueue.config.settings import AmqpSettings
from taskqueue.errors import BrokerUnavailable
from taskqueue.operations.broker import Broker
from taskqueue.operations.destinations import Destinations
from taskqueue.operations.reading import Message
from taskqueue.operations.selection import Selection, chosen
from taskqueue.protocol.dead_letters import DeadLetter, for_replay, read_dead_letter
from taskqueue.protocol.properties import Properties
from taskqueue.protocol.queues import DEAD, Queue

_WINDOW = 200
"""Letters under way without an answer, at most: so many are in doubt when the connection is cut."""
_REMEMBERED = 20_000
"""Letters replayed last whose ids are kept: where the connection was cut, the broker may not have processed our acks,
and delivers those letters again."""
_ANSWER_S = 1.0
"""Seconds to wait after an error for the answers that the cut connection still owes; without them the replay ends."""

_Key = tuple[str | None, float | None, str | None]
"""The identity of a dead letter: its id, when and in which queue it died."""


class Revival(NamedTuple):
    """A dead letter as the workitem that is published. Its `message_id` never changes: it is the same workitem."""

    queue: str
    properties: Properties
    body: bytes


class ReplayObserver:
    """Hears what a replay does while it does it. Every method may be left as it is."""

    def passed(self, letters: int) -> None:
        """One step of progress: this many more of the letters that were there at the beginning are done with."""

    def replayed(self, letter: DeadLetter, queue: str) -> None:
        """The broker has confirmed the copy of `letter` in `queue`."""

    def resumed(self, error: BrokerUnavailable) -> None:
        """The connection was lost because of `error`; the replay goes on."""


class Reviser(Protocol):
    """Changes dead letters before they are replayed, as a person with an editor does."""

    def revise(self, letter: DeadLetter, revival: Revival, hindrance: Callable[[str], str | None]) -> Revival | None:
        """The workitem to be published in place of `revival`; None: the letter stays dead.

        `hindrance(queue)` says why nothing can be replayed to a queue, None where it can be.
        """

    def revised(self, letter: DeadLetter, replayed: bool) -> None:
        """The broker has answered for the letter that `revise` gave back last."""


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """How far a replay came."""

    replayed: int
    doubtful: int
    """Letters whose copy may have arrived or not; they are dead letters as before."""
    stopped: bool
    """`stop()` ended it before every letter was looked at."""
    left: Mapping[str, int]
    """Letters that cannot be replayed, by the reason."""
    missing: frozenset[str]
    """Ids of the selection that no dead letter has."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A dead letter that a replay would take up, and why it could not be replayed, or None."""

    letter: DeadLetter
    hindrance: str | None


def rehearse(broker: Broker, amqp: AmqpSettings, selection: Selection) -> Generator[Rehearsed, None, None]:
    """Rehearse a replay of `selection`, letter by letter; nothing is done. Close the generator before `broker`."""
    destinations = Destinations(broker, amqp)
    with closing(chosen(broker, selection)) as found:
        for message, letter in found:
            yield Rehearsed(letter, destinations.hindrance(message.delivery.fault, letter.queue))


class Replay:
    """One replay of the dead letters that were there when it was made; those that die later are not touched.

    `rate_per_s`: letters a second, at most; None for no limit. `stop()` is asked between two letters; once it is true
    no more are replayed. With a `reviser` each letter is published on its own, after it was revised.
    """

    def __init__(
        self,
        broker: Broker,
        amqp: AmqpSettings,
        selection: Selection,
        *,
        rate_per_s: float | None = None,
        stop: Callable[[], bool] = lambda: False,
        reviser: Reviser | None = None,
        observer: ReplayObserver | None = None,
    ) -> None:
        self._broker = broker
        self._session = broker.session
        self._selection = selection
        self._pause_s = 0.0 if rate_per_s is None else 1 / rate_per_s
        self._next_at = time.monotonic()
        self._stop = stop
        self._reviser = reviser
        self._observer = observer or ReplayObserver()
        self._destinations = Destinations(broker, amqp)
        counts = broker.counts(DEAD)
        self.expected = 0 if counts is None else counts.ready
        """How many dead letters there were when it began."""
        self._passed = 0
        self._missing = set(selection.ids)
        self._under_way: dict[Message, _Key] = {}
        self._replayed = 0
        self._recent: OrderedDict[_Key, None] = OrderedDict()
        self._left: Counter[str] = Counter()
        self._doubtful: set[_Key] = set()

    @property
    def outcome(self) -> ReplayOutcome:
        """How far it came: also while it runs, and after `run` has raised."""
        doubtful = len({*self._doubtful, *self._under_way.values()})
        stopped = self._stop() and self._passed < self.expected
        return ReplayOutcome(self._replayed, doubtful, stopped, dict(self._left), frozenset(self._missing))

    def run(self) -> ReplayOutcome:
        """Replay; goes through the queue again where the connection was lost on the way.

        Raises `BrokerUnavailable` where the broker does not come back, or has an answer to a copy still to give;
        `BrokerRefused` where we may not declare or publish.
        """
        while not self._pass():
            pass
        return self.outcome

    def _pass(self) -> bool:
        """Go through what is left of the dead letters; False where it is to be done again."""
        before = self._replayed
        self._left.clear()
        try:
            with self._broker.read(DEAD) as reading:
                passed = self._replayed
                for message in reading:
                    if passed == self.expected or self._stop():
                        break
                    if self._look_at(message):
                        passed += 1
                        if passed > self._passed:
                            self._passed = passed
                            self._observer.passed(1)
                self._settle(0)
        except BrokerUnavailable as error:
            # the next turn of the loop reports a lost connection; without an answer even then nothing is known
            self._session.wait(lambda: not self._under_way, time.monotonic() + _ANSWER_S)
            if self._under_way or self._replayed == before or self._stop():
                raise
            self._observer.resumed(error)
            return False
        return True

    def _look_at(self, message: Message) -> bool:
        """Replay a letter that the selection takes; False for one that this replay has seen before, or lost."""
        delivery, letter = message.delivery, read_dead_letter(message.properties)
        key = (letter.message_id, letter.died_at, letter.queue)
        if not delivery.held:
            return False
        if delivery.redelivered and letter.message_id and key in self._recent:
            message.take()  # replayed, and its ack was lost with the connection
            return False
        if not self._selection.takes(letter) or key in self._doubtful:
            return True
        self._missing.discard(letter.message_id or "")
        revival = Revival(letter.queue or "", for_replay(delivery.properties), delivery.body)
        if self._reviser is None:
            return self._replay(message, letter, key, revival, delivery.fault)
        self._revise(self._reviser, message, letter, key, revival)
        return True

    def _revise(self, reviser: Reviser, message: Message, letter: DeadLetter, key: _Key, revival: Revival) -> None:
        edited = reviser.revise(letter, revival, partial(self._destinations.hindrance, ""))
        if edited is not None:
            before = self._replayed
            self._replay(message, letter, key, edited, "")
            self._settle(0)
            reviser.revised(letter, self._replayed > before)

    def _replay(self, message: Message, letter: DeadLetter, key: _Key, revival: Revival, fault: str) -> bool:
        if why := self._destinations.hindrance(fault, revival.queue):
            self._left[why] += 1
            return True
        queue = self._destinations.of(revival.queue)
        assert queue is not None
        self._pace(message.delivery)
        if not self._session.declarer.knows(queue.name):
            self._session.have(queue, self._session.deadline())
        if self._stop() or not message.delivery.held:
            return False
        message.claim()
        self._under_way[message] = key
        self._session.publisher.publish(
            queue.name, revival.properties, revival.body, partial(self._answered, message, letter, key, queue)
        )
        self._settle(_WINDOW - 1)
        return True

    def _pace(self, delivery: Delivery) -> None:
        if self._pause_s:
            self._session.wait(lambda: self._stop() or not delivery.held, self._next_at)
            self._next_at = max(self._next_at, time.monotonic() - self._pause_s) + self._pause_s

    def _settle(self, left: int) -> None:
        """Wait until at most `left` letters have no answer."""
        if not self._session.wait(lambda: len(self._under_way) <= left, self._session.deadline()):
            self._session.unavailable()

    def _answered(self, message: Message, letter: DeadLetter, key: _Key, queue: Queue, published: Published) -> None:
        del self._under_way[message]
        if published is Published.CONFIRMED:
            self._recent[key] = None
            if len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
            message.take()
            self._replayed += 1
            self._observer.replayed(letter, queue.name)
        elif published is Published.LOST:
            self._doubtful.add(key)
        elif published is Published.UNROUTABLE:
            self._session.declarer.forget(queue.name)
            self._left[f"queue {queue.name} was deleted meanwhile"] += 1
        else:
            self._left[self._session.publisher.refusal] += 1
