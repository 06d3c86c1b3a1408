"""One connection to the first broker that answers: made again with backoff and jitter, to the next host, for ever.

It owns the turn of everything AMQP: outcomes first, then deliveries, then acks; what that sends leaves in one write.
It must never know what its consumers and publishers carry.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pika
import pika.exceptions
from pika import spec

from taskqueue import __version__
from taskqueue.amqp import frames
from taskqueue.amqp.wire import describe, header_frame, is_refusal, to_pika
from taskqueue.config.settings import AmqpSettings
from taskqueue.errors import ConfigError
from taskqueue.foundation.backoff import Backoff
from taskqueue.foundation.loop import Loop, Timer
from taskqueue.protocol.properties import Properties

log = logging.getLogger(__name__)
logging.getLogger("pika").setLevel(logging.CRITICAL)  # what matters of it is logged here, once

_CONNECT_TIMEOUT_S = 10.0
_IMPATIENT_TIMEOUT_S = 3.0
"""In the first round of several hosts: one that is cut off says nothing, and another may answer at once."""
_CLOSE_TIMEOUT_S = 3.0
_BACKOFF = (0.25, 5.0)
"""First and longest wait between two rounds of all hosts, in seconds."""


_PATIENCE_BYTES = 256 * 1024
"""Of a delivery that has not arrived in full so much is kept, to be read at once; what is larger pika takes frame by
frame. Above the largest frame (128 KiB)."""
_RECEIVE_BYTES = 64 * 1024
"""Read from the socket at once; pika's own 4 KiB are six messages."""
_SILENCE = (0.25, 8)
"""Heartbeats between two looks at a connection, and at how many nothing may have come: two heartbeats, as AMQP 0-9-1
has it (4.2.7). pika looks once in a heartbeat and 5 s, so that it may take twice that."""


class Room(Protocol):
    """Something that lives on the connection: told when it comes and goes, and once in every turn of the loop."""

    def up(self) -> None: ...
    def down(self) -> None: ...
    def outcomes(self) -> None: ...
    def deliver(self) -> None: ...
    def flush(self) -> None: ...


class _Gathering(pika.SelectConnection):  # type: ignore[misc]
    """pika's connection, but what is sent in one turn of the loop leaves in one write, and most frames are read and
    written by `frames`.

    `_adapter_emit_data` and `_on_data_available` are pika's own seams between protocol and transport (1.2.0 to 1.4);
    where a later pika has no such methods, these are never called, all goes pika's way, and frames leave one by one.
    The same holds for the other seams.
    """

    by_frames = all(hasattr(pika.SelectConnection, seam) for seam in ("_adapter_emit_data", "_on_data_available"))
    """Whether this pika has the seams."""

    def __init__(self, *arguments: Any, custom_ioloop: Loop, **keywords: Any) -> None:
        self._loop = custom_ioloop
        self._gathered: list[bytes] = []
        self._frame_buffer = b""
        self.deliveries: dict[int, Callable[[frames.Message], None]] = {}
        self.acks: dict[int, Callable[[int, bool], None]] = {}
        """By channel number: who takes deliveries, and acks of what was published."""
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

    def _on_data_available(self, data_in: bytes) -> None:
        """Read what `frames` can read, leave the rest to pika, one frame at a time."""
        buffer: bytes = self._frame_buffer + data_in if self._frame_buffer else data_in
        self._frame_buffer = b""
        start, size = 0, len(buffer)
        deliveries, acks = self.deliveries, self.acks
        while size - start >= frames.FRAMING:
            kind, channel, length = frames.FRAME.unpack_from(buffer, start)
            end = start + length + frames.FRAMING
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
                    message, end = read
                    deliveries[channel](message)
                    self.bytes_received += end - start
                    start = end
                    continue
            elif kind == spec.FRAME_METHOD and channel in acks:
                ack = frames.read_ack(buffer, start)
                if ack is not None:
                    acks[channel](*ack)
                    self.bytes_received += end - start
                    start = end
                    continue
            self._frame_buffer = buffer[start:end]
            super()._on_data_available(b"")
            start = end
        if start < size:
            self._frame_buffer = buffer[start:]

    def _read_frame(self) -> Any:
        """pika's seam between bytes and frames. What it cannot decode would end the connection, come back with the
        next one, and end that too: one hostile message would stop all work."""
        try:
            return super()._read_frame()
        except Exception:
            frame = header_frame(bytes(self._frame_buffer))
            if frame is None:
                raise
            return frame

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        """pika's seam before a message is sent: as `frames.publish` does it, no headers above the size of a frame."""
        size = max(map(len, marshaled_frames))
        if size > self.params.frame_max:
            raise ValueError(f"properties of {size} bytes; a frame takes {self.params.frame_max}")
        super()._output_marshaled_frames(marshaled_frames)

    def _write(self) -> None:
        data = b"".join(self._gathered)
        self._gathered.clear()
        if getattr(self, "_transport", None) is not None:
            super()._adapter_emit_data(data)


