"""Connection, Declarer, Publisher and Consumer against a real broker, with a proxy that cuts."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from broker import PrivateBroker, free_ports
from plain_amqp import PlainAmqp
from proxy import Proxy
from taskqueue.amqp import Connection, Consumer, Declarer, Delivery, Published, Publisher
from taskqueue.config.load import URL_VARIABLE, load
from taskqueue.config.settings import AmqpSettings
from taskqueue.foundation.loop import Loop
from taskqueue.protocol.properties import Properties
from taskqueue.protocol.queues import Queue
from turning import turn_until
from waiting import wait_for

Caught = pytest.LogCaptureFixture

PLAIN = Queue("plain", {})
QUORUM = Queue("quorum", {"x-queue-type": "quorum", "x-delivery-limit": 20})

_ids = itertools.count(1)


def settings_of(url: str) -> AmqpSettings:
    return load(environ={URL_VARIABLE: url}).amqp


class Rig:
    """A connection with a declarer and a publisher on a loop that the test turns."""

    def __init__(self, settings: AmqpSettings) -> None:
        self.loop = Loop()
        self.ups = self.downs = 0
        self.blocked: list[bool] = []
        self.answers: list[tuple[str, Published]] = []
        self.connection = Connection(
            self.loop, settings, "test", on_up=self._up, on_down=self._down, on_blocked=self.blocked.append
        )
        self.declarer = Declarer(self.connection)
        self.publisher = Publisher(self.connection)
        self.connection.start()

    def _up(self) -> None:
        self.ups += 1

    def _down(self) -> None:
        self.downs += 1

    def until(self, fact: Callable[[], Any], what: str = "", deadline_s: float = 10.0) -> Any:
        return turn_until(self.loop, fact, deadline_s, what)

    def ready(self) -> Rig:
        """Return once what is published leaves at once."""
        self.until(lambda: self.publisher.ready, "the publisher is ready")
        return self

    def declare(self, *queues: Queue) -> None:
        """Have `queues`."""
        done: list[Queue] = []
        for queue in queues:
            self.declarer.declare(queue, lambda queue=queue: done.append(queue))  # type: ignore[misc]
        self.until(lambda: len(done) == len(queues), "queues are declared")

    def publish(self, queue: str, body: bytes = b"body", **properties: Any) -> str:
        """Publish one message; its id. What becomes of it is in `answers`."""
        message_id = f"m{next(_ids)}"
        made = Properties(message_id=message_id, **properties)
        self.publisher.publish(queue, made, body, lambda published: self.answers.append((message_id, published)))
        return message_id

    def fill(self, queue: str, count: int) -> list[str]:
        """Publish `count` messages and wait for their confirms."""
        ids = [self.publish(queue, str(number).encode()) for number in range(count)]
        self.until(lambda: set(ids) <= {message_id for message_id, _ in self.answers}, "all are confirmed")
        return ids

    def consume(self, queue: Queue, prefetch: int = 10) -> Inbox:
        """Consume `queue`; returns once it does."""
        inbox = Inbox(self, queue, prefetch)
        self.until(lambda: inbox.consuming, "it consumes")
        return inbox

    def close(self) -> None:
        """Close the connection, and wait until it is."""
        closed: list[bool] = []
        self.connection.close(lambda: closed.append(True))
        self.until(lambda: closed, "the connection is closed")
        self.loop.close()


class Inbox:
    """A consumer and what it got."""

    def __init__(self, rig: Rig, queue: Queue, prefetch: int) -> None:
        self.rig = rig
        self.came: list[Delivery] = []
        self.lost = 0
        self.settled: set[tuple[int, int]] = set()
        self.consumer = Consumer(rig.connection, rig.declarer, queue, prefetch, self.came.append, self._on_lost)

    def _on_lost(self) -> None:
        self.lost += 1

    @property
    def consuming(self) -> bool:
        """Whether the broker has confirmed all consumers that it wants, and there is one."""
        return self.consumer.consuming

    @property
    def ids(self) -> list[str | None]:
        return [delivery.properties.message_id for delivery in self.came]

    def wait(self, count: int) -> list[Delivery]:
        """The first `count` deliveries."""
        self.rig.until(lambda: len(self.came) >= count, f"{count} deliveries")
        return self.came

    def settle(self, *deliveries: Delivery) -> None:
        for delivery in deliveries:
            self.settled.add((delivery.epoch, delivery.tag))
            assert self.consumer.settle(delivery)

    def settle_rest(self) -> None:
        """Settle what came and was not settled, and turn, so that acks leave."""
        for delivery in self.came:
            if (delivery.epoch, delivery.tag) not in self.settled and self.consumer.holds(delivery):
                self.settle(delivery)
        self.rig.loop.turn(0)
        self.rig.loop.turn(0)


@pytest.fixture
def make() -> Iterator[Callable[[str], Rig]]:
    """Makes rigs, closed at the end."""
    made: list[Rig] = []

    def rig(url: str) -> Rig:
        made.append(Rig(settings_of(url)))
        return made[-1]

    yield rig
    for each in made:
        if each.loop._running is not None and not each.loop._epoll.closed:
            each.close()


@pytest.fixture
def rig(make: Callable[[str], Rig], amqp_url: str) -> Rig:
    """A rig in the test's own vhost, ready."""
    return make(amqp_url).ready()


