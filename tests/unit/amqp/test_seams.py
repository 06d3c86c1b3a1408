"""Each of pika's private names that `seams` uses does what it is used for: a pika without one fails here.

`tests/integration/test_pika_versions.py` runs this with the oldest pika that is supported, too.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from typing import Any

import pika
import pika.exceptions
import pika.frame
import pytest
from pika import spec

from taskqueue.amqp import frames, seams
from taskqueue.amqp.containment import ConnectionLoop
from taskqueue.amqp.reasons import describe
from taskqueue.foundation.contained_loop import Callback
from taskqueue.foundation.loop import Loop
from taskqueue.protocol.properties import Properties

CHANNEL = 1
OPEN_OK = pika.frame.Method(CHANNEL, spec.Channel.OpenOk()).marshal()


class Wire:
    """pika's connection over a socket pair, as it is once AMQP is open; the test is the broker."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.caught: list[Exception] = []
        self.ended: list[Any] = []
        contained = ConnectionLoop(loop, self._on_error)
        parameters = pika.ConnectionParameters(heartbeat=0)
        self.connection: Any = seams.PikaConnection(
            parameters,
            on_open_error_callback=lambda _connection, error: self.ended.append(error),
            custom_ioloop=contained,
            internal_connection_workflow=False,
        )
        ours, self.broker = socket.socketpair()
        self.broker.settimeout(5.0)
        ours.setblocking(False)
        self.sizes: list[int] = []
        nbio = self.connection._nbio
        nbio.create_streaming_connection(self._protocol, ours, self._on_done)
        self.until(lambda: self.connection._transport is not None)
        self.read()  # the protocol header
        self.connection._set_connection_state(self.connection.CONNECTION_OPEN)

    def _on_error(self, error: Exception, callback: Callback) -> None:
        self.caught.append(error)

    def _protocol(self) -> Any:
        shim = self.connection._proto = pika.adapters.base_connection._StreamingProtocolShim(self.connection)
        received = shim.data_received

        def data_received(data: bytes) -> None:
            self.sizes.append(len(data))
            received(data)

        shim.data_received = data_received
        return shim

    def _on_done(self, result: Any) -> None:
        assert not isinstance(result, BaseException), result

    def until(self, condition: Any) -> None:
        deadline = time.monotonic() + 5.0
        while not condition():
            assert time.monotonic() < deadline
            self.loop.turn(0.02)

    def read(self) -> bytes:
        """One read of the broker once something has come: all that was sent in one write, where it is small."""
        self.until(lambda: select.select([self.broker], [], [], 0)[0])
        return self.broker.recv(1_000_000)

    def channel(self) -> Any:
        """A channel that is open."""
        opened: list[Any] = []
        channel = self.connection.channel(channel_number=CHANNEL, on_open_callback=opened.append)
        self.read()
        self.broker.send(OPEN_OK)
        self.until(lambda: opened)
        return channel


@pytest.fixture
def wire() -> Iterator[Wire]:
    loop = Loop()
    made = Wire(loop)
    yield made
    made.broker.close()
    loop.close()


def delivery(tag: int, properties: bytes = b"\0\0", body: bytes = b"x") -> bytes:
    method = pika.frame.Method(CHANNEL, spec.Basic.Deliver("tag", tag, False, "", "q")).marshal()
    header = struct.pack(">HHQ", 60, 0, len(body)) + properties
    return (
        method
        + struct.pack(">BHI", 2, CHANNEL, len(header))
        + header
        + b"\xce"
        + pika.frame.Body(CHANNEL, body).marshal()
    )  # type: ignore[no-any-return]


def test_adapter_emit_data_gathers_what_a_turn_sends_in_one_write(wire: Wire) -> None:
    channel = wire.channel()
    channel.basic_ack(1)  # pika's own way
    wire.connection.publish(channel, "q", Properties(), b"body")
    wire.connection.publish(channel, "q", Properties(), b"body")
    assert wire.connection._transport.get_write_buffer_size() == 0, "nothing leaves before the end of the turn"
    sent = wire.read()
    assert sent.startswith(pika.frame.Method(CHANNEL, spec.Basic.Ack(1)).marshal()) and sent.count(b"body\xce") == 2


def test_on_data_available_gets_what_comes_and_frames_reads_deliveries_and_confirms(wire: Wire) -> None:
    wire.channel()
    came: list[frames.Message] = []
    acks: list[tuple[int, bool]] = []
    wire.connection.deliveries[CHANNEL] = came.append
    wire.connection.acks[CHANNEL + 1] = lambda tag, multiple: acks.append((tag, multiple))
    wire.broker.send(delivery(1) + pika.frame.Method(CHANNEL + 1, spec.Basic.Ack(7, True)).marshal() + delivery(2))
    wire.until(lambda: len(came) == 2)
    assert [message.delivery_tag for message in came] == [1, 2] and acks == [(7, True)]


