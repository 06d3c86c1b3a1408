"""Conversions between pika's types and taskqueue's: properties and deliveries. It must never do I/O.

Example: a client in another language sends a header that is nested 200 deep. The `Delivery` has all other properties,
no headers, and the `fault` "headers: nested deeper than 100 levels; lost": it can only become a dead letter.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, Protocol

import pika
import pika.frame
from pika import spec

from taskqueue.protocol.properties import Properties
from taskqueue.protocol.queues import Queue

NESTING_LIMIT = 100
"""Levels of tables and lists in a header: one that is nested deeper than Python can recurse would end the daemon."""


class Source(Protocol):
    """The consumer that a delivery came from."""

    queue: Queue

    def holds(self, delivery: Delivery) -> bool: ...
    def settle(self, delivery: Delivery) -> bool: ...


class Delivery(NamedTuple):
    """One delivery of a message. `epoch` numbers the consumer's channels, so that a stale delivery is never acked."""

    source: Source
    tag: int
    epoch: int
    properties: Properties
    body: bytes
    redelivered: bool
    fault: str = ""
    """The properties that cannot be read, or could not be sent on, and are missing here; "" where there are none. A
    delivery with a fault can only become a dead letter."""

    @property
    def held(self) -> bool:
        """Whether it can still be settled; otherwise the broker delivers it again."""
        return self.source.holds(self)

    def settle(self) -> bool:
        """Ack it at the end of this turn; False where it is not held any more."""
        return self.source.settle(self)


class Undecodable(pika.BasicProperties):  # type: ignore[misc]
    """Stands for properties that pika could not read."""


class _Uncarried(ValueError):
    """A property was received that cannot be sent on."""


def header_frame(buffer: bytes) -> tuple[int, Any] | None:
    """The content header at the start of `buffer` without its properties: (bytes consumed, pika's frame).

    None where there is no content header. For frames whose properties pika cannot decode: a timestamp beyond the
    year 9999, a field type that it does not know. Frame layout: AMQP 0-9-1, 2.3.5 and 2.3.5.2.
    """
    if len(buffer) < 7 or buffer[0] != spec.FRAME_HEADER:
        return None
    channel, size = struct.unpack_from(">HI", buffer, 1)
    (body_size,) = struct.unpack_from(">Q", buffer, 11)
    return 8 + size, pika.frame.Header(channel, body_size, Undecodable())


def to_pika(properties: Properties) -> Any:
    """pika's properties for a publish; always persistent."""
    return pika.BasicProperties(
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        headers=properties.headers,
        delivery_mode=2,
        priority=properties.priority,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        expiration=properties.expiration,
        message_id=properties.message_id,
        timestamp=properties.timestamp,
        type=properties.type,
        app_id=properties.app_id,
    )


def from_pika(properties: Any) -> tuple[Properties, str]:
    """The properties of a delivered message that can be sent on, and its `Delivery.fault`."""
    if isinstance(properties, Undecodable):
        return Properties(), "properties that cannot be decoded; they are lost"
    try:
        return Properties(
            _text(properties.content_type),
            _text(properties.content_encoding),
            text_table(properties.headers) if properties.headers else None,
            properties.priority,
            _text(properties.correlation_id),
            _text(properties.reply_to),
            _text(properties.expiration),
            _text(properties.message_id),
            properties.timestamp,
            _text(properties.type),
            _text(properties.app_id),
        ), ""
    except _Uncarried:
        return _rest(properties)


def _rest(properties: Any) -> tuple[Properties, str]:
    """As `from_pika`, property by property."""
    kept: dict[str, Any] = {}
    faults = []
    for name in Properties._fields:
        value = getattr(properties, name)
        try:
            kept[name] = text_table(value) if isinstance(value, dict) else _text(value)
        except _Uncarried as error:
            faults.append(f"{name}: {error}; lost")
    return Properties(**kept), ", ".join(faults)


def _text(value: Any) -> Any:
    """`value` as text where pika gives `bytes`, because it is not UTF-8; AMQP 0-9-1 says that it is text."""
    if not isinstance(value, bytes):
        return value
    text = value.decode("utf-8", "backslashreplace")
    if len(text.encode()) > 255:
        raise _Uncarried("not UTF-8, and too long to be made so")
    return text


def text_table(table: dict[Any, Any], depth: int = 1) -> dict[str, Any]:
    """A table with all its names as text, at all levels."""
    return {_text(name): _value(inner, depth) for name, inner in table.items()}


def _value(value: Any, depth: int) -> Any:
    """A value of a table. pika reads more than it can write: a float becomes an integer of any size."""
    if isinstance(value, dict | list):
        if depth > NESTING_LIMIT:
            raise _Uncarried(f"nested deeper than {NESTING_LIMIT} levels")
        if isinstance(value, dict):
            return text_table(value, depth + 1)
        return [_value(inner, depth + 1) for inner in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _Uncarried("a number beyond 64 bits")
    return value
