"""The operator's connection: looks without making or taking anything, however often; takes only what is named."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import PrivateBroker, free_ports
from plain_amqp import PlainAmqp
from proxy import Proxy
from taskqueue.amqp import Counts
from taskqueue.config.load import URL_VARIABLE as AMQP_URL_VARIABLE
from taskqueue.config.load import load
from taskqueue.config.settings import AmqpSettings
from taskqueue.errors import BrokerRefused, BrokerUnavailable
from taskqueue.operations.broker import Broker
from taskqueue.operations.giving_back import RETURNS_LIMIT
from taskqueue.operations.management import URL_VARIABLE, Management
from taskqueue.protocol.properties import Properties
from taskqueue.protocol.queues import Queue
from waiting import wait_for

QUORUM = Queue("quorum", {"x-queue-type": "quorum"})
LIMITED = Queue("limited", {"x-queue-type": "quorum", "x-delivery-limit": 20})
"""What RabbitMQ 4 makes of every quorum queue: what went back more often is dropped, here with no place to go."""
PLAIN = Queue("plain", {})


def amqp_of(url: str) -> AmqpSettings:
    return load(environ={AMQP_URL_VARIABLE: url}).amqp


@pytest.fixture
def plain(amqp_url: str) -> Iterator[PlainAmqp]:
    """What another program sees."""
    with PlainAmqp(amqp_url) as client:
        yield client


@pytest.fixture
def operator(amqp_url: str) -> Iterator[Broker]:
    """A connection in the test's own vhost."""
    with Broker(amqp_of(amqp_url), timeout_s=10) as broker:
        yield broker


def fill(operator: Broker, queue: Queue, count: int) -> list[str]:
    """Publish `count` messages; their ids."""
    ids = [f"{queue.name}-{number}" for number in range(count)]
    outbox = operator.outbox()
    for number, message_id in enumerate(ids):
        properties = Properties(message_id=message_id, headers={"n": number}, content_type="text/plain")
        outbox.publish(queue, properties, message_id.encode(), lambda: None)
    outbox.settle()
    return ids


def ids_in(operator: Broker, queue: str) -> list[str | None]:
    with operator.read(queue) as reading:
        return [message.properties.message_id for message in reading]


# -- connecting


def test_what_the_broker_says_of_itself(operator: Broker, broker: PrivateBroker) -> None:
    server = operator.server
    assert server.host == f"127.0.0.1:{broker.port}"
    assert (
        server.product == "RabbitMQ"
        and server.version[0].isdigit()
        and server.cluster_name.split("@")[0] == broker.node.split("@")[0]
    )


def test_a_broker_that_is_not_there_is_told_at_once(amqp_url: str) -> None:
    closed, other = free_ports(2)
    amqp = amqp_of(f"amqp://guest:guest@127.0.0.1:{closed},127.0.0.1:{other}/")
    before = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="connection refused"), Broker(amqp, timeout_s=60):
        pass
    assert time.monotonic() - before < 30, "each host once; no retries"


def test_the_next_host_is_tried(amqp_url: str, broker: PrivateBroker) -> None:
    (closed,) = free_ports(1)
    with Broker(amqp_of(amqp_url.replace("@", f"@127.0.0.1:{closed},"))) as operator:
        assert operator.server.host == f"127.0.0.1:{broker.port}"


@pytest.mark.parametrize(("user", "vhost"), [("guest:wrong", ""), ("guest:guest", "no-such-vhost")])
def test_a_broker_that_refuses(broker: PrivateBroker, user: str, vhost: str) -> None:
    amqp = amqp_of(f"amqp://{user}@127.0.0.1:{broker.port}/{vhost}")
    with pytest.raises(BrokerRefused, match="refuses"), Broker(amqp):
        pass


# -- looking, purging, deleting


def test_counts_and_no_queue_is_made_by_looking(operator: Broker, plain: PlainAmqp) -> None:
    fill(operator, QUORUM, 3)
    assert operator.counts_of(["no-such", "quorum", "no-such-either"]) == {
        "no-such": None, "quorum": Counts(3, 0), "no-such-either": None
    }  # fmt: skip
    assert operator.purge("no-such") is None
    assert ids_in(operator, "no-such") == []
    assert not plain.exists("no-such")
    assert operator.counts("quorum") == Counts(3, 0)


