"""pika's private names that this package uses, all of them: nowhere else is a name of pika's with an underscore.

pika's public API moves one message at a time through half a dozen objects. Through these seams frames are read and
written by `frames`, and all that is sent in a turn leaves in one write: twice the messages a second. Example: 500
deliveries arrive in one read of 64 KiB; each is read by `frames.read_delivery` and handed to its consumer without an
object of pika's, and 500 publishes leave in one write.

| seam of pika's connection | what it is, and why it is used | without it |
| --- | --- | --- |
| `_adapter_emit_data` | bytes to the socket; gathered here for one write in each turn | frame by frame |
| `_on_data_available` | bytes from the socket; read here by `frames` | pika reads all |
| `_frame_buffer` | bytes that pika is to read; here one frame at a time | as above |
| `_read_frame` | bytes to a frame; a header that pika cannot decode is replaced here | it ends the connection |
| `_output_marshaled_frames` | frames of a message; too large ones are refused here | one ends the connection |
| `_terminate_stream` | ends a connection that is silent, as pika's own check does | `AttributeError` |
| `_transport`, its `_MAX_RECV_BYTES` | size of one read: 64 KiB in place of 4 | six messages a read |
| `_send_method` of its channels | a cancel; pika's own rejects what is on its way | `AttributeError` |
| `adapters.utils.connection_workflow` | the error "no answer in time" | `ImportError` |

All nine are in pika 1.2.0, 1.3.2 and 1.4.4 (read and tried); `tests/unit/amqp/test_seams.py` has a test for each, which
also runs with the oldest. This module must never know what a message is for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pika
import pika.exceptions
from pika import spec
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout

from taskqueue.amqp import frames
from taskqueue.amqp.containment import ConnectionLoop
from taskqueue.amqp.wire import header_frame, to_pika
from taskqueue.protocol.properties import Properties

NO_ANSWER_IN_TIME = AMQPConnectorStackTimeout

_PATIENCE_BYTES = 256 * 1024
"""Bytes of a delivery that has not arrived in full which are kept, to be read at once; a larger one is left to pika,
frame by frame, so that it is not copied again for each read. Above the largest frame (128 KiB)."""
_RECEIVE_BYTES = 64 * 1024
"""Bytes read from the socket at once; pika's own 4 KiB hold six messages."""


class PikaConnection(pika.SelectConnection):  # type: ignore[misc]
    """pika's connection, but what is sent in one turn of the loop leaves in one write, and most frames are read and
    written by `frames`.

    An error of a callback that a frame leads to goes to the loop's `caught`, and the next frame is read. Where a later
    pika does not call the first two seams, all goes pika's way.
    """

    by_frames = all(hasattr(pika.SelectConnection, seam) for seam in ("_adapter_emit_data", "_on_data_available"))
    """Whether this pika has the two seams."""

    def __init__(self, *arguments: Any, custom_ioloop: ConnectionLoop, **keywords: Any) -> None:
        self._loop = custom_ioloop
        self._gathered: list[bytes] = []
        self._frame_buffer = b""
        self._undecodable = False
        """Whether a frame came that nobody can decode: from there on the stream means nothing, and pika ends it."""
        self.deliveries: dict[int, Callable[[frames.Message], None]] = {}
        """By channel number: the function that takes the deliveries on that channel."""
        self.acks: dict[int, Callable[[int, bool], None]] = {}
        """By channel number: the function that takes the confirms (delivery tag, multiple) on that channel."""
        super().__init__(*arguments, custom_ioloop=custom_ioloop, **keywords)

    def publish(self, channel: Any, routing_key: str, properties: Properties, body: bytes) -> None:
        """Publish to the default exchange, persistent and mandatory; raises what `frames.publish` or pika raises."""
        if not self.by_frames:
            channel.basic_publish("", routing_key, body, to_pika(properties), mandatory=True)
        elif channel.is_open:
            number, frame_max = channel.channel_number, self.params.frame_max
            self._adapter_emit_data(frames.publish(number, frame_max, routing_key, properties, body))
        else:
            raise pika.exceptions.ChannelWrongStateError("Channel is closed.")

    def _adapter_emit_data(self, data: bytes) -> None:
        if not self._gathered:
            self._loop.call_soon(self._write)
        self._gathered.append(data)

    def _write(self) -> None:
        data = b"".join(self._gathered)
        self._gathered.clear()
        if getattr(self, "_transport", None) is not None:
            super()._adapter_emit_data(data)

    def _on_data_available(self, data_in: bytes) -> None:
        """Read what `frames` can read, leave the rest to pika, one frame at a time."""
        buffer: bytes = self._frame_buffer + data_in if self._frame_buffer else data_in
        self._frame_buffer = b""
        start, size = 0, len(buffer)
        deliveries, acks = self.deliveries, self.acks
        while size - start >= frames.FRAMING:
            kind, channel, length = frames.FRAME.unpack_from(buffer, start)
            begin, end = start, start + length + frames.FRAMING
            try:
                if kind > spec.FRAME_HEARTBEAT:  # another protocol
                    end = size
                elif end > size:
                    break
                elif kind == spec.FRAME_METHOD and channel in deliveries:
                    try:
                        read = frames.read_delivery(buffer, start, channel)
                    except frames.Incomplete:
                        if size - start < _PATIENCE_BYTES:
                            break
                        read = None
                    if read is not None:
                        message, start = read
                        self.bytes_received += start - begin
                        deliveries[channel](message)
                        continue
                elif kind == spec.FRAME_METHOD and channel in acks:
                    ack = frames.read_ack(buffer, start)
                    if ack is not None:
                        start = end
                        self.bytes_received += end - begin
                        acks[channel](*ack)
                        continue
                self._frame_buffer = buffer[start:end]
                start = end
                super()._on_data_available(b"")
            except Exception as error:
                if self._undecodable or start == begin:
                    raise
                self._loop.caught(error, self._on_data_available)
        if start < size:
            self._frame_buffer = buffer[start:]

    def _read_frame(self) -> Any:
        """Replace properties that pika cannot decode. They would end the connection, come back with the next one, and
        end that too: one hostile message would stop all work."""
        try:
            return super()._read_frame()
        except Exception:
            frame = header_frame(bytes(self._frame_buffer))
            if frame is None:
                self._undecodable = True
                raise
            return frame

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        """Refuse headers above the size of a frame, as `frames.publish` does."""
        size = max(map(len, marshaled_frames))
        if size > self.params.frame_max:
            raise ValueError(f"properties of {size} bytes; a frame takes {self.params.frame_max}")
        super()._output_marshaled_frames(marshaled_frames)


def read_in_large_pieces(connection: PikaConnection) -> None:
    """Read more at once from an open connection; nothing changes where a later pika does not look at it."""
    if (transport := getattr(connection, "_transport", None)) is not None:
        transport._MAX_RECV_BYTES = _RECEIVE_BYTES


def end_stream(connection: PikaConnection, error: Exception) -> None:
    """Close the socket without a word to the broker; pika then reports `error` as the reason."""
    connection._terminate_stream(error)


def end_stream_if_open(connection: PikaConnection) -> None:
    """`end_stream` of a connection whose close the broker has not answered."""
    if not connection.is_closed:
        end_stream(connection, pika.exceptions.AMQPHeartbeatTimeout("no answer to a close"))


def cancel(channel: Any, consumer_tag: str) -> None:
    """Cancel a consumer; what is on its way still arrives. pika's `basic_cancel` rejects it, which counts towards the
    delivery limit of a quorum queue."""
    channel._send_method(spec.Basic.Cancel(consumer_tag, nowait=True))
