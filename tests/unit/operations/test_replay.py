"""A replay never publishes again what may have arrived, and removes a letter only once its copy is confirmed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fake_broker import FakeBroker, letter, message
from taskqueue.amqp import Published
from taskqueue.config.load import load
from taskqueue.errors import BrokerUnavailable
from taskqueue.operations import replay as module
from taskqueue.operations.destinations import Destinations
from taskqueue.operations.replay import Replay, ReplayObserver, ReplayOutcome, Revival, rehearse
from taskqueue.operations.selection import Selection
from taskqueue.protocol.dead_letters import DeadLetter
from taskqueue.protocol.queues import DEAD

AMQP = load("/no/such/config.ini", environ={}).amqp


class Heard(ReplayObserver):
    """What a replay reported."""

    def __init__(self) -> None:
        self.passes = 0
        self.replays: list[tuple[str | None, str]] = []
        self.errors: list[str] = []

    def passed(self, letters: int) -> None:
        self.passes += letters

    def replayed(self, letter: DeadLetter, queue: str) -> None:
        self.replays.append((letter.message_id, queue))

    def resumed(self, error: BrokerUnavailable) -> None:
        self.errors.append(str(error))


@pytest.fixture
def broker() -> FakeBroker:
    broker = FakeBroker()
    broker.queue(DEAD, letter("a"), letter("b"), letter("c"))
    return broker


@pytest.fixture
def heard() -> Heard:
    return Heard()


def replay(broker: FakeBroker, heard: Heard, selection: Selection | None = None, **options: Any) -> Replay:
    return Replay(broker, AMQP, selection or Selection(), observer=heard, **options)


def test_each_letter_is_published_to_its_queue_and_removed(broker: FakeBroker, heard: Heard) -> None:
    outcome = replay(broker, heard).run()
    assert broker.session.publisher.published == [("worker_t", each, each.encode()) for each in ("a", "b", "c")]
    assert all(properties.headers is None for properties in broker.session.publisher.properties), "it begins anew"
    assert broker.session.declared == ["worker_t"] and broker.queues[DEAD].ids == []
    assert outcome == ReplayOutcome(3, 0, False, {}, frozenset())
    assert (heard.passes, heard.replays) == (3, [(each, "worker_t") for each in ("a", "b", "c")])


def test_a_letter_is_held_until_its_copy_is_confirmed(broker: FakeBroker, heard: Heard) -> None:
    broker.session.publisher.answers["b"] = None
    running = replay(broker, heard)
    with pytest.raises(BrokerUnavailable):
        running.run()
    assert broker.queues[DEAD].ids == ["b"] and heard.errors == [], "it is not published again"
    assert running.outcome == ReplayOutcome(2, 1, False, {}, frozenset())
    assert len(broker.session.publisher.published) == 3


@pytest.mark.parametrize(
    ("answer", "left"),
    [(Published.REFUSED, "too large"), (Published.UNROUTABLE, "queue worker_t was deleted meanwhile")],
)
def test_what_the_broker_does_not_take_stays_dead(
    broker: FakeBroker, heard: Heard, answer: Published, left: str
) -> None:
    broker.session.publisher.answers["b"] = answer
    assert replay(broker, heard).run() == ReplayOutcome(2, 0, False, {left: 1}, frozenset())
    assert broker.queues[DEAD].ids == ["b"]
    assert broker.session.forgotten == (["worker_t"] if answer is Published.UNROUTABLE else [])


def test_what_may_have_arrived_is_not_published_again(broker: FakeBroker, heard: Heard) -> None:
    broker.session.publisher.answers["b"] = Published.LOST
    broker.cuts = [2]
    outcome = replay(broker, heard).run()
    assert [each for _, each, _ in broker.session.publisher.published] == ["a", "b", "c"]
    assert broker.queues[DEAD].ids == ["b"] and heard.errors == ["the connection was cut"]
    assert outcome == ReplayOutcome(2, 1, False, {}, frozenset())


def test_what_was_replayed_and_comes_again_is_only_acked(broker: FakeBroker) -> None:
    broker.cuts = [2]
    dead = broker.queues[DEAD]
    first = dead.deliveries[0]

    class Again(Heard):
        def resumed(self, error: BrokerUnavailable) -> None:
            dead.put(first.properties, first.body, redelivered=True)  # its ack was lost with the connection
            dead.deliveries.insert(0, dead.deliveries.pop())

    assert replay(broker, Again()).run().replayed == 3
    assert [each for _, each, _ in broker.session.publisher.published] == ["a", "b", "c"]
    assert dead.ids == []


def test_a_connection_that_is_cut_again_before_anything_was_replayed_ends_it(broker: FakeBroker, heard: Heard) -> None:
    broker.cuts = [1, 0]
    with pytest.raises(BrokerUnavailable):
        replay(broker, heard).run()
    assert heard.errors == ["the connection was cut"] and broker.queues[DEAD].ids == ["b", "c"]


def test_letters_that_die_later_are_not_touched(broker: FakeBroker, heard: Heard) -> None:
    running = replay(broker, heard)
    broker.queue(DEAD, letter("later"))
    assert running.run().replayed == 3
    assert broker.queues[DEAD].ids == ["later"]


def test_no_more_are_under_way_than_the_window(
    broker: FakeBroker, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WINDOW", 2)
    replay(broker, heard).run()
    assert broker.session.publisher.most_under_way == 2


def test_a_stop_between_two_letters(broker: FakeBroker, heard: Heard) -> None:
    published = broker.session.publisher.published
    outcome = replay(broker, heard, stop=lambda: len(published) == 2).run()
    assert outcome == ReplayOutcome(2, 0, True, {}, frozenset())
    assert broker.queues[DEAD].ids == ["c"]


def test_no_faster_than_the_rate(broker: FakeBroker, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "monotonic", lambda: 1000.0)
    replay(broker, heard, rate_per_s=4).run()
    assert [each for each in broker.session.waited_until if each] == [1000.0, 1000.25, 1000.5]


def test_only_the_chosen_ones_and_ids_that_are_missing(broker: FakeBroker, heard: Heard) -> None:
    outcome = replay(broker, heard, Selection(ids=frozenset({"b", "gone"}))).run()
    assert (outcome.replayed, outcome.missing) == (1, {"gone"})
    assert broker.queues[DEAD].ids == ["a", "c"] and heard.passes == 3


HINDRANCES = {
    "worker_t": None, "worker_new.type": None, "taskqueue": None, "there": None,
    "nowhere": "there is no queue nowhere to send it to", DEAD: f"there is no queue {DEAD} to send it to",
    "": "it does not say which queue it died in", "x" * 256: f"there is no queue {'x' * 256} to send it to",
    "worker_a b": "there is no queue worker_a b to send it to",
}  # fmt: skip


@pytest.mark.parametrize(("name", "hindrance"), HINDRANCES.items(), ids=lambda value: str(value)[:20])
def test_where_a_letter_can_go(name: str, hindrance: str | None) -> None:
    broker = FakeBroker()
    broker.queue("there")
    assert Destinations(broker, AMQP).hindrance("", name) == hindrance
    assert Destinations(broker, AMQP).hindrance("a header of type x", name) == "a header of type x"


def test_what_cannot_go_anywhere_stays_and_a_rehearsal_says_so_before(heard: Heard) -> None:
    broker = FakeBroker()
    broker.queue(DEAD, letter("a"), letter("b", "nowhere"), message("silent"))
    lost, silent = HINDRANCES["nowhere"], HINDRANCES[""]
    rehearsed = [(each.letter.message_id, each.hindrance) for each in rehearse(broker, AMQP, Selection())]
    assert rehearsed == [("a", None), ("b", lost), ("silent", silent)]
    assert broker.session.publisher.published == []
    assert replay(broker, heard).run().left == {lost: 1, silent: 1}
    assert broker.queues[DEAD].ids == ["b", "silent"]


class Editing:
    """Changes the queue of each letter: to `goes_to`, by id; not at all where it has none."""

    def __init__(self, **goes_to: str) -> None:
        self._goes_to = goes_to
        self.hindrances: list[str | None] = []
        self.answers: list[tuple[str | None, bool]] = []

    def revise(self, letter: DeadLetter, revival: Revival, hindrance: Callable[[str], str | None]) -> Revival | None:
        queue = self._goes_to.get(letter.message_id or "")
        self.hindrances.append(hindrance(queue or ""))
        return None if queue is None else revival._replace(queue=queue, body=b"edited")

    def revised(self, letter: DeadLetter, replayed: bool) -> None:
        self.answers.append((letter.message_id, replayed))


def test_a_reviser_changes_what_is_published_and_hears_of_each(broker: FakeBroker, heard: Heard) -> None:
    broker.session.publisher.answers["c"] = Published.REFUSED
    editing = Editing(a="worker_u", c="worker_v")
    outcome = replay(broker, heard, reviser=editing).run()
    assert broker.session.publisher.published == [("worker_u", "a", b"edited"), ("worker_v", "c", b"edited")]
    assert editing.answers == [("a", True), ("c", False)] and editing.hindrances == [None, HINDRANCES[""], None]
    assert broker.queues[DEAD].ids == ["b", "c"] and outcome.replayed == 1