def test_frame_buffer_leaves_one_frame_to_pika_and_keeps_what_has_not_arrived(wire: Wire) -> None:
    channel = wire.channel()
    cancelled: list[Any] = []
    channel.add_on_cancel_callback(cancelled.append)
    came: list[frames.Message] = []
    wire.connection.deliveries[CHANNEL] = came.append
    stream = pika.frame.Method(CHANNEL, spec.Basic.Cancel("gone", True)).marshal() + delivery(1)
    for start in range(0, len(stream), 5):
        wire.broker.send(stream[start : start + 5])
        wire.loop.turn(0.1)
    wire.until(lambda: came)
    assert [frame.method.consumer_tag for frame in cancelled] == ["gone"] and wire.connection._frame_buffer == b""


def test_read_frame_replaces_properties_that_pika_cannot_decode(wire: Wire) -> None:
    channel = wire.channel()
    came: list[Any] = []
    channel._consumers["tag"] = lambda *arguments: came.append(arguments[2])
    wire.broker.send(delivery(1, properties=b"\x00\x40" + b"\xff" * 8))  # a timestamp beyond the year 9999
    wire.until(lambda: came or wire.ended)
    assert not wire.ended and isinstance(came[0], spec.BasicProperties)


def test_output_marshaled_frames_refuses_headers_that_no_frame_holds(wire: Wire) -> None:
    channel = wire.channel()
    with pytest.raises(ValueError, match="properties of"):
        channel.basic_publish("", "q", b"", pika.BasicProperties(headers={"h": "x" * 200_000}))


def test_terminate_stream_ends_the_connection_with_the_reason_that_was_given(wire: Wire) -> None:
    seams.end_stream(wire.connection, pika.exceptions.AMQPHeartbeatTimeout("silent"))
    wire.until(lambda: wire.ended)
    assert describe(wire.ended[0]) == "no heartbeat from the broker" and wire.broker.recv(1) == b""
    seams.end_stream_if_open(wire.connection)


def test_transport_reads_in_large_pieces(wire: Wire) -> None:
    wire.channel()
    came: list[frames.Message] = []
    wire.connection.deliveries[CHANNEL] = came.append
    wire.broker.send(delivery(1, body=b"x" * 30_000))
    wire.until(lambda: came)
    assert max(wire.sizes) == 4096
    seams.read_in_large_pieces(wire.connection)
    wire.broker.send(delivery(2, body=b"x" * 30_000))
    wire.until(lambda: len(came) == 2)
    assert max(wire.sizes) > 30_000


def test_send_method_cancels_and_rejects_nothing(wire: Wire) -> None:
    channel = wire.channel()
    seams.cancel(channel, "tag")
    assert wire.read() == pika.frame.Method(CHANNEL, spec.Basic.Cancel("tag", nowait=True)).marshal()


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "amqp"])
def test_connection_workflow_has_the_error_for_no_answer_in_time(tls: bool) -> None:
    loop = Loop()
    ended: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        parameters = pika.ConnectionParameters(
            "127.0.0.1",
            silent.getsockname()[1],
            stack_timeout=0.1,
            connection_attempts=1,
            ssl_options=pika.SSLOptions(ssl.create_default_context()) if tls else None,
        )
        seams.PikaConnection(
            parameters,
            on_open_error_callback=lambda _connection, error: ended.append(error),
            custom_ioloop=ConnectionLoop(loop, lambda error, callback: None),
        )
        deadline = time.monotonic() + 5.0
        while not ended and time.monotonic() < deadline:
            loop.turn(0.05)
    loop.close()
    assert describe(ended[0]) == "no answer in time"


def test_an_error_of_a_callback_is_caught_and_the_frames_behind_it_are_read(wire: Wire) -> None:
    channel = wire.channel()
    came: list[int] = []
    wire.connection.deliveries[CHANNEL] = lambda message: came.append(1 // (message.delivery_tag - 2))
    channel.add_on_cancel_callback(lambda frame: {}["nothing"])
    cancel = pika.frame.Method(CHANNEL, spec.Basic.Cancel("gone", True)).marshal()
    wire.broker.send(delivery(1) + delivery(2) + cancel + delivery(3))
    wire.until(lambda: len(came) == 2)
    assert [type(error) for error in wire.caught] == [ZeroDivisionError, KeyError] and not wire.ended


def test_a_stream_that_nobody_can_decode_is_ended_by_pika(wire: Wire) -> None:
    wire.channel()
    wire.broker.send(b"\x01\x00\x01\x00\x00\x00\x04\xff\xff\xff\xff\xce" * 2)
    wire.until(lambda: wire.ended)
    assert wire.caught == [], "it is no error of ours"
