"""A connection to the first broker that answers, made again with backoff and jitter, to the next host, for ever.

Its life, with two hosts `a` and `b`:

1. `start()`: `a` is tried. It does not answer within 3 s; the log says why, once, and `b` is tried.
2. `b` takes us in: users (consumers, publishers, declarers) get `up()`, then `on_up()` is called.
3. Every turn of the loop: `outcomes` of all users, then `deliver`, then `flush`. Confirms of results come before the
   acks of their workitems, and all that a turn sends leaves in one write.
4. Nothing comes from `b` for two heartbeats, or it closes: users get `down()`, `on_down()` is called, `a` is tried.
5. A callback raises an error that nobody expected: it is logged, the connection closes behind the acks that are due,
   and the same host is tried after a backoff (see `containment`).
6. `close(done)`: what was published and acked leaves, the connection closes, `done()` is called.

It must never know what its users carry. A connection belongs to one thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pika.exceptions

from taskqueue.amqp import seams
from taskqueue.amqp.connection_user import ConnectionUser
from taskqueue.amqp.containment import ConnectionLoop, FaultLog
from taskqueue.amqp.hosts import Hosts
from taskqueue.amqp.parameters import parameters, tls_context
from taskqueue.amqp.reasons import describe, is_refusal
from taskqueue.config.settings import AmqpSettings
from taskqueue.foundation.backoff import Backoff
from taskqueue.foundation.contained_loop import Callback
from taskqueue.foundation.loop import Loop, Timer

log = logging.getLogger(__name__)
logging.getLogger("pika").setLevel(logging.CRITICAL)  # the reasons that pika gives are logged here, once

_CLOSE_TIMEOUT_S = 3.0
"""Seconds to wait for the broker's answer to a close; then the socket is closed. A channel that waits for a queue
without a leader never answers."""
_SILENCE = (0.25, 8)
"""Heartbeats between two checks, and checks without a byte after which a connection is given up: two heartbeats, as
AMQP 0-9-1 has it (4.2.7). pika checks once in a heartbeat and 5 s, so it may take twice that."""
_FAULT_BACKOFF = (0.25, 5.0)
"""Seconds, first and longest wait after an unexpected error: a delivery that raises each time must not keep us busy."""
_CALM_S = 60.0
"""Seconds without an unexpected error after which the next one is logged, and waited for, like the first."""


class Connection:
    """A connection that comes back by itself.

    `on_up()` is called each time it is open, `on_down()` each time it was lost, `on_blocked(bool)` when the broker
    stops or resumes taking messages (memory or disk alarm). `on_fault(error)`, where it is given, gets the error that a
    callback raised; nothing is logged then, and the connection stays.
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
        on_fault: Callable[[Exception], None] | None = None,
    ) -> None:
        self.loop = ConnectionLoop(loop, self._caught)
        """The loop for users of this connection: an error of a callback does not end the process."""
        self.settings = settings
        self.name = name
        self.is_up = False
        self.blocked = False
        self.refused = False
        """Whether the broker refused us at the last try; False where it did not answer."""
        self.trouble: str | None = None
        """Why it is down, for people; None while it is up."""
        self._on_up, self._on_down, self._on_blocked, self._on_fault = on_up, on_down, on_blocked, on_fault
        self._users: list[ConnectionUser] = []
        self._pika: seams.PikaConnection | None = None
        self._hosts = Hosts(settings.hosts)
        self._retry: Timer | None = None
        self._closing: Callable[[], None] | None = None
        self._over = False
        self._fault = ""
        """The unexpected error for which the connection closes at the end of this turn; "" where there was none."""
        self._fault_log = FaultLog()
        self._fault_backoff = Backoff(*_FAULT_BACKOFF)
        self._last_fault = time.monotonic()
        self._tls = tls_context(settings)
        self._hooked = loop
        loop.before_wait(self._turn)

    @property
    def host(self) -> str:
        """`host:port` of the broker that is used or tried."""
        host, port = self._hosts.current
        return f"{host}:{port}"

    @property
    def untried(self) -> bool:
        """Whether a host of the list was not tried since the connection was up last, or since the start."""
        return self._hosts.untried

    @property
    def closing(self) -> bool:
        """Whether `close` was called: an ack that does not leave in this turn never will."""
        return self._closing is not None

    @property
    def server(self) -> Mapping[str, Any]:
        """The broker's description of itself while it is up: `product`, `version`, `cluster_name`, … (AMQP 0-9-1,
        connection.start, server-properties)."""
        return self.pika.server_properties if self.is_up else {}

    @property
    def pika(self) -> Any:
        """pika's open connection, for the users in this package."""
        assert self._pika is not None
        return self._pika

    def add(self, user: ConnectionUser) -> None:
        """Let `user` live on this connection; outcomes come to users in the order in which they were added."""
        self._users.append(user)
        if self.is_up:
            user.up()

    def remove(self, user: ConnectionUser) -> None:
        """Undo `add`."""
        self._users.remove(user)

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
            self.loop.call_later(_CLOSE_TIMEOUT_S, self._closed)
        else:
            self._closed()

    # -- the turn

    def _turn(self) -> None:
        try:  # one for all: nothing is added for each message
            for user in self._users:
                user.outcomes()
            for user in self._users:
                user.deliver()
            for user in self._users:
                user.flush()
        except Exception as error:
            self._caught(error, self._turn)
            self._finish_turn()
        if self._fault:
            self.loop.run(self._replace)

    def _finish_turn(self) -> None:
        """After an error: report the outcomes that are left, and send the acks that they lead to."""
        for user in self._users:
            while not self.loop.run(user.outcomes):
                pass  # each call goes on behind the one that raised
        for user in self._users:
            self.loop.run(user.flush)

    def _caught(self, error: Exception, callback: Callback) -> None:
        """`callback` raised an error that nobody expected."""
        if self._on_fault is not None:
            self._on_fault(error)
            return
        if not self._fault:
            self._fault = f"unexpected error: {type(error).__name__}: {error}"[:200]
            now = time.monotonic()
            if now - self._last_fault > _CALM_S:
                self._fault_backoff.reset()
                self._fault_log.clear()
            self._last_fault = now
        self._fault_log.log(error, callback)

    def _replace(self) -> None:
        """Close this connection after an unexpected error, and open another when the backoff is over."""
        gone = self._pika
        if self._closing is None and not self._over:
            self._set_down()
            self.trouble = self._fault
            if self._retry is None:
                self._retry = self.loop.call_later(self._fault_backoff.next_s(), self._connect)
            if gone is not None and not (gone.is_closing or gone.is_closed):
                gone.close()
                self.loop.call_later(_CLOSE_TIMEOUT_S, partial(seams.end_stream_if_open, gone))
        self._fault = ""

    # -- coming and going

    def _connect(self) -> None:
        self._retry = None
        self._pika = seams.PikaConnection(
            parameters(self.settings, self._hosts.current, self._tls, self.name, self._hosts.timeout_s),
            on_open_callback=self._opened,
            on_open_error_callback=self._lost,
            on_close_callback=self._lost,
            custom_ioloop=self.loop,
        )

    def _opened(self, connection: seams.PikaConnection) -> None:
        if self._over or connection is not self._pika:  # closed while it was being made
            connection.close()
            return
        connection.add_on_connection_blocked_callback(lambda _connection, _method: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda _connection, _method: self._set_blocked(False))
        seams.read_in_large_pieces(connection)
        self._hosts.worked()
        self.is_up = True
        self.trouble = None
        self.refused = False
        log.info("broker connected: host=%s vhost=%s user=%s", self.host, self.settings.vhost, self.settings.user)
        self._watch_silence(connection, 0)
        for user in self._users:
            user.up()
        self._on_up()

    def _watch_silence(self, connection: seams.PikaConnection, silent: int) -> None:
        """Give up a connection on which nothing came at many checks; `silent` of them so far."""

        def check() -> None:
            if self._pika is connection and connection.is_open:
                self._watch_silence(connection, silent + 1 if connection.bytes_received == received else 0)

        received = connection.bytes_received
        every, most = _SILENCE
        if silent == most:
            seams.end_stream(connection, pika.exceptions.AMQPHeartbeatTimeout("silent"))
        elif self.settings.heartbeat_s:
            self.loop.call_later(self.settings.heartbeat_s * every, check)

    def _lost(self, connection: seams.PikaConnection, error: BaseException | None) -> None:
        if connection is not self._pika or self._over:
            return
        was_up = self.is_up
        self._set_down()
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
        self._retry = self.loop.call_later(self._hosts.failed(), self._connect)

    def _set_down(self) -> None:
        was_up, self.is_up, self.blocked, self._pika = self.is_up, False, False, None
        if was_up:
            for user in self._users:
                self.loop.run(user.down)
            self.loop.run(self._on_down)

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
            self._hooked.remove_hook(self._turn)
            done()