def test_purge_and_delete(operator: Broker, plain: PlainAmqp) -> None:
    fill(operator, QUORUM, 5)
    assert operator.purge("quorum") == 5
    assert operator.counts("quorum") == Counts(0, 0)
    fill(operator, QUORUM, 2)
    assert operator.delete("quorum") == 2
    assert not plain.exists("quorum")
    assert not operator.delete("quorum"), "RabbitMQ says 0"


def test_what_a_user_may_not_is_refused_by_name(broker: PrivateBroker, vhost: str, operator: Broker) -> None:
    fill(operator, PLAIN, 1)
    user = f"reader-{vhost.split('-')[0]}"
    broker.ctl("add_user", user, "secret")
    broker.ctl("set_permissions", "-p", vhost, user, "^$", "^$", "^other$")
    with Broker(amqp_of(broker.url(vhost, user, "secret"))) as limited:
        with pytest.raises(BrokerRefused, match="queue plain: 403"):
            limited.purge("plain")
        with pytest.raises(BrokerRefused, match="queue plain: 403"), limited.read("plain") as reading:
            list(reading)
        with pytest.raises(BrokerRefused, match="queue new: 403"):
            limited.publish(Queue("new", {}), Properties(message_id="m"), b"")
        with pytest.raises(BrokerRefused, match="no permission to publish: 403"):
            limited.publish(PLAIN, Properties(message_id="m"), b"")
        assert limited.counts("plain") == Counts(1, 0), "the next question is answered"
    assert operator.counts("plain") == Counts(1, 0)


# -- reading


@pytest.mark.parametrize("queue", [QUORUM, PLAIN], ids=lambda queue: queue.name)
def test_reading_takes_nothing(operator: Broker, plain: PlainAmqp, queue: Queue) -> None:
    ids = fill(operator, queue, 1000)
    with operator.read(queue.name) as reading:
        read = [(message.properties.message_id, message.body.decode()) for message in reading]
        assert reading.expected == 1000
        assert operator.counts(queue.name) == Counts(0, plain.consumers(queue.name)), "all is in hand"
    assert read == [(message_id, message_id) for message_id in ids], "in order"
    assert operator.counts(queue.name) == Counts(1000, 0)
    assert [message.properties.message_id for message in plain.take_many(queue.name, 1000)] == ids


def test_what_is_taken_is_gone_and_nothing_else(operator: Broker, plain: PlainAmqp) -> None:
    ids = fill(operator, QUORUM, 500)
    with operator.read("quorum") as reading:
        for number, message in enumerate(reading):
            if number % 5 == 0:
                assert message.take()
    left = [message_id for number, message_id in enumerate(ids) if number % 5]
    assert operator.counts("quorum") == Counts(400, 0)
    assert [message.properties.message_id for message in plain.take_many("quorum", 400)] == left


def test_what_was_taken_last_is_not_in_the_queue_again(operator: Broker, plain: PlainAmqp) -> None:
    """RabbitMQ stashes acks that come fast, and forgets the stash when the channel is closed."""
    for number in range(5):
        fill(operator, QUORUM, 400)
        with operator.read("quorum") as reading:
            messages = list(reading)
            for message in messages[:: 1 + number % 2]:
                message.take()
        left = 200 * (number % 2)
        assert operator.counts("quorum") == Counts(left, 0)
        assert plain.purge("quorum") == left


def test_claimed_is_taken_when_its_copy_is_confirmed(operator: Broker, plain: PlainAmqp) -> None:
    ids = fill(operator, QUORUM, 300)
    with operator.read("quorum") as reading:
        outbox = operator.outbox(window=50)
        for message in reading:
            message.claim()
            outbox.publish(PLAIN, message.properties, message.body, message.take)
        outbox.settle()
    assert operator.counts_of(["quorum", "plain"]) == {"quorum": Counts(0, 0), "plain": Counts(300, 0)}
    assert [message.properties.message_id for message in plain.take_many("plain", 300)] == ids


