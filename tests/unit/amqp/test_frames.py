"""What `frames` reads and writes is what pika reads and writes, whatever a message looks like. Without a broker."""

from __future__ import annotations

import struct
from typing import Any

import pika
import pika.exceptions
import pika.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import spec

from hostile import HEADERS, PROPERTIES, Case, numbered
from raw_amqp import content_header
from taskqueue.amqp import frames
from taskqueue.amqp.wire import from_pika, to_pika
from taskqueue.protocol.properties import Properties

CHANNEL, FRAME_MAX = 3, 4096
BODY_ROOM = FRAME_MAX - frames.FRAMING


def frame(kind: int, payload: bytes, channel: int = CHANNEL) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def delivery(properties: bytes, body: bytes = b"body", tag: int = 7, redelivered: bool = False) -> bytes:
    """The frames of a delivery; `properties` are flags and values."""
    method = pika.frame.Method(CHANNEL, spec.Basic.Deliver("ctag", tag, redelivered, "", "worker_x")).marshal()
    header = frame(2, struct.pack(">HHQ", 60, 0, len(body)) + properties)
    bodies = (frame(3, body[start : start + BODY_ROOM]) for start in range(0, len(body), BODY_ROOM))
    return b"".join([method, header, *bodies])


def encoded(properties: Properties) -> bytes:
    return b"".join(to_pika(properties).encode())


def read(buffer: bytes, start: int = 0) -> tuple[frames.Message, int]:
    found = frames.read_delivery(buffer, start, CHANNEL)
    assert found is not None
    return found


TEXT = st.text(max_size=60)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OURS = st.builds(
    Properties,
    content_type=st.none() | st.sampled_from(["text/plain", "application/json", ""]) | TEXT,
    content_encoding=st.none() | TEXT,
    headers=st.none() | st.dictionaries(TEXT, VALUES, max_size=4),
    priority=st.none() | st.integers(0, 255),
    correlation_id=st.none() | TEXT,
    reply_to=st.none() | TEXT,
    expiration=st.none() | TEXT,
    message_id=st.none() | TEXT,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    type=st.none() | TEXT,
    app_id=st.none() | TEXT,
)


@settings(max_examples=500)
@given(
    properties=OURS,
    sent=st.sampled_from([0, 1, BODY_ROOM, BODY_ROOM + 1, 3 * BODY_ROOM]).map(bytes),
    came=st.binary(max_size=10),
    redelivered=st.booleans(),
)
def test_a_message_is_what_pika_sends_and_what_it_reads(
    properties: Properties, sent: bytes, came: bytes, redelivered: bool
) -> None:
    header = to_pika(properties)
    method = spec.Basic.Publish(exchange="", routing_key="worker_ä", mandatory=True)
    parts = [pika.frame.Method(CHANNEL, method), pika.frame.Header(CHANNEL, len(sent), header)]
    parts += [pika.frame.Body(CHANNEL, sent[at : at + BODY_ROOM]) for at in range(0, len(sent), BODY_ROOM)]
    assert frames.publish(CHANNEL, FRAME_MAX, "worker_ä", properties, sent) == b"".join(
        part.marshal() for part in parts
    )

    raw = b"".join(header.encode())
    buffer = delivery(raw, came, 2**64 - 1, redelivered)
    (theirs, fault) = from_pika(spec.BasicProperties().decode(raw))
    if fault:  # pika 1.2.0 reads a negative number of 64 bits as one that is too large
        assert frames.read_delivery(buffer, 0, CHANNEL) is None
        return
    message, end = read(b"before" + buffer + b"behind", len(b"before"))
    assert message == frames.Message("ctag", 2**64 - 1, redelivered, theirs, came)
    assert end == len(b"before" + buffer)


@settings(max_examples=500)
@given(fields=HEADERS, properties=PROPERTIES)
def test_a_hostile_delivery_is_what_pika_reads_or_is_left_to_it(fields: Any, properties: dict[str, bytes]) -> None:
    raw = content_header(numbered(Case("", properties, fields, b""), 1))
    found = frames.read_delivery(delivery(raw), 0, CHANNEL)
    if found is not None:
        assert (found[0].properties, "") == from_pika(spec.BasicProperties().decode(raw))


@pytest.mark.parametrize("size", [0, 1, BODY_ROOM, 2 * BODY_ROOM + 5])
def test_a_delivery_that_has_not_arrived_in_full_is_waited_for(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    buffer = delivery(encoded(Properties(message_id="m", headers={"a": 1})), body[:size])
    (method_size,) = struct.unpack_from(">I", buffer, 3)
    for cut in range(method_size + frames.FRAMING, len(buffer)):
        with pytest.raises(frames.Incomplete):
            frames.read_delivery(buffer[:cut], 0, CHANNEL)
    assert read(buffer)[0].body == body[:size]


MESSAGE = delivery(encoded(Properties(message_id="m")))
METHOD_END = struct.unpack_from(">I", MESSAGE, 3)[0] + frames.FRAMING


@pytest.mark.parametrize(
    "buffer",
    [
        pytest.param(pika.frame.Method(CHANNEL, spec.Basic.GetOk(1, False, "", "q", 0)).marshal(), id="a get"),
        pytest.param(MESSAGE[: METHOD_END - 1] + b"\0" + MESSAGE[METHOD_END:], id="no end of the method"),
        pytest.param(MESSAGE[:-1] + b"\0", id="no end of the body"),
        pytest.param(MESSAGE[:METHOD_END] + frame(2, struct.pack(">HHQH", 60, 0, 0, 1) + bytes(40)), id="more flags"),
        pytest.param(MESSAGE[:METHOD_END] + frame(3, bytes(40)) + bytes(40), id="a body without a header"),
        pytest.param(
            MESSAGE[:METHOD_END] + MESSAGE[METHOD_END:].replace(b"\0\x03", b"\0\x04", 1), id="of another channel"
        ),
        pytest.param(delivery(struct.pack(">H", 1 << 7) + b"\x02\xff\xfe"), id="not UTF-8"),
        pytest.param(delivery(struct.pack(">H", 1 << 7) + b"\x09ab"), id="text beyond the header"),
        pytest.param(delivery(struct.pack(">H", 1 << 7) + b"\x01abc"), id="more than the flags say"),
    ],
)
def test_what_is_unusual_is_left_to_pika(buffer: bytes) -> None:
    assert frames.read_delivery(buffer, 0, CHANNEL) is None


def test_acks() -> None:
    for tag, multiple in ((1, False), (2**64 - 1, True)):
        method = pika.frame.Method(CHANNEL, spec.Basic.Ack(tag, multiple)).marshal()
        assert frames.read_ack(b"x" + method, 1) == (tag, multiple)
    assert frames.read_ack(pika.frame.Method(CHANNEL, spec.Basic.Nack(1)).marshal(), 0) is None


@pytest.mark.parametrize(
    "properties",
    [
        Properties(message_id="x" * 256),
        Properties(priority=256),
        Properties(headers={"a": object()}),
        Properties(headers={"a": "x" * FRAME_MAX}),
        Properties(content_type="x" * 256),
    ],
)
def test_what_amqp_cannot_carry_is_refused(properties: Properties) -> None:
    with pytest.raises((ValueError, struct.error, pika.exceptions.AMQPError)):
        frames.publish(CHANNEL, FRAME_MAX, "q", properties, b"")
