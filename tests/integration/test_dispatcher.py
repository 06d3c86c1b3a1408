"""The dispatcher in the test's own process, against a real broker: nothing is lost, nothing is changed, all is told."""

from __future__ import annotations

import logging
import re
import select
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pika
import pika.data
import pytest

from broker import PrivateBroker
from plain_amqp import Message, PlainAmqp
from proxy import Proxy
from taskqueue.config.load import URL_VARIABLE, load
from taskqueue.dispatcher.dispatcher import Dispatcher
from taskqueue.foundation.loop import Loop
from turning import turn_until
from waiting import wait_for


class Bench:
    """A dispatcher on a loop that the test turns."""

    def __init__(self, url: str, **settings: Any) -> None:
        loaded = load(environ={URL_VARIABLE: url})
        self.loop = Loop()
        self.dispatcher = Dispatcher(
            self.loop, replace(loaded, dispatcher=replace(loaded.dispatcher, **settings)) if settings else loaded
        )
        self.dispatcher.start()
        self.closed = False

    def until(self, fact: Callable[[], Any], what: str = "", deadline_s: float = 10.0) -> Any:
        return turn_until(self.loop, fact, deadline_s, what)

    def drain(self) -> None:
        """End it as SIGTERM does."""
        done: list[bool] = []
        self.dispatcher.drain(lambda: done.append(True))
        self.until(lambda: done, "it is drained")
        self.loop.close()
        self.closed = True


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    """Makes dispatchers, drained at the end."""
    made: list[Bench] = []

    def bench(url: str, **settings: Any) -> Bench:
        made.append(Bench(url, **settings))
        return made[-1]

    yield bench
    for each in made:
        if not each.closed:
            each.drain()


@pytest.fixture
def plain(amqp_url: str) -> Iterator[PlainAmqp]:
    """A client."""
    with PlainAmqp(amqp_url) as client:
        client.declare("taskqueue")
        yield client


@pytest.fixture
def bench(make: Callable[..., Bench], amqp_url: str, plain: PlainAmqp) -> Bench:
    """A dispatcher that consumes."""
    made = make(amqp_url)
    made.until(lambda: plain.consumers("taskqueue") == 1)
    return made


def taken(bench: Bench, plain: PlainAmqp, queue: str) -> Message:
    """The next message of `queue`, while the dispatcher turns."""
    message = bench.until(lambda: plain.take_now(queue), f"a message in {queue}")
    assert isinstance(message, Message)
    return message


def test_a_queue_for_an_unknown_type_is_made_and_the_work_waits_there(bench: Bench, plain: PlainAmqp) -> None:
    plain.submit("newtype the rest", content_type="text/plain")
    message = taken(bench, plain, "worker_newtype")
    assert message.text == "the rest" and message.properties.message_id
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "taskqueue_dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    plain.channel.queue_declare("worker_newtype", durable=True, arguments=arguments)  # 406 were they other
    plain.channel.queue_declare("taskqueue_dead", durable=True, arguments={"x-queue-type": "quorum"})
    plain.channel.queue_declare("taskqueue", durable=True)


HEADERS: dict[str, Any] = {
    "worker_type": "w",
    "text": "größer",
    "bytes": b"\xff\x00",
    "number": 2**40,
    "negative": -5,
    "small": 7,
    "true": True,
    "none": None,
    "when": datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001
    "price": Decimal("1.50"),
    "list": [1, "two", [3, {"four": None}]],
    "table": {"a": {"b": {"c": [True, {"d": "e"}]}}},
    "empty": {},
    "x-mine": "kept",
}