def test_a_limit_and_an_end_before_it(operator: Broker) -> None:
    ids = fill(operator, QUORUM, 300)
    with operator.read("quorum", limit=7) as reading:
        assert [message.properties.message_id for message in reading] == ids[:7]
    with operator.read("quorum", limit=1000) as reading:
        assert len(list(reading)) == 300
    with operator.read("quorum") as reading:
        assert next(iter(reading)).properties.message_id in ids
    assert operator.counts("quorum") == Counts(300, 0)


def test_it_ends_where_others_took_what_was_counted(operator: Broker, plain: PlainAmqp) -> None:
    fill(operator, QUORUM, 350)
    taken: list[int] = []
    with operator.read("quorum") as reading:
        for number, _message in enumerate(reading):
            if number == 0:
                taken.append(plain.purge("quorum"))
        seen = number + 1
    assert taken[0] > 0 and seen + taken[0] == 350


def test_follow_gives_what_comes(operator: Broker, plain: PlainAmqp) -> None:
    fill(operator, QUORUM, 2)
    read = []
    with operator.read("quorum", follow=True) as reading:
        for message in reading:
            read.append(message.properties.message_id)
            if len(read) == 2:
                plain.submit("late", "quorum", message_id="late")
            if len(read) == 3:
                break
    assert read[-1] == "late"
    assert operator.counts("quorum") == Counts(3, 0)


# -- a delivery limit


def returned(plain: PlainAmqp, queue: str, count: int) -> dict[str, int]:
    """How often each message went back, by its id; they are taken for that."""
    return {message.properties.message_id: message.returned for message in plain.take_many(queue, count)}