@pytest.fixture
def plain(amqp_url: str) -> Iterator[PlainAmqp]:
    """What another program sees."""
    with PlainAmqp(amqp_url) as client:
        yield client


# -- publishing


def test_published_is_confirmed_persistent_and_whole(rig: Rig, plain: PlainAmqp) -> None:
    rig.declare(PLAIN)
    sent = rig.publish(
        "plain", b"\0body", content_type="a/b", headers={"h": [1, {"x": True}]}, priority=3, expiration="60000"
    )
    rig.until(lambda: rig.answers)
    assert rig.answers == [(sent, Published.CONFIRMED)] and rig.publisher.unconfirmed == 0
    message = plain.take("plain")
    assert message.body == b"\0body" and message.headers == {"h": [1, {"x": True}]}
    properties = message.properties
    assert (properties.delivery_mode, properties.content_type, properties.priority, properties.expiration) == (
        2, "a/b", 3, "60000",
    )  # fmt: skip


def test_every_message_of_many_has_one_answer(rig: Rig, plain: PlainAmqp) -> None:
    rig.declare(QUORUM, PLAIN)
    ids = [rig.publish(("quorum", "plain")[number % 2], b"x" * (number % 7 * 1000)) for number in range(1000)]
    rig.until(lambda: rig.publisher.unconfirmed == 0 and len(rig.answers) >= 1000)
    assert Counter(rig.answers) == Counter((message_id, Published.CONFIRMED) for message_id in ids)
    assert plain.depth("plain") == plain.depth("quorum") == 500


def test_unroutable_is_told_apart_from_confirmed(rig: Rig) -> None:
    rig.declare(PLAIN)
    expected = {}
    for number in range(20):
        queue = "plain" if number % 2 else "no-such-queue"
        expected[rig.publish(queue)] = Published.CONFIRMED if number % 2 else Published.UNROUTABLE
    rig.until(lambda: len(rig.answers) == 20)
    assert dict(rig.answers) == expected


def test_a_body_of_many_frames_and_an_empty_one(rig: Rig, plain: PlainAmqp) -> None:
    rig.declare(PLAIN)
    rig.publish("plain", b"z" * 3_000_000)
    rig.publish("plain", b"")
    rig.until(lambda: len(rig.answers) == 2)
    assert [len(message.body) for message in plain.take_many("plain", 2)] == [3_000_000, 0]


def test_properties_that_amqp_cannot_carry_are_refused_and_nothing_else_suffers(rig: Rig) -> None:
    rig.declare(PLAIN)
    before = rig.publish("plain")
    refused = [rig.publish("plain", headers={"h": object()}), rig.publish("plain", type="x" * 256)]
    behind = rig.publish("plain")
    rig.until(lambda: len(rig.answers) == 4)
    assert dict(rig.answers) == {
        before: Published.CONFIRMED, **dict.fromkeys(refused, Published.REFUSED), behind: Published.CONFIRMED
    }  # fmt: skip


def test_published_before_the_channel_is_open_is_sent_when_it_is(make: Callable[[str], Rig], amqp_url: str) -> None:
    rig = make(amqp_url)
    early = rig.publish("plain")
    rig.until(lambda: rig.answers)
    assert rig.answers == [(early, Published.LOST)], "without a connection it is lost at once"
    rig.until(lambda: rig.connection.is_up)
    assert not rig.publisher.ready
    waiting = rig.publish("no-such-queue")
    rig.until(lambda: len(rig.answers) == 2)
    assert rig.answers[1] == (waiting, Published.UNROUTABLE)


# -- consuming and settling


def test_settled_in_order_in_multiples_and_behind_one_that_still_runs(rig: Rig, plain: PlainAmqp) -> None:
    rig.declare(QUORUM)
    ids = rig.fill("quorum", 10)
    inbox = rig.consume(QUORUM, prefetch=10)
    came = list(inbox.wait(10))
    assert inbox.ids == ids
    inbox.settle(*came[0:3], *came[4:6], came[8])
    rig.loop.turn(0)
    assert inbox.consumer.unsettled == 4
    inbox.settle(came[6])
    rig.loop.turn(0)
    left = [ids[3], ids[7], ids[9]]
    assert inbox.consumer.unsettled == 3
    rig.close()
    messages = plain.take_many("quorum", 3)
    assert [message.properties.message_id for message in messages] == left, "exactly those that were not settled"
    assert plain.take_now("quorum") is None


def test_prefetch_bounds_what_is_in_hand(rig: Rig, plain: PlainAmqp) -> None:
    rig.declare(QUORUM)
    rig.fill("quorum", 8)
    inbox = rig.consume(QUORUM, prefetch=3)
    inbox.wait(3)
    assert plain.depth("quorum") == 5
    for _ in range(20):
        rig.loop.turn(0.005)
    assert len(inbox.came) == 3
    inbox.settle(inbox.came[0])
    inbox.wait(4)
    assert len(inbox.came) == 4


