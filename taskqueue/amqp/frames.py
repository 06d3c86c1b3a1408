"""Reads deliveries and confirms, writes publishes: nearly all frames of a busy connection, without an object for each.

The life of a delivery here: its method frame (consumer tag, delivery tag), its header frame (size of the body, flags,
properties) and its body frames lie behind each other in the buffer; `read_delivery` returns one `Message`, and where it
ends. It reads and writes the same bytes as pika (AMQP 0-9-1, 2.3 and 4.2), several times faster. Everything unusual (a
message in more frames than have arrived, properties that are not text, a frame of another kind) it leaves to pika. It
must never know what a connection does with a frame.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any, NamedTuple

import pika.data
import pika.exceptions
from pika import spec

from taskqueue.amqp.wire import text_table
from taskqueue.protocol.properties import Headers, Properties

FRAME = struct.Struct(">BHI")
"""Type, channel and size, before each payload; `_END` stands behind it."""
FRAMING = FRAME.size + 1
"""Bytes of a frame beside its payload."""
_END = spec.FRAME_END
_CONTENT = struct.Struct(">HHQH")
"""A content header: class, weight, size of the body, flags of the properties."""
_CONTENT_OUT = struct.Struct(">HHQ")
_DELIVER, _ACK = (struct.pack(">I", method.INDEX) for method in (spec.Basic.Deliver, spec.Basic.Ack))
_DELIVERY_TAG = struct.Struct(">QB")
_LONG, _LONG_STRING, _INTEGER = struct.Struct(">I"), struct.Struct(">cI"), struct.Struct(">ci")
_LONG_LONG, _SHORT_SIZE, _FLAGS = struct.Struct(">Q"), struct.Struct("B"), struct.Struct(">H")
_BASIC = spec.BasicProperties.INDEX

_SHORT, _TABLE, _OCTET, _TIME = range(4)
_FIELDS = (
    ("content_type", _SHORT), ("content_encoding", _SHORT), ("headers", _TABLE), ("delivery_mode", _OCTET),
    ("priority", _OCTET), ("correlation_id", _SHORT), ("reply_to", _SHORT), ("expiration", _SHORT),
    ("message_id", _SHORT), ("timestamp", _TIME), ("type", _SHORT), ("user_id", _SHORT), ("app_id", _SHORT),
    ("cluster_id", _SHORT),
)  # fmt: skip
"""The properties in the order of their flags, from the highest bit on (AMQP 0-9-1, 1.8.3 and 4.2.6.1)."""
_KEPT = {name: index for index, name in enumerate(Properties._fields)}
_PERSISTENT = b"\x02"


class Message(NamedTuple):
    """One delivery, as it came."""

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    properties: Properties
    body: bytes


# -- in


class Incomplete(Exception):
    """The rest of a delivery has not arrived yet."""


def read_delivery(buffer: bytes, start: int, channel: int) -> tuple[Message, int] | None:
    """The delivery on `channel` whose first frame, complete, is at `start`, and where it ends.

    None where it is no delivery, and where pika has to look at it. Raises `Incomplete`.
    """
    at = start + FRAME.size
    if buffer[at : at + 4] != _DELIVER:
        return None
    size = FRAME.unpack_from(buffer, start)[2]
    at += 5
    tag_end = at + buffer[at - 1]
    consumer_tag = buffer[at:tag_end]
    delivery_tag, redelivered = _DELIVERY_TAG.unpack_from(buffer, tag_end)
    at = start + size + FRAMING  # of the content header
    if len(buffer) < at + FRAME.size + _CONTENT.size:
        raise Incomplete
    kind, on, size = FRAME.unpack_from(buffer, at)
    basic, _, body_size, flags = _CONTENT.unpack_from(buffer, at + FRAME.size)
    end = at + size + FRAMING
    if kind != spec.FRAME_HEADER or on != channel or basic != _BASIC or buffer[at - 1] != _END:
        return None
    if len(buffer) < end + body_size:
        raise Incomplete
    properties = _properties(buffer, at + FRAME.size + _CONTENT.size, end - 1, flags)
    if properties is None:
        return None
    parts = []
    while body_size > 0:
        if len(buffer) < end + FRAMING:
            raise Incomplete
        kind, on, size = FRAME.unpack_from(buffer, end)
        end += size + FRAMING
        if kind != spec.FRAME_BODY or on != channel:
            return None
        if len(buffer) < end:
            raise Incomplete
        if buffer[end - 1] != _END:
            return None
        parts.append(buffer[end - 1 - size : end - 1])
        body_size -= size
    if body_size:
        return None
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    return Message(_name(consumer_tag), delivery_tag, redelivered & 1 == 1, properties, body), end


def read_ack(buffer: bytes, start: int) -> tuple[int, bool] | None:
    """(delivery tag, multiple) of the ack whose frame, complete, is at `start`; None where it is another method."""
    at = start + FRAME.size
    if buffer[at : at + 4] != _ACK:
        return None
    tag, multiple = _DELIVERY_TAG.unpack_from(buffer, at + 4)
    return tag, multiple & 1 == 1


@lru_cache(256)
def _name(consumer_tag: bytes) -> str:
    return consumer_tag.decode()


@lru_cache(256)
def _plan(flags: int) -> tuple[tuple[int | None, int], ...]:
    """The properties behind these flags: the place of each in `Properties` (None: not kept), and its kind."""
    return tuple((_KEPT.get(name), kind) for bit, (name, kind) in enumerate(_FIELDS) if flags & (1 << (15 - bit)))


@lru_cache(256)
def _common_text(encoded: bytes) -> str:
    """Text that is the same in many messages, such as content types."""
    return encoded.decode()


def _properties(buffer: bytes, at: int, end: int, flags: int) -> Properties | None:
    """The properties at `at`; None where they do not end at `end`, or only pika can read them."""
    if flags & 0b11 or buffer[end] != _END:  # more flags than there are properties
        return None
    values: list[Any] = [None] * len(_KEPT)
    try:
        for place, kind in _plan(flags):
            value: Any
            if kind == _SHORT:
                at += 1
                stop = at + buffer[at - 1]
                encoded = buffer[at:stop]
                value = _common_text(encoded) if place == 0 else encoded.decode()
                at = stop
            elif kind == _OCTET:
                value = buffer[at]
                at += 1
            elif kind == _TABLE:
                value, at = pika.data.decode_table(buffer, at)
                value = text_table(value) if value else None
            else:
                (value,) = _LONG_LONG.unpack_from(buffer, at)
                at += 8
            if place is not None:
                values[place] = value
    except Exception:  # of our decoders or of pika's, whose own way knows what to do about it
        return None
    return Properties._make(values) if at == end else None


# -- out


def publish(channel: int, frame_max: int, routing_key: str, properties: Properties, body: bytes) -> bytes:
    """The frames of a mandatory, persistent publish to the default exchange.

    Raises `ValueError`, `struct.error` or what pika's encoders raise where AMQP cannot carry the message. A header
    frame is never split, so one above `frame_max` is refused here: for it the broker would end each connection, again
    and again.
    """
    encoded = _encoded(properties)
    size = sum(map(len, encoded)) + _CONTENT_OUT.size
    if size + FRAMING > frame_max:
        raise ValueError(f"properties of {size + FRAMING} bytes; a frame takes {frame_max}")
    pieces = [
        _publish_method(channel, routing_key),
        FRAME.pack(spec.FRAME_HEADER, channel, size),
        _CONTENT_OUT.pack(_BASIC, 0, len(body)),
        *encoded,
    ]
    room = frame_max - FRAMING
    if len(body) <= room:
        if body:
            pieces += (_END_BYTE, FRAME.pack(spec.FRAME_BODY, channel, len(body)), body)
    else:
        for start in range(0, len(body), room):
            part = body[start : start + room]
            pieces += (_END_BYTE, FRAME.pack(spec.FRAME_BODY, channel, len(part)), part)
    pieces.append(_END_BYTE)
    return b"".join(pieces)


_END_BYTE = bytes([_END])


@lru_cache(1024)
def _publish_method(channel: int, routing_key: str) -> bytes:
    payload = b"".join(
        [struct.pack(">I", spec.Basic.Publish.INDEX), b"\0\0", b"\0", _short(routing_key), b"\x01"]
    )  # no ticket, default exchange, mandatory
    return FRAME.pack(spec.FRAME_METHOD, channel, len(payload)) + payload + _END_BYTE


def _short(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > 255:
        raise pika.exceptions.ShortStringTooLong(encoded)
    return _SHORT_SIZE.pack(len(encoded)) + encoded


_common_short = lru_cache(256)(_short)


def _table(headers: Headers) -> bytes:
    """A field table: text and small numbers are encoded here, all else by pika."""
    pieces = [b""]
    for name, value in headers.items():
        pieces.append(_common_short(name))
        if type(value) is str:
            text = value.encode()
            pieces += (_LONG_STRING.pack(b"S", len(text)), text)
        elif type(value) is int and -(2**31) <= value < 2**31:
            pieces.append(_INTEGER.pack(b"I", value))
        else:
            pika.data.encode_value(pieces, value)
    pieces[0] = _LONG.pack(sum(map(len, pieces)))
    return b"".join(pieces)


def _encoded(properties: Properties) -> list[bytes]:
    """Flags and properties as they follow the size of the body; always persistent."""
    (
        content_type, content_encoding, headers, priority, correlation_id, reply_to, expiration, message_id, timestamp,
        type_, app_id,
    ) = properties  # fmt: skip
    flags = spec.BasicProperties.FLAG_DELIVERY_MODE
    pieces = [b""]
    if content_type is not None:
        flags |= spec.BasicProperties.FLAG_CONTENT_TYPE
        pieces.append(_common_short(content_type))
    if content_encoding is not None:
        flags |= spec.BasicProperties.FLAG_CONTENT_ENCODING
        pieces.append(_common_short(content_encoding))
    if headers is not None:
        flags |= spec.BasicProperties.FLAG_HEADERS
        pieces.append(_table(headers))
    pieces.append(_PERSISTENT)
    if priority is not None:
        flags |= spec.BasicProperties.FLAG_PRIORITY
        pieces.append(_SHORT_SIZE.pack(priority))
    for value, flag in (
        (correlation_id, spec.BasicProperties.FLAG_CORRELATION_ID),
        (reply_to, spec.BasicProperties.FLAG_REPLY_TO),
        (expiration, spec.BasicProperties.FLAG_EXPIRATION),
        (message_id, spec.BasicProperties.FLAG_MESSAGE_ID),
    ):
        if value is not None:
            flags |= flag
            pieces.append(_short(value))
    if timestamp is not None:
        flags |= spec.BasicProperties.FLAG_TIMESTAMP
        pieces.append(_LONG_LONG.pack(timestamp))
    if type_ is not None:
        flags |= spec.BasicProperties.FLAG_TYPE
        pieces.append(_short(type_))
    if app_id is not None:
        flags |= spec.BasicProperties.FLAG_APP_ID
        pieces.append(_short(app_id))
    pieces[0] = _FLAGS.pack(flags)
    return pieces