def test_who_waits_for_many_to_go_back_is_told(
    amqp_url: str, plain: PlainAmqp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskqueue.operations.giving_back._MANY", 1000)
    told: list[str] = []
    with Broker(amqp_of(amqp_url), timeout_s=10, trouble=told.append) as operator:
        fill(operator, QUORUM, 1000)
        assert len(ids_in(operator, QUORUM.name)) == 1000
        assert told == ["queue quorum: the broker takes back 1,000 messages; this may last"]
        fill(operator, PLAIN, 999)
        assert len(ids_in(operator, PLAIN.name)) == 999
        assert len(told) == 1
    assert plain.depth(QUORUM.name) == 1000


def test_reading_again_and_again_loses_nothing(operator: Broker, plain: PlainAmqp) -> None:
    """More often than the delivery limit; to the end, or only the first; and each reading sees each message once."""
    ids = fill(operator, LIMITED, 250)
    most = 0
    for round_number in range(50):
        with operator.read("limited") as reading:
            if round_number % 2:
                next(iter(reading))
                continue
            read = {}
            for message in reading:
                assert message.properties.message_id not in read
                read[message.properties.message_id] = (message.properties.headers or {}).get("x-delivery-count", 0)
        assert read.keys() == set(ids)
        most = max(most, *read.values())
    assert most == RETURNS_LIMIT
    assert operator.counts("limited") == Counts(250, 0)
    messages = plain.take_many("limited", 250)
    assert {message.properties.message_id for message in messages} == set(ids)
    assert all(message.text == message.properties.message_id for message in messages)
    assert all(message.headers == {"n": int(message.text.split("-")[1])} for message in messages), "copied whole"


def test_following_does_not_see_what_it_put_back(operator: Broker, plain: PlainAmqp) -> None:
    ids = fill(operator, LIMITED, 3)
    for _ in range(RETURNS_LIMIT + 1):
        ids_in(operator, "limited")
    for _ in range(RETURNS_LIMIT + 2):
        read = []
        with operator.read("limited", follow=True) as reading:
            for message in reading:
                read.append(message.properties.message_id)
                if len(read) == 3:
                    plain.submit("", "limited", message_id="late")
                if message.properties.message_id == "late":
                    message.take()
                    break
        assert sorted(read[:-1]) == ids
    assert max(returned(plain, "limited", 3).values()) <= RETURNS_LIMIT + 1


def test_claimed_is_never_put_back_beside_what_was_made_of_it(operator: Broker, plain: PlainAmqp) -> None:
    fill(operator, LIMITED, 20)
    for _ in range(RETURNS_LIMIT):
        ids_in(operator, "limited")
    with operator.read("limited") as reading:
        outbox = operator.outbox()
        for message in reading:
            assert (message.properties.headers or {})["x-delivery-count"] == RETURNS_LIMIT
            message.claim()
            outbox.publish(PLAIN, message.properties, message.body, message.take)
        outbox.settle()
    assert operator.counts_of(["limited", "plain"]) == {"limited": Counts(0, 0), "plain": Counts(20, 0)}


# -- a connection that is lost


def test_a_connection_lost_while_reading(proxy: Proxy, vhost: str, plain: PlainAmqp) -> None:
    told: list[str] = []
    with Broker(amqp_of(proxy.url(vhost)), trouble=told.append) as operator:
        ids = fill(operator, QUORUM, 1000)
        lost = pytest.raises(BrokerUnavailable, match="connection lost while reading quorum")
        with lost, operator.read("quorum") as reading:
            for number, _message in enumerate(reading):
                if number == 50:
                    proxy.cut()
        assert any("broker connection lost" in line for line in told)
        assert operator.counts("quorum") is not None, "it comes back by itself"
        wait_for(lambda: plain.depth("quorum") == 1000, 10, "all went back")
        assert sorted(map(str, ids_in(operator, "quorum"))) == sorted(ids)


def test_cut_before_an_ack_arrives_it_is_in_the_queue_again(proxy: Proxy, vhost: str, plain: PlainAmqp) -> None:
    with Broker(amqp_of(proxy.url(vhost))) as operator:
        fill(operator, QUORUM, 10)
        with pytest.raises(BrokerUnavailable), operator.read("quorum") as reading:
            iterator = iter(reading)
            message = next(iterator)
            proxy.refuse()
            proxy.cut()
            message.take()
            list(iterator)
        proxy.accept()
    wait_for(lambda: plain.depth("quorum") == 10, 10, "all is there")


# -- the management plugin


def test_without_the_management_plugin_there_is_none(operator: Broker, amqp_url: str) -> None:
    (closed,) = free_ports(1)
    environ = {URL_VARIABLE: f"http://127.0.0.1:{closed}"}
    management = Management(amqp_of(amqp_url), operator.server.host, operator.server.cluster_name, environ)
    assert (management.overview(), management.queues(), management.nodes()) == (None, None, None)


def test_with_the_management_plugin(run_dir: Path, operator: Broker, amqp_url: str) -> None:
    (port,) = free_ports(1)
    lines = f"management.tcp.port = {port}\nmanagement.tcp.ip = 127.0.0.1\ncollect_statistics_interval = 500\n"
    environ = {URL_VARIABLE: f"http://127.0.0.1:{port}/"}
    with PrivateBroker(run_dir / "managed", config=lines, plugins=["rabbitmq_management"]) as managed:
        amqp = amqp_of(managed.url())
        with Broker(amqp) as there:
            fill(there, QUORUM, 4)
            management = Management(amqp, there.server.host, there.server.cluster_name, environ)

            def figures() -> bool:
                queues = management.queues() or {}
                return "quorum" in queues and queues["quorum"].unacked == 3

            with there.read("quorum", limit=3) as reading:
                list(reading)
                wait_for(figures, 20, "the plugin counts what is in hand")
                found = (management.queues() or {})["quorum"]
            assert (found.ready, found.kind, found.consumers) == (1, "quorum", 1)
            assert found.arguments["x-queue-type"] == "quorum"
            (node,) = management.nodes() or []
            assert (node.name, node.running, node.memory_alarm, node.disk_alarm) == (managed.node, True, False, False)
        other = Management(amqp_of(amqp_url), operator.server.host, operator.server.cluster_name, environ)
        assert (other.overview(), other.queues()) == (None, None), "it is another broker's"