def test_headers_and_properties_survive_in_value_and_type(bench: Bench, plain: PlainAmqp) -> None:
    plain.submit(
        b"\0body", headers=HEADERS, content_type="a/b", content_encoding="gzip", priority=4, correlation_id="c",
        reply_to="r", expiration="600000", message_id="m-1", timestamp=1_700_000_000, type="t", app_id="app",
    )  # fmt: skip
    message = taken(bench, plain, "worker_w")
    assert message.body == b"\0body"
    headers = {name: value for name, value in message.headers.items() if name != "x-delivery-count"}
    for name, value in HEADERS.items():
        got = headers[name]
        if isinstance(value, datetime):
            got = got.replace(tzinfo=None)
        assert isinstance(got, type(value)) and got == value, name  # pika has an int of its own
    assert headers.keys() == HEADERS.keys()
    kept = message.properties
    assert (kept.content_type, kept.content_encoding, kept.priority, kept.correlation_id, kept.reply_to) == (
        "a/b", "gzip", 4, "c", "r",
    )  # fmt: skip
    assert (kept.expiration, kept.message_id, kept.timestamp, kept.type, kept.app_id, kept.delivery_mode) == (
        "600000", "m-1", 1_700_000_000, "t", "app", 2,
    )  # fmt: skip


def test_x_death_and_routing_copies_are_removed(bench: Bench, plain: PlainAmqp) -> None:
    plain.declare("copies")
    death = [{"queue": "worker_w", "reason": "expired", "count": 1, "exchange": "", "routing-keys": ["worker_w"]}]
    headers = {"worker_type": "w", "x-death": death, "x-first-death-queue": "worker_w", "x-mine": 1}
    plain.submit("body", headers={**headers, "CC": ["copies"]})
    message = taken(bench, plain, "worker_w")
    assert {name for name in message.headers if name != "x-delivery-count"} == {"worker_type", "x-mine"}
    assert taken(bench, plain, "copies")
    bench.until(lambda: bench.dispatcher.dispatched == 1)
    assert plain.take_now("copies") is None, "routed there by the client, and not once more by us"


def test_user_id_is_not_forwarded(bench: Bench, plain: PlainAmqp) -> None:
    plain.submit("w body", content_type="text/plain", user_id="guest")
    assert taken(bench, plain, "worker_w").properties.user_id is None


@pytest.mark.parametrize(
    ("body", "properties", "reason"),
    [
        (b"", {}, "malformed"),
        (b"{", {"content_type": "application/json"}, "malformed"),
        (b"\xff", {"content_type": "text/plain"}, "malformed"),
        (b"x", {"content_type": "image/png"}, "unknown-format"),
        (b"x", {"headers": {"worker_type": "no good"}}, "malformed"),
        (b"w x", {"headers": {"x-delay": "soon"}}, "malformed"),
        (b"w x", {"headers": {"x-delay": -1}}, "malformed"),
    ],
)
def test_what_cannot_be_dispatched_is_a_dead_letter(
    bench: Bench, plain: PlainAmqp, body: bytes, properties: dict[str, Any], reason: str
) -> None:
    plain.submit(body, message_id="m-9", expiration="600000", **properties)
    letter = taken(bench, plain, "taskqueue_dead")
    assert letter.body == body
    assert letter.headers["x-dead-reason"] == reason and letter.headers["x-dead-queue"] == "taskqueue"
    assert letter.headers["x-dead-detail"] and letter.headers["x-dead-host"]
    assert abs(letter.headers["x-dead-at"] / 1000 - time.time()) < 60
    assert letter.properties.message_id == "m-9" and letter.properties.expiration is None
    bench.until(lambda: plain.depth("taskqueue") == 0)
    assert bench.dispatcher.dead == 1


def test_over_max_body(make: Callable[..., Bench], amqp_url: str, plain: PlainAmqp) -> None:
    bench = make(amqp_url, max_body_bytes=1000)
    plain.submit(b"w " + b"x" * 998, content_type="text/plain")
    assert len(taken(bench, plain, "worker_w").body) == 998
    plain.submit(b"w " + b"x" * 999, content_type="text/plain")
    letter = taken(bench, plain, "taskqueue_dead")
    assert letter.headers["x-dead-reason"] == "too-large" and len(letter.body) == 1001


# -- messages that other clients can send, and pika would not