@pytest.mark.parametrize("changes", [(50, 2), (1, 40, 3), (5, 6, 7, 8)])
def test_a_change_of_prefetch_loses_no_delivery_and_doubles_none(
    rig: Rig, plain: PlainAmqp, changes: tuple[int, ...]
) -> None:
    rig.declare(QUORUM)
    inbox = rig.consume(QUORUM, prefetch=20)
    ids = [rig.publish("quorum") for _ in range(100)]
    for prefetch in changes:
        inbox.consumer.set_prefetch(prefetch)
        ids += [rig.publish("quorum") for _ in range(100)]
        rig.loop.turn(0.002)
        inbox.settle_rest()
    rig.until(lambda: (inbox.settle_rest(), len(inbox.came) >= len(ids))[1], "all came")  # type: ignore[func-returns-value]
    assert Counter(inbox.ids) == Counter(ids)
    # What is between queue and channel when a consumer is cancelled comes again, once for each cancel at most; growing
    # prefetch cancels nobody.
    counts = [int((delivery.properties.headers or {}).get("x-delivery-count", 0)) for delivery in inbox.came]
    assert max(counts) <= len(changes)
    assert 1 <= plain.consumers("quorum") <= 4, "they do not pile up"
    assert inbox.lost == 0


def test_the_last_prefetch_is_the_one_that_holds(rig: Rig) -> None:
    rig.declare(QUORUM)
    inbox = rig.consume(QUORUM, prefetch=50)
    inbox.consumer.set_prefetch(4)
    rig.until(lambda: inbox.consuming)
    rig.fill("quorum", 30)
    inbox.wait(4)
    for _ in range(20):
        rig.loop.turn(0.005)
    assert len(inbox.came) == 4


def test_deliveries_of_an_earlier_prefetch_count_towards_the_new(rig: Rig) -> None:
    rig.declare(QUORUM)
    inbox = rig.consume(QUORUM, prefetch=10)
    rig.fill("quorum", 40)
    inbox.wait(10)
    inbox.consumer.set_prefetch(6)
    for _ in range(20):
        rig.loop.turn(0.005)
    assert len(inbox.came) == 10
    inbox.settle(*inbox.came[:9])
    inbox.wait(15)
    for _ in range(20):
        rig.loop.turn(0.005)
    assert len(inbox.came) == 15, "six are in hand: one of before, five new"


def test_pause_and_resume(rig: Rig, plain: PlainAmqp) -> None:
    rig.declare(PLAIN)
    inbox = rig.consume(PLAIN)
    rig.fill("plain", 2)
    inbox.wait(2)
    inbox.consumer.pause()
    rig.until(lambda: plain.consumers("plain") == 0)
    inbox.settle(inbox.came[0])
    rig.fill("plain", 3)
    rig.loop.turn(0.05)
    assert len(inbox.came) == 2
    inbox.settle(inbox.came[1])
    inbox.consumer.resume()
    inbox.consumer.resume()
    inbox.wait(5)
    assert plain.consumers("plain") == 1
    assert not any(delivery.redelivered for delivery in inbox.came)


def test_cancel_delivers_what_was_under_way_and_rejects_nothing(rig: Rig, plain: PlainAmqp) -> None:
    """What is rejected would count towards the delivery limit of a workitem that has done nothing wrong."""
    rig.declare(QUORUM)
    rig.fill("quorum", 200)
    inbox = rig.consume(QUORUM, prefetch=100)
    done: list[int] = []
    inbox.consumer.cancel(lambda: done.append(len(inbox.came)))
    rig.until(lambda: done, "it is cancelled")
    rig.until(lambda: plain.depth("quorum") == 200 - len(inbox.came))
    inbox.settle_rest()
    rig.until(lambda: plain.consumers("quorum") == 0)
    assert len(inbox.came) == done[0], "nothing came behind the word"
    messages = plain.take_many("quorum", 200 - done[0])
    assert [message for message in messages if message.headers.get("x-delivery-count")] == []
    assert len({*inbox.ids, *(message.properties.message_id for message in messages)}) == 200


@pytest.mark.parametrize("how", ["pause", "prefetch", "cancel"])
def test_no_delivery_count_is_raised_by_what_was_on_its_way(rig: Rig, plain: PlainAmqp, how: str) -> None:
    rig.declare(QUORUM)
    rig.fill("quorum", 300)
    for _ in range(3):
        inbox = rig.consume(QUORUM, prefetch=250)
        # On their way to us and unread. What has not left the queue's process when a consumer is cancelled the broker
        # itself returns, and counts (3.10: rabbit_fifo_client, deliveries of an unknown consumer).
        wait_for(lambda: plain.depth("quorum") == 50)
        if how == "pause":
            inbox.consumer.pause()
            rig.loop.turn(0.01)
            inbox.consumer.resume()
        elif how == "prefetch":
            for prefetch in (10, 200, 5):
                inbox.consumer.set_prefetch(prefetch)
                rig.loop.turn(0.002)
        done: list[bool] = []
        inbox.consumer.cancel(lambda done=done: done.append(True))  # type: ignore[misc]
        rig.until(lambda done=done: done)  # type: ignore[misc]
        # what a listener does at its end: a copy goes back, the original is settled
        for delivery in inbox.came:
            assert not (delivery.properties.headers or {}).get("x-delivery-count")
            rig.publish("quorum")
        inbox.settle_rest()
        rig.until(lambda: rig.publisher.unconfirmed == 0)
        rig.connection.remove(inbox.consumer)
    rig.until(lambda: plain.depth("quorum") == 300, "all are there, and none twice")
    assert not any(message.headers.get("x-delivery-count") for message in plain.take_many("quorum", 300))


def test_cancel_without_a_connection_is_done_at_once(make: Callable[[str], Rig], proxy: Proxy, vhost: str) -> None:
    proxy.refuse()
    rig = make(proxy.url(vhost))
    inbox = Inbox(rig, PLAIN, 1)
    done: list[bool] = []
    inbox.consumer.cancel(lambda: done.append(True))
    assert done == [True]


