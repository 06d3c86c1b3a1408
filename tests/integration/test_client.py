"""The client against a real broker, answered by a small consumer of `taskqueue` that the test runs itself."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from broker import PrivateBroker, free_ports
from plain_amqp import PlainAmqp
from proxy import Proxy
from taskqueue.client import Client, Submitted
from taskqueue.errors import (
    BrokerRefused,
    BrokerUnavailable,
    MalformedWorkitem,
    ResultTimeout,
    WorkitemFailed,
    WorkitemRefused,
)
from waiting import wait_for


class Echo:
    """Takes workitems from `taskqueue` in a thread and answers them, as a dispatcher and a worker would."""

    def __init__(self, url: str) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(url,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self, url: str) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(url))
        channel = connection.channel()
        channel.queue_declare("taskqueue", durable=True)
        channel.basic_consume("taskqueue", self._answer)
        while not self._stop.is_set():
            connection.process_data_events(time_limit=0.02)
        connection.close()

    def _answer(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        failed = properties.headers["worker_type"] == "fails"
        headers = {"task_id": properties.message_id, "status": "error" if failed else "success", "attempt": 1}
        if failed:
            headers["error_type"] = "ValueError"
            body = json.dumps({"error": "bad", "trace": "Traceback …", "workitem": 1}).encode()
        channel.basic_publish(
            "",
            properties.reply_to,
            body,
            pika.BasicProperties(
                content_type="application/json" if failed else properties.content_type,
                correlation_id=properties.correlation_id,
                headers=headers,
                message_id=properties.message_id,
            ),
        )
        channel.basic_ack(method.delivery_tag)


@pytest.fixture
def plain(amqp_url: str) -> Iterator[PlainAmqp]:
    """What another program sees."""
    with PlainAmqp(amqp_url) as client:
        yield client


@pytest.fixture
def echo(amqp_url: str) -> Iterator[None]:
    """All that is submitted is answered."""
    answering = Echo(amqp_url)
    yield
    answering.stop()


@pytest.fixture
def client(amqp_url: str) -> Iterator[Client]:
    """A connected client."""
    with Client(amqp_url, timeout_s=10) as made:
        yield made


def test_submitted_is_in_the_queue_with_all_that_a_worker_needs(client: Client, plain: PlainAmqp) -> None:
    submitted = client.submit("w1", {"größe": 3}, headers={"mine": 1}, delay_s=1.5, message_id="m", correlation_id="c")
    assert submitted == Submitted("m", "c", submitted.reply_to)
    message = plain.take_now("taskqueue")
    assert message is not None and message.json() == {"größe": 3}
    assert message.headers == {"worker_type": "w1", "mine": 1, "x-delay": 1500}
    properties = message.properties
    assert (properties.content_type, properties.delivery_mode, properties.message_id, properties.correlation_id) == (
        "application/json", 2, "m", "c",
    )  # fmt: skip
    assert properties.reply_to == submitted.reply_to and plain.exists(submitted.reply_to)


def test_no_dispatcher_and_no_queue_is_needed(client: Client, plain: PlainAmqp) -> None:
    assert not plain.exists("taskqueue")
    client.submit("w1", "text")
    plain.channel.queue_declare("taskqueue", durable=True)  # 406 were it declared otherwise
    assert plain.depth("taskqueue") == 1


@pytest.mark.parametrize("value", ["text größer", b"\0\xff", {"a": [1, None]}, [1, 2], None, 5, True, "{not json"])
def test_values_come_back_as_they_were(client: Client, echo: None, value: Any) -> None:
    result = client.wait(client.submit("w1", value), timeout_s=10)
    assert result.ok and result.get() == value and type(result.value) is type(value)


def test_an_error_result_is_raised_by_get(client: Client, echo: None) -> None:
    submitted = client.submit("fails", "x")
    result = client.wait(submitted, timeout_s=10)
    assert not result.ok and result.status == "error"
    with pytest.raises(WorkitemFailed) as caught:
        result.get()
    error = caught.value
    assert (error.message_id, error.error_type, error.error, error.trace) == (
        submitted.message_id, "ValueError", "bad", "Traceback …",
    )  # fmt: skip


def test_results_may_be_waited_for_in_any_order(client: Client, echo: None) -> None:
    submitted = client.submit_many("w1", range(50))
    for number in (30, 0, 49, *range(1, 30)):
        assert client.wait(submitted[number], timeout_s=10).value == number


def test_no_result_in_time_and_then_one(client: Client, amqp_url: str) -> None:
    submitted = client.submit("w1", "late")
    began = time.monotonic()
    with pytest.raises(ResultTimeout, match=submitted.message_id):
        client.wait(submitted, timeout_s=0.2)
    assert 0.2 <= time.monotonic() - began < 3
    answering = Echo(amqp_url)
    try:
        assert client.wait(submitted, timeout_s=10).value == "late"
    finally:
        answering.stop()


def test_an_answer_that_came_before_it_was_waited_for(client: Client, echo: None, plain: PlainAmqp) -> None:
    submitted = client.submit("w1", "early")
    wait_for(lambda: plain.depth(submitted.reply_to) == 1)
    assert client.wait(submitted, timeout_s=10).value == "early"


def test_submit_many_reads_a_generator_as_the_broker_confirms(client: Client, plain: PlainAmqp) -> None:
    def workitems() -> Iterator[int]:
        yield from range(5000)

    submitted = client.submit_many("w1", workitems(), reply_to="elsewhere")
    assert len({each.message_id for each in submitted}) == 5000 == plain.depth("taskqueue")
    assert {each.reply_to for each in submitted} == {"elsewhere"}
    assert client.submit_many("w1", []) == []


def test_the_private_reply_queue_goes_with_its_client(amqp_url: str, plain: PlainAmqp) -> None:
    with Client(amqp_url) as client:
        submitted = client.submit("w1", 1)
        with pytest.raises(ResultTimeout):
            client.wait(submitted, timeout_s=0.05)
        assert plain.exists(submitted.reply_to)
    assert not plain.exists(submitted.reply_to)


def test_with_a_reply_queue_of_its_own_nothing_is_made_and_nothing_can_be_waited_for(
    amqp_url: str, plain: PlainAmqp
) -> None:
    plain.declare("mine")
    with Client(amqp_url, reply_to="mine") as client:
        submitted = client.submit("w1", 1)
        assert submitted.reply_to == "mine"
        with pytest.raises(ValueError, match="mine"):
            client.wait(submitted)
    assert plain.exists("mine")


@pytest.mark.parametrize("name", ["", "a b", "ä", "a" * 202, "a\n"])
def test_a_bad_worker_type_is_refused_before_it_is_sent(client: Client, plain: PlainAmqp, name: str) -> None:
    with pytest.raises(MalformedWorkitem):
        client.submit(name, 1)
    assert plain.depth("taskqueue") == 0
    client.submit("good", 1)


@pytest.mark.parametrize("delay", [-1.0, 1e9, float("nan"), float("inf")])
def test_an_impossible_delay_is_refused_before_it_is_sent(client: Client, plain: PlainAmqp, delay: float) -> None:
    """It would be a dead letter at the dispatcher, where its author does not look."""
    with pytest.raises((MalformedWorkitem, ValueError, OverflowError)):
        client.submit("w1", 1, delay_s=delay)
    assert plain.depth("taskqueue") == 0


def test_what_json_cannot_hold_is_refused_and_the_client_goes_on(client: Client, plain: PlainAmqp) -> None:
    with pytest.raises(TypeError):
        client.submit("w1", object())
    client.submit("w1", 1)
    assert plain.depth("taskqueue") == 1


def test_a_body_that_the_broker_does_not_take_is_said_and_the_client_goes_on(
    broker: PrivateBroker, amqp_url: str, plain: PlainAmqp
) -> None:
    with broker.max_message_size(1000), Client(amqp_url) as client:
        with pytest.raises(WorkitemRefused, match=r"m-1.*message size 2000 is larger"):
            client.submit("w", b"x" * 2000, message_id="m-1")
        assert client.submit("w", "x", message_id="m-2").message_id == "m-2"
        with pytest.raises(WorkitemRefused, match="message size 2000 is larger"):
            client.submit_many("w", (b"x" * (2000 if number == 500 else 3) for number in range(1000)))
        client.submit("w", "x", message_id="m-3")
    ids = [message.properties.message_id for message in iter(lambda: plain.take_now("taskqueue"), None)]
    assert "m-1" not in ids and {"m-2", "m-3"} <= set(ids) and len(ids) >= 502


@pytest.mark.parametrize(
    "headers", [{"h": object()}, {"h": 2**70}, {"h": "x" * 200_000}], ids=["object", "int", "large"]
)
def test_headers_that_cannot_be_sent_are_said(client: Client, headers: dict[str, Any]) -> None:
    with pytest.raises(WorkitemRefused):
        client.submit("w", "x", headers=headers)
    client.submit("w", "x")


def test_an_answer_that_is_none_has_nobody_else_wait(client: Client, echo: None, plain: PlainAmqp) -> None:
    """Anyone may publish to a queue, and a body need not be what its content type says."""
    submitted = client.submit("w", "x")
    plain.submit(b"\xff", submitted.reply_to, content_type="application/json", correlation_id="none")
    plain.submit(b"\xff", submitted.reply_to, content_type="text/plain; charset=none")
    assert client.wait(submitted, 10).value == "x"


@pytest.mark.parametrize("at", [1, 1500, 4000])
def test_a_cut_in_the_middle_of_submit_many_loses_nothing(proxy: Proxy, vhost: str, plain: PlainAmqp, at: int) -> None:
    def workitems() -> Iterator[int]:
        for number in range(5000):
            if number == at:
                proxy.cut()
            yield number

    with Client(proxy.url(vhost), timeout_s=15) as client:
        submitted = client.submit_many("w1", workitems())
    assert proxy.accepted >= 2, "it was cut"
    came: Counter[str] = Counter()
    values: dict[str, int] = {}
    while (message := plain.take_now("taskqueue")) is not None:
        came[message.properties.message_id] += 1
        values[message.properties.message_id] = message.json()
    assert came.keys() == {each.message_id for each in submitted}
    assert [values[each.message_id] for each in submitted] == list(range(5000))


def test_wait_survives_a_cut(proxy: Proxy, vhost: str, amqp_url: str) -> None:
    with Client(proxy.url(vhost), timeout_s=10) as client:
        submitted = client.submit("w1", "x")
        with pytest.raises(ResultTimeout):
            client.wait(submitted, timeout_s=0.1)
        proxy.cut()
        answering = Echo(amqp_url)
        try:
            assert client.wait(submitted, timeout_s=15).value == "x"
            assert client.wait(client.submit("w1", "y"), timeout_s=15).value == "y"
        finally:
            answering.stop()


def test_no_broker_is_unavailable_in_time() -> None:
    (port,) = free_ports(1)
    client = Client(f"amqp://guest:guest@127.0.0.1:{port}/", timeout_s=0.5)
    began = time.monotonic()
    for attempt in (client.connect, lambda: client.submit("w1", 1)):
        with pytest.raises(BrokerUnavailable, match="refused"):
            attempt()
    assert time.monotonic() - began < 5
    client.close()


def test_a_broker_that_hangs_is_unavailable_in_time(proxy: Proxy, vhost: str) -> None:
    with Client(proxy.url(vhost), timeout_s=0.5) as client:
        client.submit("w1", 1)
        proxy.stall()
        with pytest.raises(BrokerUnavailable):
            client.submit("w1", 2)
        proxy.cut()
        proxy.resume()


def test_the_broker_says_no(broker: PrivateBroker, vhost: str) -> None:
    for url in (broker.url(vhost, password="wrong"), broker.url("no-such-vhost")):
        client = Client(url, timeout_s=10)
        began = time.monotonic()
        with pytest.raises(BrokerRefused):
            client.connect()
        assert time.monotonic() - began < 5, "at once, not at the deadline"
        client.close()


def test_close_is_harmless_twice_and_before_connect(amqp_url: str) -> None:
    client = Client(amqp_url)
    client.close()
    with Client(amqp_url) as opened:
        opened.close()


def test_workitems_that_fail_half_way_through_a_generator(client: Client, plain: PlainAmqp) -> None:
    def workitems() -> Iterator[int]:
        yield 1
        raise KeyError("the caller's own")

    with pytest.raises(KeyError):
        client.submit_many("w1", workitems())
    client.submit("w1", 2)
    wait_for(lambda: plain.depth("taskqueue") == 2)