class Connection:
    """A connection that comes back by itself.

    `on_up()` is called each time it is open, `on_down()` each time it was lost, `on_blocked(bool)` when the broker
    stops or resumes taking messages (memory or disk alarm).
    """

    def __init__(
        self,
        loop: Loop,
        settings: AmqpSettings,
        name: str,
        *,
        on_up: Callable[[], None] = lambda: None,
        on_down: Callable[[], None] = lambda: None,
        on_blocked: Callable[[bool], None] = lambda blocked: None,
    ) -> None:
        self.loop = loop
        self.settings = settings
        self.name = name
        self.is_up = False
        self.blocked = False
        self.refused = False
        """Whether the last try ended with a no from the broker, not with silence."""
        self.trouble: str | None = None
        """Why it is down, for people; None while it is up."""
        self._on_up, self._on_down, self._on_blocked = on_up, on_down, on_blocked
        self._rooms: list[Room] = []
        self._pika: _Gathering | None = None
        self._hosts = settings.hosts
        self._host = 0
        self._tries_in_round = 0
        self._backoff = Backoff(*_BACKOFF)
        self._retry: Timer | None = None
        self._closing: Callable[[], None] | None = None
        self._over = False
        self._tls = _tls(settings)
        loop.before_wait(self._turn)

    @property
    def host(self) -> str:
        """`host:port` of the broker that is used or tried."""
        host, port = self._hosts[self._host]
        return f"{host}:{port}"

    @property
    def untried(self) -> bool:
        """Whether a host of the list was not tried since it was up last, or since the start."""
        return self._tries_in_round < len(self._hosts)

    @property
    def closing(self) -> bool:
        """Whether `close` was called: what does not leave in this turn never will."""
        return self._closing is not None

    @property
    def server(self) -> Mapping[str, Any]:
        """What the broker says of itself while it is up: `product`, `version`, `cluster_name`, … (AMQP 0-9-1,
        connection.start, server-properties)."""
        return self.pika.server_properties if self.is_up else {}

    @property
    def pika(self) -> Any:
        """pika's open connection, for the rooms of this package."""
        assert self._pika is not None
        return self._pika

    def add(self, room: Room) -> None:
        """Let `room` live on this connection; outcomes come to rooms in the order in which they were added."""
        self._rooms.append(room)
        if self.is_up:
            room.up()

    def remove(self, room: Room) -> None:
        """Undo `add`."""
        self._rooms.remove(room)

    def start(self) -> None:
        """Begin to connect; never blocks, never gives up."""
        self._connect()

    def close(self, done: Callable[[], None]) -> None:
        """Close for good, flushing what was published and acked; `done` is called when it is closed."""
        self._closing = done
        if self._retry is not None:
            self._retry.cancel()
        if self._pika is not None and self._pika.is_open:
            self._turn()
            self._pika.close()
            self.loop.call_later(_CLOSE_TIMEOUT_S, self._closed)  # a queue without a leader leaves a channel unanswered
        else:
            self._closed()

    # -- the turn

    def _turn(self) -> None:
        for room in self._rooms:
            room.outcomes()
        for room in self._rooms:
            room.deliver()
        for room in self._rooms:
            room.flush()

    # -- coming and going

    def _connect(self) -> None:
        self._retry = None
        host, port = self._hosts[self._host]
        settings = self.settings
        impatient = 1 < len(self._hosts) > self._tries_in_round
        timeout_s = _IMPATIENT_TIMEOUT_S if impatient else _CONNECT_TIMEOUT_S
        parameters = pika.ConnectionParameters(
            host=host,
            port=port,
            virtual_host=settings.vhost,
            credentials=pika.PlainCredentials(settings.user, settings.passwd),
            heartbeat=settings.heartbeat_s,
            ssl_options=pika.SSLOptions(self._tls, host) if self._tls is not None else None,
            socket_timeout=timeout_s,
            stack_timeout=timeout_s * 1.5,
            connection_attempts=1,
            client_properties={
                "product": "taskqueue",
                "version": __version__,
                "connection_name": f"{self.name} {socket.gethostname()} pid {os.getpid()}",
            },
        )
        self._pika = _Gathering(
            parameters,
            on_open_callback=self._opened,
            on_open_error_callback=self._lost,
            on_close_callback=self._lost,
            custom_ioloop=self.loop,
        )

    def _opened(self, connection: Any) -> None:
        if self._over:  # closed while it was being made
            connection.close()
            return
        connection.add_on_connection_blocked_callback(lambda _connection, _method: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda _connection, _method: self._set_blocked(False))
        if (transport := getattr(connection, "_transport", None)) is not None:
            transport._MAX_RECV_BYTES = _RECEIVE_BYTES  # where a later pika does not look at it, nothing changes
        self._backoff.reset()
        self._tries_in_round = 0
        self.is_up = True
        self.trouble = None
        self.refused = False
        log.info("broker connected: host=%s vhost=%s user=%s", self.host, self.settings.vhost, self.settings.user)
        for room in self._rooms:
            room.up()
        self._on_up()
        self._listen(connection, 0)

    def _listen(self, connection: Any, silent: int) -> None:
        """Give up a connection on which nothing came at many looks; `silent` of them so far."""

        def look() -> None:
            if self._pika is connection and self.pika.is_open:
                self._listen(connection, silent + 1 if self.pika.bytes_received == received else 0)

        received = connection.bytes_received
        every, most = _SILENCE
        if silent == most:
            connection._terminate_stream(pika.exceptions.AMQPHeartbeatTimeout("silent"))  # as pika's own check does
        elif self.settings.heartbeat_s:
            self.loop.call_later(self.settings.heartbeat_s * every, look)

    def _lost(self, connection: Any, error: BaseException | None) -> None:
        if connection is not self._pika or self._over:
            return
        was_up, self.is_up, self._pika = self.is_up, False, None
        self.blocked = False
        if was_up:
            for room in self._rooms:
                room.down()
            self._on_down()
        if self._closing is not None:
            self._closed()
            return
        trouble = describe(error)
        self.refused = is_refusal(error)
        if trouble != self.trouble:
            level = logging.ERROR if self.refused else logging.WARNING
            event = "broker connection lost" if was_up else "broker not reachable"
            log.log(level, "%s: host=%s reason=%s; trying again until it works", event, self.host, trouble)
            self.trouble = trouble
        self._host = (self._host + 1) % len(self._hosts)
        self._tries_in_round += 1
        wait_s = self._backoff.next_s() if self._tries_in_round % len(self._hosts) == 0 else 0.0
        self._retry = self.loop.call_later(wait_s, self._connect)

    def _set_blocked(self, blocked: bool) -> None:
        if blocked != self.blocked:
            self.blocked = blocked
            if blocked:
                log.warning("broker takes no messages (memory or disk alarm): host=%s; waiting", self.host)
            else:
                log.info("broker takes messages again: host=%s", self.host)
            self._on_blocked(blocked)

    def _closed(self) -> None:
        if self._over:
            return
        self._over = True
        done, self._closing = self._closing, None
        if done is not None:
            self.loop.remove_hook(self._turn)
            done()


def _tls(settings: AmqpSettings) -> ssl.SSLContext | None:
    """The TLS context of [amqp], or None where `ssl` is off; raises `ConfigError` where a file cannot be used."""
    if not settings.ssl:
        return None
    files: Sequence[str | None] = (settings.ca_file, settings.cert_file, settings.key_file)
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(name for name in files if name)
        raise ConfigError(f"[amqp] ca_file, cert_file, key_file: cannot use {named}: {error}") from None
    return context