# -- declaring


def test_a_queue_with_other_arguments_is_used_as_it_is_with_one_warning(
    rig: Rig, plain: PlainAmqp, caplog: Caught
) -> None:
    plain.channel.queue_declare("quorum", durable=True, arguments={"x-max-length": 99})
    with caplog.at_level(logging.WARNING, "taskqueue"):
        rig.declare(QUORUM, PLAIN)
        inbox = rig.consume(QUORUM)
        rig.declarer.forget("quorum")
        rig.declare(QUORUM)
        (sent,) = rig.fill("quorum", 1)
        inbox.wait(1)
    assert inbox.ids == [sent]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "queue=quorum" in caplog.text and "406" in caplog.text


def test_a_declared_queue_is_not_declared_again(rig: Rig) -> None:
    rig.declare(PLAIN)
    done: list[bool] = []
    rig.declarer.declare(PLAIN, lambda: done.append(True))
    assert done == [True], "at once"
    rig.declarer.forget("plain")
    assert not rig.declarer.knows("plain")


def test_a_queue_that_may_not_be_made_is_told_and_no_other_waits_for_it(
    rig: Rig, broker: PrivateBroker, vhost: str, plain: PlainAmqp, caplog: Caught
) -> None:
    rig.declare(PLAIN)
    broker.ctl("set_vhost_limits", "-p", vhost, '{"max-queues": 1}')
    refused: list[str] = []
    done: list[str] = []
    with caplog.at_level(logging.WARNING, "taskqueue"):
        rig.declarer.declare(Queue("kept", {}), lambda: done.append("kept"))
        for number in range(3):
            rig.declarer.declare(Queue("new", {}), lambda: done.append("new"), refused.append)
            rig.declarer.declare(Queue(f"other{number}", {}), lambda: done.append("other"), refused.append)
        rig.declarer.declare(Queue("plain", {"x-max-length": 3}), lambda: done.append("plain"), refused.append)
        rig.declarer.forget("plain")
        rig.declarer.declare(Queue("plain", {"x-max-length": 3}), lambda: done.append("again"), refused.append)
        rig.until(lambda: len(refused) == 6 and "again" in done, "all but the first have an answer")
    assert all("queue limit" in why for why in refused), "the first no is told, not that there is no such queue"
    assert sorted(done) == ["again", "plain"]
    assert caplog.text.count("queue used as it is: queue=plain") == 1
    assert caplog.text.count("queue used as it is") == 1, "only of what exists"
    broker.ctl("clear_vhost_limits", "-p", vhost)
    rig.until(lambda: "kept" in done, "who has nobody to tell tries until it works")
    assert not rig.declarer._postponed and plain.exists("kept")