def nested(depth: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for _ in range(depth):
        table = {"t": table}
    return table


class Raw:
    """A header value in its AMQP encoding, as any client library could send it."""

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded


HOSTILE: dict[str, dict[str, Any]] = {
    "message_id is not UTF-8": {"message_id": b"\xff\xfe", "headers": {"worker_type": "w"}},
    "content_type is not UTF-8": {"content_type": b"\xff/x", "headers": {"worker_type": "w"}},
    "content_type is not UTF-8, no header": {"content_type": b"\xff/x"},
    "correlation_id is not UTF-8": {"correlation_id": b"\xff", "headers": {"worker_type": "w"}},
    "reply_to is not UTF-8": {"reply_to": b"\xff", "headers": {"worker_type": "w"}},
    "header name is not UTF-8": {"headers": {"worker_type": "w", b"\xff": 1}},
    "header name in a table is not UTF-8": {"headers": {"worker_type": "w", "t": {b"\xff": 1}}},
    "timestamp beyond the year 9999": {"headers": {"worker_type": "w", "t": Raw(b"T" + (2**50).to_bytes(8, "big"))}},
    "timestamp in milliseconds": {
        "headers": {"worker_type": "w", "t": Raw(b"T" + (1_700_000_000_000).to_bytes(8, "big"))}
    },
    "float": {"headers": {"worker_type": "w", "t": Raw(b"d\x40\x04\0\0\0\0\0\0")}},
    "decimal of many places": {"headers": {"worker_type": "w", "t": Raw(b"D\xff\x7f\xff\xff\xff")}},
    "unsigned long": {"headers": {"worker_type": "w", "t": Raw(b"l" + b"\xff" * 8)}},
    "tables nested deeply": {"headers": {"worker_type": "w", "t": nested(2000)}},
}


@pytest.fixture
def encodes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the client send bytes as names, raw values and deep tables; nothing else of it is changed."""
    encode_value, short = pika.data.encode_value, pika.data.encode_short_string

    def value(pieces: list[bytes], given: Any) -> int:
        if isinstance(given, Raw):
            pieces.append(given.encoded)
            return len(given.encoded)
        if isinstance(given, dict):
            encoded = b""
            if given.keys() == {"t"} and isinstance(given["t"], dict):  # without recursion
                depth = 0
                while given:
                    given, depth = given["t"], depth + 1
                for _ in range(depth):
                    inner = b"\x01tF" + len(encoded).to_bytes(4, "big") + encoded
                    encoded = inner
                pieces.append(b"F" + len(encoded).to_bytes(4, "big") + encoded)
                return len(encoded) + 5
        return int(encode_value(pieces, given))

    def short_string(pieces: list[bytes], given: Any) -> int:
        if isinstance(given, bytes):
            pieces.append(bytes([len(given)]) + given)
            return len(given) + 1
        return int(short(pieces, given))

    monkeypatch.setattr(pika.data, "encode_value", value)
    monkeypatch.setattr(pika.data, "encode_short_string", short_string)


@pytest.mark.parametrize("properties", HOSTILE.values(), ids=HOSTILE)
def test_no_message_stops_the_dispatcher(
    make: Callable[..., Bench], amqp_url: str, plain: PlainAmqp, encodes_anything: None, properties: dict[str, Any]
) -> None:
    """It is dispatched or becomes a dead letter, and what is behind it goes on."""
    plain.submit(b"hostile", **properties)
    plain.submit("w next", content_type="text/plain", message_id="next")
    bench = make(amqp_url)
    bench.until(lambda: plain.depth("worker_w") + plain.depth("taskqueue_dead") >= 2, "both went on", deadline_s=4)
    assert plain.depth("taskqueue") == 0
    assert plain.depth("worker_w") >= 1
    bodies = []
    for queue in ("worker_w", "taskqueue_dead"):
        channel = plain.channel
        for _ in range(plain.depth(queue)):
            try:
                _, _, body = channel.basic_get(queue, auto_ack=True)
            except Exception:  # the plain client cannot read what it was sent; the product could
                return
            bodies.append(body)
    assert sorted(bodies) == [b"hostile", b"next"]


def test_properties_that_cannot_all_be_sent_on_are_a_dead_letter_with_the_rest(
    bench: Bench, plain: PlainAmqp, encodes_anything: None
) -> None:
    plain.submit(b"w x", content_type="text/plain", message_id="m", correlation_id="c", headers={"t": nested(101)})
    letter = taken(bench, plain, "taskqueue_dead")
    assert (letter.properties.message_id, letter.properties.correlation_id, letter.body) == ("m", "c", b"w x")
    assert letter.headers["x-dead-reason"] == "malformed" and "nested" in letter.headers["x-dead-detail"]


def test_what_a_client_wrote_is_in_the_dead_letter_and_not_in_the_log(
    bench: Bench, plain: PlainAmqp, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        plain.submit("hunter2/ x", content_type="text/plain", message_id="body")
        plain.submit("w x", headers={"worker_type": "hunter2 "}, message_id="type")
        plain.submit("w x", headers={"x-delay": "hunter2"}, message_id="delay")
        for name in ("body", "type", "delay"):
            letter = taken(bench, plain, "taskqueue_dead")
            assert letter.properties.message_id == name and "hunter2" in letter.headers["x-dead-detail"]
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("taskqueue"))
    assert ours.count("dead letter: queue=taskqueue") == 3
    assert "hunter2" not in ours


# -- worker types that clients invent


def test_queues_that_may_not_be_made_are_dead_letters_and_have_nobody_wait(
    make: Callable[..., Bench], amqp_url: str, broker: PrivateBroker, vhost: str, plain: PlainAmqp
) -> None:
    """A prefetch full of types that were invented, where the operator has limited the queues of the vhost."""
    bench = make(amqp_url, prefetch=20)
    plain.submit("good 0", content_type="text/plain")
    taken(bench, plain, "worker_good")
    broker.ctl("set_vhost_limits", "-p", vhost, '{"max-queues": 1}')
    try:
        for number in range(60):
            plain.submit(f"invented-{number} x", content_type="text/plain", message_id=f"m{number}")
        plain.submit("good 1", content_type="text/plain")
        assert taken(bench, plain, "worker_good").text == "1"
        letters = [taken(bench, plain, "taskqueue_dead") for _ in range(60)]
    finally:
        broker.ctl("clear_vhost_limits", "-p", vhost)
    assert {letter.properties.message_id for letter in letters} == {f"m{number}" for number in range(60)}
    assert {letter.headers["x-dead-reason"] for letter in letters} == {"rejected"}
    assert all("queue limit" in letter.headers["x-dead-detail"] for letter in letters)
    assert bench.dispatcher.connection.is_up and plain.depth("taskqueue") == 0


# -- a broker that takes less than it once did


def test_what_the_broker_takes_no_more_stays_where_it_is_and_has_nobody_wait(
    make: Callable[..., Bench], amqp_url: str, broker: PrivateBroker, plain: PlainAmqp, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even a dead letter of it is taken, and it must not be lost."""
    for number in range(5):
        plain.submit(b"w " + b"x" * 5000, content_type="text/plain", message_id=f"large-{number}")
        plain.submit("w small", content_type="text/plain", message_id=f"small-{number}")
    with broker.max_message_size(1000):
        bench = make(amqp_url)
        small = set()  # some may come twice: a channel that is closed for one message says nothing of the others
        while len(small) < 5:
            small.add(taken(bench, plain, "worker_w").properties.message_id)
        bench.until(lambda: caplog.text.count("dead letter not taken, left in its queue: ") == 5)
        assert small == {f"small-{number}" for number in range(5)}
        bench.drain()
    assert plain.depth("taskqueue_dead") == 0
    left = [plain.take("taskqueue") for _ in range(5)]
    assert {message.properties.message_id for message in left} == {f"large-{number}" for number in range(5)}
    assert all(len(message.body) == 5002 for message in left)


@pytest.mark.parametrize("more", [0, 20, 60, 200])
def test_headers_that_fill_a_frame(bench: Bench, plain: PlainAmqp, more: int) -> None:
    """What the client's library could just send may be too large with what is added to it."""
    padding = "x" * (131_072 - 400 + more)
    plain.submit("w x", content_type="text/plain", headers={"padding": padding}, message_id="good")
    plain.submit("/ x", content_type="text/plain", headers={"padding": padding}, message_id="bad")
    plain.submit("w next", content_type="text/plain", message_id="next")
    came = [taken(bench, plain, "worker_w").properties.message_id for _ in range(2)]
    letter = taken(bench, plain, "taskqueue_dead")
    assert came == ["good", "next"] and letter.properties.message_id == "bad"
    assert letter.headers["x-dead-reason"] == "malformed" and letter.body == b"/ x"
    assert bench.dispatcher.connection.is_up


# -- delays


def test_delayed_workitems_arrive_in_time_and_short_ones_first(bench: Bench, plain: PlainAmqp) -> None:
    """The first use of a rung declares it: a round before the clock is looked at."""
    for round_number in range(2):
        sent: dict[str, float] = {}
        for delay in (1300, 250, 40):
            name = f"d{delay}-{round_number}"
            plain.submit(
                "w x", content_type="text/plain", message_id=name, expiration="600000", headers={"x-delay": delay}
            )
            sent[name] = time.monotonic()
        came: dict[str, float] = {}
        order: list[Message] = []

        def all_there(came: dict[str, float] = came, order: list[Message] = order) -> bool:
            if (message := plain.take_now("worker_w")) is not None:
                came[message.properties.message_id] = time.monotonic()
                order.append(message)
            return len(order) == 3

        turn_until(bench.loop, all_there, 10.0, "all came", wait_s=0.003)
    assert [message.properties.message_id for message in order] == ["d40-1", "d250-1", "d1300-1"]
    for name, at in came.items():
        delay_s = int(name[1:].partition("-")[0]) / 1000
        late_s = at - sent[name] - delay_s
        assert -0.005 <= late_s <= 0.1, f"{name}: {late_s * 1000:.0f} ms late"
    for message in order:
        left = message.headers.keys() - {"x-delivery-count"}
        assert not left, f"the ladder left {left}"
        assert message.properties.expiration == "600000" and message.text == "x"
    assert plain.depth("taskqueue_delay_step") == 0


MONTH_MS = 30 * 86_400_000


def rungs(broker: PrivateBroker, vhost: str) -> dict[str, int]:
    """The rungs that the broker has, and the TTL of each as the broker has it."""
    lines = broker.ctl("list_queues", "-p", vhost, "--no-table-headers", "name", "arguments").splitlines()
    found = {name: re.search(r'"x-message-ttl",(\d+)', rest) for name, rest in (line.split("\t") for line in lines)}
    return {name: int(ttl[1]) for name, ttl in found.items() if ttl and name != "taskqueue_delay_step"}


def test_every_rung_of_the_ladder_as_the_broker_has_it(
    bench: Bench, plain: PlainAmqp, broker: PrivateBroker, vhost: str
) -> None:
    """A policy makes every rung of this vhost last 16 ms: the whole walk of 49.7 days in half a second."""
    broker.ctl("set_policy", "-p", vhost, "short", "^taskqueue_delay_..$", '{"message-ttl":16}', "--apply-to", "queues")
    plain.submit("w x", headers={"x-delay": 2**32 - 16, "own": 1}, expiration="600000", message_id="far")
    message = taken(bench, plain, "worker_w")
    assert rungs(broker, vhost) == {f"taskqueue_delay_{exponent:02d}": 2**exponent for exponent in range(4, 32)}
    bench.until(lambda: bench.dispatcher.dispatched == 29, "28 rungs, none twice")
    assert (message.properties.message_id, message.headers) == ("far", {"own": 1})
    assert message.properties.expiration == "600000"


def test_a_delay_of_a_month_waits_on_the_highest_rung(bench: Bench, plain: PlainAmqp) -> None:
    before = time.time() * 1000
    plain.submit("w x", headers={"x-delay": MONTH_MS, "x-delay-due": 1, "x-delay-target": "worker_other"})
    message = taken(bench, plain, "taskqueue_delay_31")
    assert message.headers["x-delay-target"] == "worker_w", "a client's own say nothing"
    assert message.headers["x-delay"] == MONTH_MS - 2**31
    assert before - 1 <= message.headers["x-delay-due"] - MONTH_MS <= time.time() * 1000


def test_a_rung_that_came_late_is_made_up_for(bench: Bench, plain: PlainAmqp) -> None:
    """As behind a broker that was down for long: what was lost is taken off the rungs ahead."""
    bench.until(lambda: plain.consumers("taskqueue_delay_step") == 1)
    now = int(time.time() * 1000)
    onward = {"x-delay-target": "worker_w", "x-delay": MONTH_MS}
    plain.submit("x", "taskqueue_delay_step", message_id="late", headers={**onward, "x-delay-due": now - 5})
    assert taken(bench, plain, "worker_w").properties.message_id == "late"
    plain.submit("x", "taskqueue_delay_step", headers={**onward, "x-delay-due": now + 2**20})
    assert taken(bench, plain, "taskqueue_delay_19").headers["x-delay-due"] == now + 2**20
    plain.submit("x", "taskqueue_delay_step", headers={**onward, "x-delay": 2**20, "x-delay-due": now + MONTH_MS})
    assert taken(bench, plain, "taskqueue_delay_20").headers["x-delay"] == 0, "another host's clock adds nothing"
    plain.submit("x", "taskqueue_delay_step", headers={**onward, "x-delay": 2**18})  # by an older dispatcher
    assert taken(bench, plain, "taskqueue_delay_18").headers["x-delay-due"] >= now + 2**18


def test_what_comes_back_to_the_ladder_again_and_again_is_a_dead_letter(bench: Bench, plain: PlainAmqp) -> None:
    """Where every dispatcher that gets it dies: RabbitMQ 4 would drop it."""
    bench.until(lambda: plain.consumers("taskqueue_delay_step") == 1 and plain.exists("taskqueue_dead"))
    bench.drain()
    plain.submit("x", "taskqueue_delay_step", message_id="poison")
    for _ in range(21):
        method, _, _ = wait_for(lambda: (got := plain.channel.basic_get("taskqueue_delay_step"))[0] and got, 5)
        plain.channel.basic_nack(method.delivery_tag, requeue=True)
    plain.take_for("poison", "taskqueue_dead")


@pytest.mark.parametrize("target", [None, 5, "taskqueue", "worker_ bad"])
def test_what_does_not_belong_on_the_ladder_is_a_dead_letter(bench: Bench, plain: PlainAmqp, target: object) -> None:
    bench.until(lambda: plain.consumers("taskqueue_delay_step") == 1)
    plain.submit("stray", "taskqueue_delay_step", headers={"x-delay-target": target})
    assert taken(bench, plain, "taskqueue_dead").headers["x-dead-queue"] == "taskqueue_delay_step"


# -- nothing is lost


def test_ledger_through_a_connection_that_is_cut(
    make: Callable[..., Bench], proxy: Proxy, vhost: str, plain: PlainAmqp
) -> None:
    count, cuts = 2000, 6
    names = {f"m{number}" for number in range(count)}
    plain.submit_many(
        (f"{('a', 'b', 'c')[number % 3]} {number}".encode(), {"content_type": "text/plain", "message_id": f"m{number}"})
        for number in range(count)
    )
    bench = make(proxy.url(vhost), prefetch=100)
    for cut in range(1, cuts):
        bench.until(lambda cut=cut: bench.dispatcher.dispatched >= cut * count // cuts, deadline_s=30)  # type: ignore[misc]
        proxy.cut()
        bench.until(lambda: not bench.dispatcher.connection.is_up)
    bench.until(lambda: plain.depth("taskqueue") == 0 and not bench.dispatcher._in_hand, deadline_s=30)
    bench.drain()
    assert proxy.accepted >= cuts
    came: Counter[str] = Counter()
    for queue in ("worker_a", "worker_b", "worker_c"):
        while (message := plain.take_now(queue)) is not None:
            came[message.properties.message_id] += 1
    assert came.keys() == names, f"{len(names - came.keys())} are lost"
    duplicates = sum(came.values()) - count
    print(f"duplicates after {cuts - 1} cuts: {duplicates} of {count}")
    assert duplicates <= cuts * 100, "at most the prefetch for each cut"
    assert plain.take_now("taskqueue_dead") is None


def test_drain_leaves_nothing_in_hand(make: Callable[..., Bench], amqp_url: str, plain: PlainAmqp) -> None:
    plain.submit_many((b"w x", {"content_type": "text/plain", "message_id": f"m{n}"}) for n in range(1000))
    bench = make(amqp_url)
    bench.until(lambda: bench.dispatcher.dispatched > 100)
    bench.drain()
    left, done = plain.depth("taskqueue"), plain.depth("worker_w")
    assert left + done == 1000, "each is in one queue, and in one only"
    assert plain.consumers("taskqueue") == 0
    for _ in range(left):
        message = plain.take_now("taskqueue")
        assert message is not None
    assert done == bench.dispatcher.dispatched


def test_drain_without_a_broker(make: Callable[..., Bench], proxy: Proxy, vhost: str) -> None:
    proxy.refuse()
    bench = make(proxy.url(vhost))
    bench.until(lambda: bench.dispatcher.connection.trouble)
    bench.drain()


def test_drain_after_confirms_and_the_end_came_together(
    make: Callable[..., Bench], proxy: Proxy, vhost: str, plain: PlainAmqp
) -> None:
    """What is in hand is counted once, also where a confirm and the loss of its connection are read in one turn."""
    bench = make(proxy.url(vhost))
    plain.submit("w 0", content_type="text/plain")
    bench.until(lambda: bench.dispatcher.dispatched == 1)
    bench.until(lambda: plain.depth("worker_w") == 1)
    plain.submit("w 1", content_type="text/plain")
    bench.until(lambda: len(bench.dispatcher._in_hand) == 1)
    bench.loop.turn(0)  # writes the publish; the confirm waits in the socket until the next turn
    epoll = bench.loop._epoll.fileno()
    deadline = time.monotonic() + 5
    while plain.depth("worker_w") < 2 or not select.select([epoll], [], [], 0.1)[0]:
        assert time.monotonic() < deadline
        if plain.depth("worker_w") < 2 and select.select([epoll], [], [], 0)[0]:
            break
    proxy.cut()
    turn_until(bench.loop, lambda: not bench.dispatcher.connection.is_up, 5.0)
    bench.loop.turn(0)
    bench.drain()


def test_a_worker_queue_deleted_under_the_dispatcher_is_made_again(bench: Bench, plain: PlainAmqp) -> None:
    plain.submit("w 1", content_type="text/plain")
    taken(bench, plain, "worker_w")
    bench.until(lambda: bench.dispatcher.dispatched == 1)
    plain.delete("worker_w")
    plain.submit("w 2", content_type="text/plain")
    assert taken(bench, plain, "worker_w").text == "2"


def test_two_dispatchers_share_the_work(make: Callable[..., Bench], amqp_url: str, plain: PlainAmqp) -> None:
    first, second = make(amqp_url, prefetch=10), make(amqp_url, prefetch=10)
    turn_until(first.loop, lambda: (second.loop.turn(0), plain.consumers("taskqueue") == 2)[1])  # type: ignore[func-returns-value]
    plain.submit_many((b"w x", {"content_type": "text/plain", "message_id": f"m{n}"}) for n in range(300))
    turn_until(
        first.loop,
        lambda: (second.loop.turn(0), first.dispatcher.dispatched + second.dispatcher.dispatched >= 300)[1],  # type: ignore[func-returns-value]
        wait_s=0.002,
    )
    assert first.dispatcher.dispatched and second.dispatcher.dispatched
    assert plain.depth("worker_w") == 300