def test_names_are_not_remembered_without_end(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskqueue.amqp.declarer._KNOWN_LIMIT", 3)
    queues = [Queue(f"q{number}", {}) for number in range(6)]
    rig.declare(*queues)
    assert [rig.declarer.knows(queue.name) for queue in queues] == [False] * 3 + [True] * 3
    rig.declare(*queues)


def test_a_whole_prefetch_may_wait_for_one_queue(rig: Rig) -> None:
    """A dispatcher with 500 deliveries in hand for a type that is new."""
    done: list[int] = []

    def then_another(number: int) -> None:
        done.append(number)
        rig.declarer.declare(QUORUM, lambda: done.append(-number))

    for number in range(1, 3001):
        rig.declarer.declare(PLAIN, lambda number=number: then_another(number))  # type: ignore[misc]
    rig.until(lambda: len(done) >= 6000, "all are told")
    assert done == [*range(1, 3001), *range(-1, -3001, -1)]
    assert rig.downs == 0


def test_a_queue_deleted_under_its_consumer_is_declared_and_consumed_again(
    rig: Rig, plain: PlainAmqp, caplog: Caught
) -> None:
    rig.declare(QUORUM)
    inbox = rig.consume(QUORUM)
    plain.delete("quorum")
    rig.until(lambda: not inbox.consuming)
    rig.until(lambda: inbox.consuming)
    (sent,) = rig.fill("quorum", 1)
    inbox.wait(1)
    assert inbox.ids == [sent]
    assert plain.consumers("quorum") == 1


# -- connections that are lost


def test_a_cut_in_the_middle_of_publishes_is_reported_and_made_good(
    make: Callable[[str], Rig], proxy: Proxy, vhost: str, plain: PlainAmqp
) -> None:
    rig = make(proxy.url(vhost)).ready()
    rig.declare(QUORUM)
    inbox = rig.consume(QUORUM)
    rig.fill("quorum", 3)
    held = list(inbox.wait(3))
    ids = [rig.publish("quorum") for _ in range(50)]
    proxy.stall()
    rig.loop.turn(0)
    ids += [rig.publish("quorum") for _ in range(50)]
    rig.loop.turn(0)
    proxy.cut()
    proxy.resume()
    rig.until(lambda: rig.downs == 1)
    rig.until(lambda: len(rig.answers) == 103)
    fates = dict(rig.answers)
    assert {fates[message_id] for message_id in ids[50:]} == {Published.LOST}
    assert not rig.publisher.unconfirmed
    rig.ready()
    rig.until(lambda: inbox.consuming)
    assert not any(inbox.consumer.holds(delivery) for delivery in held)
    assert not inbox.consumer.settle(held[0]), "a delivery of a channel that is gone is never acked"
    assert inbox.lost
    confirmed = {message_id for message_id in ids if fates[message_id] is Published.CONFIRMED}
    assert rig.ups == 2
    rig.until(lambda: (inbox.settle_rest(), confirmed <= set(inbox.ids))[1])  # type: ignore[func-returns-value]
    rig.until(lambda: (inbox.settle_rest(), {d.properties.message_id for d in held} <= set(inbox.ids[3:]))[1])  # type: ignore[func-returns-value]


def test_the_next_host_of_a_list_is_used_when_the_first_refuses(
    make: Callable[[str], Rig], proxy: Proxy, broker: PrivateBroker, vhost: str, caplog: Caught
) -> None:
    (dead,) = free_ports(1)
    url = proxy.url(vhost).replace(f"127.0.0.1:{proxy.port}", f"127.0.0.1:{dead},127.0.0.1:{proxy.port}")
    with caplog.at_level(logging.INFO, "taskqueue"):
        rig = make(url).ready()
        assert rig.connection.host == f"127.0.0.1:{proxy.port}"
        assert "refused" in caplog.text
        proxy.cut()
        rig.until(lambda: rig.downs == 1)
        rig.until(lambda: rig.ups == 2)
    assert proxy.accepted == 2


def test_the_next_host_of_a_list_is_used_when_the_first_says_nothing(
    make: Callable[[str], Rig], broker: PrivateBroker, proxy: Proxy, vhost: str
) -> None:
    proxy.stall()
    rig = Rig(
        replace(settings_of(proxy.url(vhost)), hosts=(("127.0.0.1", proxy.port), ("127.0.0.1", broker.port)))
    )  # fmt: skip
    rig.until(lambda: rig.publisher.ready, "before the timeout of a single host, 15 s", deadline_s=14)
    assert rig.connection.host.endswith(str(broker.port))
    rig.close()


def test_a_broker_that_is_away_is_told_once_and_found_when_it_is_back(
    make: Callable[[str], Rig], proxy: Proxy, vhost: str, caplog: Caught
) -> None:
    proxy.refuse()
    with caplog.at_level(logging.INFO, "taskqueue"):
        rig = make(proxy.url(vhost))
        rig.until(lambda: rig.connection._hosts.backoff.tries >= 3)
        told = rig.connection.trouble
        assert told and not rig.connection.refused
        assert len(caplog.records) == 1, "one line, however often it is tried"
        proxy.accept()
        rig.ready()
    assert rig.connection.trouble is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_wrong_password_is_a_refusal_told_once_without_the_password(
    make: Callable[[str], Rig], broker: PrivateBroker, vhost: str, caplog: Caught
) -> None:
    with caplog.at_level(logging.DEBUG, "taskqueue"):
        rig = make(broker.url(vhost, password="S3cret!"))
        rig.until(lambda: rig.connection._hosts.backoff.tries >= 2)
    assert rig.connection.refused and not rig.connection.is_up
    errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(errors) == 1 and errors[0].levelname == "ERROR" and "password" in caplog.text
    assert "S3cret" not in caplog.text


def test_a_vhost_that_is_not_there_is_a_refusal(
    make: Callable[[str], Rig], broker: PrivateBroker, caplog: Caught
) -> None:
    rig = make(broker.url("no-such-vhost"))
    rig.until(lambda: rig.connection.trouble)
    assert rig.connection.refused and "vhost" in (rig.connection.trouble or "")


def test_a_broker_that_hangs_is_noticed_by_its_heartbeat(proxy: Proxy, vhost: str) -> None:
    rig = Rig(replace(settings_of(proxy.url(vhost)), heartbeat_s=1)).ready()
    proxy.stall()
    rig.until(lambda: rig.downs == 1, "it is noticed before pika does, after 6 to 12 s", deadline_s=5.5)
    assert "heartbeat" in (rig.connection.trouble or "")
    proxy.cut()
    proxy.resume()
    rig.ready()
    rig.close()


# -- channels that the broker closes


def test_an_ack_of_an_unknown_tag_costs_only_the_channel(rig: Rig, caplog: Caught) -> None:
    rig.declare(QUORUM)
    inbox = rig.consume(QUORUM)
    ids = rig.fill("quorum", 2)
    inbox.wait(2)
    with caplog.at_level(logging.WARNING, "taskqueue"):
        inbox.consumer._channel.channel.basic_ack(999)
        rig.until(lambda: inbox.lost == 1)
        assert not inbox.consumer.settle(inbox.came[0])
        inbox.wait(4)
    assert sorted(inbox.ids[2:], key=str) == sorted(ids) and inbox.came[2].redelivered
    assert inbox.came[2].epoch > inbox.came[0].epoch
    assert rig.downs == 0
    assert "406" in caplog.text


def test_a_consumer_timeout_costs_only_the_channel(rig: Rig, broker: PrivateBroker) -> None:
    kept = broker.eval(
        "{application:get_env(rabbit, consumer_timeout), application:get_env(rabbit, channel_tick_interval)}."
    )
    broker.eval("application:set_env(rabbit, consumer_timeout, 100).")
    broker.eval("application:set_env(rabbit, channel_tick_interval, 100).")
    try:
        rig.declare(QUORUM)
        (sent,) = rig.fill("quorum", 1)
        inbox = rig.consume(QUORUM)
        inbox.wait(1)
        rig.until(lambda: inbox.lost == 1, "the broker ends the delivery", deadline_s=8)
    finally:
        broker.eval("application:set_env(rabbit, consumer_timeout, 1800000).")
        broker.eval("application:set_env(rabbit, channel_tick_interval, 60000).")
    assert "1800000" in kept, "what was put back is what was there"
    rig.until(lambda: len(inbox.came) >= 2, "it is delivered again")
    assert set(inbox.ids) == {sent} and rig.downs == 0
    inbox.settle_rest()


def test_a_consumer_without_an_answer_tries_another_channel(
    rig: Rig, plain: PlainAmqp, broker: PrivateBroker, vhost: str
) -> None:
    """As where a queue's leader is cut off: the channel that asks it is blocked, and a new one may not be."""
    rig.declare(PLAIN)
    found = f'rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"plain">>))'
    broker.eval(f"{{ok, Q}} = {found}, ok = sys:suspend(amqqueue:get_pid(Q)).")
    inbox = Inbox(rig, PLAIN, 10)
    try:
        rig.until(lambda: inbox.lost == 1, "the first channel is given up")
    finally:
        broker.eval(f"{{ok, Q}} = {found}, ok = sys:resume(amqqueue:get_pid(Q)).")
    rig.until(lambda: inbox.consuming, "it consumes")
    rig.until(lambda: plain.consumers("plain") == 1, "the first consumer is cancelled")
    sent = [plain.submit("body", "plain", message_id=f"sent{number}") for number in range(20)]
    while len({delivery.properties.message_id for delivery in inbox.came}) < len(sent):
        inbox.settle_rest()
    assert len(inbox.came) == len(sent) and rig.downs == 0


def test_a_publish_without_an_answer_holds_up_no_other(
    rig: Rig, plain: PlainAmqp, broker: PrivateBroker, vhost: str, caplog: Caught
) -> None:
    other = Queue("other", {})
    rig.declare(PLAIN, other)
    found = f'rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"plain">>))'
    broker.eval(f"{{ok, Q}} = {found}, ok = sys:suspend(amqqueue:get_pid(Q)).")
    try:
        sent = [rig.publish("plain") for _ in range(50)]
        rig.until(lambda: caplog.text.count("does not answer a publish") == 2, "another channel is tried")
        beside = rig.publish("other")
        rig.until(lambda: rig.answers == [(beside, Published.CONFIRMED)])
    finally:
        broker.eval(f"{{ok, Q}} = {found}, ok = sys:resume(amqqueue:get_pid(Q)).")
    rig.until(lambda: len(rig.answers) == 51)
    assert plain.depth("plain") == len(sent), "each was published once"
    assert rig.publisher.unconfirmed == 0 and rig.downs == 0


def test_what_is_settled_before_the_end_is_not_delivered_again(
    rig: Rig, plain: PlainAmqp, broker: PrivateBroker, vhost: str
) -> None:
    """A quorum queue that is slow to take acks: the broker forgets those beyond 32 under way when a channel closes."""
    rig.declare(QUORUM)
    rig.fill("quorum", 100)
    inbox = rig.consume(QUORUM, prefetch=100)
    inbox.wait(100)
    ended: list[bool] = []
    inbox.consumer.cancel(lambda: ended.append(True))
    rig.until(lambda: ended, "no more can come")
    found = f'rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"quorum">>))'
    broker.eval(f"{{ok, Q}} = {found}, ok = sys:suspend(amqqueue:get_pid(Q)).")
    try:
        for delivery in reversed(inbox.came):  # the worst order: none can be acked with those before it
            inbox.settle(delivery)
            rig.loop.turn(0)
        rig.close()
    finally:
        broker.eval(f"{{ok, Q}} = {found}, ok = sys:resume(amqqueue:get_pid(Q)).")
    wait_for(lambda: plain.consumers("quorum") == 0, 10, "the channel is gone")
    assert plain.depth("quorum") == 0


@pytest.mark.parametrize("bodies", [[3], [0], [39], [3, 4, 30], list(range(40))], ids=str)
def test_what_the_broker_refuses_is_found_out_and_nothing_else_waits_for_it(
    make: Callable[[str], Rig], amqp_url: str, broker: PrivateBroker, plain: PlainAmqp, bodies: list[int]
) -> None:
    """Bodies over max_message_size: the broker closes the channel, and says neither for which nor what of the rest."""
    with broker.max_message_size(1000):
        rig = make(amqp_url).ready()
        rig.declare(QUORUM)
        refused = set()
        for number in range(40):
            if number in bodies:
                refused.add(rig.publish("quorum", b"x" * 2000))
            else:
                rig.publish("quorum")
        reasons = []
        last = Properties(message_id="last")
        rig.publisher.publish("quorum", last, b"x" * 3000, lambda _: reasons.append(rig.publisher.refusal))
        rig.until(lambda: len(rig.answers) == 40 and reasons, "each has an answer")
    assert {message_id for message_id, published in rig.answers if published is Published.REFUSED} == refused
    assert Counter(published for _, published in rig.answers)[Published.CONFIRMED] == 40 - len(bodies)
    assert "message size 3000" in reasons[0] and rig.downs == 0 and rig.publisher.unconfirmed == 0
    came = {message.properties.message_id for message in iter(lambda: plain.take_now("quorum"), None)}
    assert came == {message_id for message_id, _ in rig.answers} - refused


def test_headers_that_no_frame_holds_are_refused_before_they_cost_the_connection(rig: Rig, plain: PlainAmqp) -> None:
    rig.declare(PLAIN)
    most = 131_072 - 8 - 12 - 2 - 4 - (1 + 1 + 5)  # frame, class and size of the body, flags, table, field
    most -= 1 + len("m9999") + 1  # message_id, delivery_mode
    refused = [rig.publish("plain", headers={"h": "x" * (most + 10)}), rig.publish("plain", headers={"h": "x" * 10**6})]
    fits = rig.publish("plain", headers={"h": "x" * (most - 10)})
    rig.until(lambda: len(rig.answers) == 3)
    assert dict(rig.answers) == {**dict.fromkeys(refused, Published.REFUSED), fits: Published.CONFIRMED}
    assert rig.downs == 0 and plain.depth("plain") == 1


def test_a_full_queue_has_no_other_wait_and_is_tried_until_it_has_room(
    rig: Rig, plain: PlainAmqp, caplog: Caught
) -> None:
    """It nacks; what is published beside it is published once."""
    full = Queue("full", {"x-max-length": 1, "x-overflow": "reject-publish"})
    rig.declare(PLAIN, full)
    rig.fill("full", 1)
    rig.answers.clear()
    with caplog.at_level(logging.WARNING, "taskqueue"):
        nacked = {rig.publish("full") for _ in range(3)}
        ids = []
        for _ in range(20):
            ids += [rig.publish("plain") for _ in range(10)]
            rig.loop.turn(0.01)
        rig.until(lambda: len(rig.answers) == 200, "the others are confirmed")
    assert {message_id for message_id, _ in rig.answers} == set(ids)
    assert Counter(message.properties.message_id for message in plain.take_many("plain", 200)) == Counter(ids)
    assert plain.take_now("plain") is None, "none was published twice"
    assert "broker did not take a message: queue=full" in caplog.text
    rig.until(lambda: plain.take_now("full") is None and len(rig.answers) == 203, "there is room, one by one", 30)
    assert {message_id for message_id, _ in rig.answers} == {*ids, *nacked} and rig.downs == 0


def test_nacked_messages_are_lost_with_the_connection(rig: Rig, proxy: Proxy, vhost: str, make: Any) -> None:
    far = make(proxy.url(vhost)).ready()
    far.declare(Queue("full", {"x-max-length": 1, "x-overflow": "reject-publish"}))
    far.fill("full", 1)
    nacked = far.publish("full")
    far.until(lambda: far.publisher._backing_off)
    proxy.cut()
    far.until(lambda: (nacked, Published.LOST) in far.answers)
    assert far.publisher.unconfirmed == 0


def test_permissions_that_are_withdrawn_and_given_back(
    rig: Rig, broker: PrivateBroker, vhost: str, plain: PlainAmqp, caplog: Caught
) -> None:
    """403 is for all messages: none is refused for it, each is published when a person has seen to it."""
    rig.declare(PLAIN)
    guest = '<<"guest">>'
    may = f'rabbit_auth_backend_internal:set_permissions({guest}, <<"{{}}">>, <<".*">>, <<"{{}}">>, <<".*">>, {guest}).'
    with caplog.at_level(logging.WARNING, "taskqueue"):
        broker.eval(may.format(vhost, "^$"))
        try:
            ids = {rig.publish("plain") for _ in range(5)}
            rig.until(lambda: caplog.text.count("403") >= 3, "it is tried again")
            assert rig.answers == []
        finally:
            broker.eval(may.format(vhost, ".*"))
    rig.until(lambda: len(rig.answers) == 5)
    assert set(rig.answers) == {(message_id, Published.CONFIRMED) for message_id in ids}


def test_many_with_one_message_id_that_all_come_back(rig: Rig) -> None:
    answers: list[Published] = []
    for _ in range(50):
        rig.publisher.publish("no-such-queue", Properties(message_id="same"), b"", answers.append)
    rig.until(lambda: len(answers) == 50)
    assert set(answers) == {Published.UNROUTABLE}
    assert rig.publisher._channel is not None and not rig.publisher._channel._returned


# -- alarms


def test_a_blocked_connection_pauses_and_resumes_by_itself(rig: Rig, broker: PrivateBroker, caplog: Caught) -> None:
    rig.declare(PLAIN)
    watermark = broker.eval("vm_memory_monitor:get_vm_memory_high_watermark().")
    with caplog.at_level(logging.INFO, "taskqueue"):
        broker.eval("vm_memory_monitor:set_vm_memory_high_watermark(0.000001).")
        try:
            # the broker tells a connection at its first publish after the alarm, which reaches it some time after the
            # eval has returned: what it takes until then is confirmed
            sent: list[str] = []
            rig.until(lambda: rig.blocked or sent.append(rig.publish("plain")), "it is told")
            assert (rig.blocked, rig.connection.blocked, rig.connection.is_up) == ([True], True, True)
            assert len(rig.answers) < len(sent)
        finally:
            broker.eval(f"vm_memory_monitor:set_vm_memory_high_watermark({watermark}).")
        rig.until(lambda: len(rig.answers) == len(sent), "all is taken when the alarm is over", deadline_s=15)
    assert rig.answers == [(message_id, Published.CONFIRMED) for message_id in sent]
    rig.until(lambda: rig.blocked == [True, False])
    assert (rig.connection.blocked, rig.downs) == (False, 0)
    assert [record.levelname for record in caplog.records if "takes" in record.getMessage()] == ["WARNING", "INFO"]


# -- the end


def test_close_flushes_what_was_published_and_settled(rig: Rig, plain: PlainAmqp) -> None:
    rig.declare(QUORUM)
    rig.fill("quorum", 5)
    inbox = rig.consume(QUORUM)
    inbox.settle(*inbox.wait(5))
    sent = [rig.publish("quorum") for _ in range(20)]
    rig.close()
    messages = plain.take_many("quorum", 20)
    assert [message.properties.message_id for message in messages] == sent
    assert plain.take_now("quorum") is None


def test_close_before_it_was_ever_up(make: Callable[[str], Rig], proxy: Proxy, vhost: str) -> None:
    proxy.refuse()
    rig = make(proxy.url(vhost))
    rig.loop.turn(0)
    rig.close()


def test_close_while_it_connects_leaves_no_connection_behind(
    make: Callable[[str], Rig], proxy: Proxy, vhost: str
) -> None:
    proxy.stall()
    rig = make(proxy.url(vhost))
    turn_until(rig.loop, lambda: proxy.open_links == 1)
    closed: list[bool] = []
    rig.connection.close(lambda: closed.append(True))
    turn_until(rig.loop, lambda: closed)
    proxy.resume()
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline and rig.ups == 0:
        rig.loop.turn(0.02)
    assert rig.ups == 0, "a connection that was closed comes up"
    assert proxy.open_links == 0
    rig.loop.close()


def test_a_user_that_comes_late_is_told_that_the_connection_is_up(rig: Rig) -> None:
    late = Publisher(rig.connection)
    rig.until(lambda: late.ready)


# -- errors that nobody expected


def test_an_owner_that_raises_costs_no_other_its_confirm_and_the_connection_comes_back(
    rig: Rig, plain: PlainAmqp, caplog: Caught
) -> None:
    rig.declare(QUORUM)
    ids = [rig.publish("quorum") for _ in range(20)]
    for _ in range(3):
        rig.publisher.publish("quorum", Properties(message_id="bad"), b"", lambda published: 1 // 0)  # type: ignore[arg-type,return-value]
    ids += [rig.publish("quorum") for _ in range(20)]
    rig.until(lambda: rig.downs == 1, "the connection is closed")
    rig.until(lambda: len(rig.answers) == 40, "each has its outcome")
    assert {message_id for message_id, _ in rig.answers} == set(ids)
    assert caplog.text.count("unexpected error: callback=") == caplog.text.count("Traceback") == 1
    rig.until(lambda: rig.ups == 2, "it comes back")
    rig.ready()
    (sent,) = rig.fill("quorum", 1)
    assert (sent, Published.CONFIRMED) in rig.answers and rig.downs == 1


@pytest.mark.parametrize("where", ["on_delivery", "on_lost", "declared", "refused"])
def test_an_error_of_any_callback_ends_the_connection_and_not_the_loop(
    rig: Rig, plain: PlainAmqp, caplog: Caught, where: str
) -> None:
    """Deliveries that were settled in the same turn are acked; the one that raised is delivered again."""
    failing = [True]

    def fail_once(*_: object) -> None:
        if failing:
            failing.clear()
            raise KeyError(where)

    rig.declare(QUORUM)
    rig.fill("quorum", 3)
    inbox = rig.consume(QUORUM)
    first, second, _ = inbox.wait(3)
    inbox.settle(first)
    match where:
        case "on_delivery":
            inbox.consumer._on_delivery = lambda delivery: (inbox.came.append(delivery), fail_once())[0]
            plain.submit("body", "quorum", message_id="fourth")
        case "on_lost":
            inbox.consumer._on_lost = fail_once
            assert inbox.consumer._channel is not None
            inbox.consumer._channel.channel.basic_ack(999)
        case "declared":
            rig.declarer.declare(Queue("other", {}), fail_once)
        case "refused":
            rig.declarer.declare(Queue("amq.reserved", {}), lambda: None, fail_once)
    rig.until(lambda: not failing and rig.downs == 1, "the connection is closed")
    assert caplog.text.count(f"KeyError: '{where}'") == caplog.text.count("Traceback") == 1
    rig.until(lambda: rig.ups == 2 and inbox.consuming, "it consumes again")
    assert not second.held
    rig.until(lambda: second.properties.message_id in inbox.ids[3:], "it is delivered again")
    if where != "on_lost":  # there the channel was closed by the broker before the ack left
        assert first.properties.message_id not in inbox.ids[3:], "its ack has left"
    inbox.settle_rest()


def test_an_error_that_comes_each_time_backs_off_and_is_logged_once(rig: Rig, caplog: Caught) -> None:
    rig.declare(QUORUM)
    rig.fill("quorum", 1)
    tries: list[float] = []

    def fail(delivery: Delivery) -> None:
        tries.append(time.monotonic())
        raise KeyError("fields")

    Consumer(rig.connection, rig.declarer, QUORUM, 10, fail)
    rig.until(lambda: len(tries) == 4, "it is tried again", deadline_s=20)
    waits = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert waits[0] > 0.18 and waits[1] > 0.37 and waits[2] > 0.75, waits
    assert caplog.text.count("Traceback") == 1 and "KeyError: 'fields'" in caplog.text
