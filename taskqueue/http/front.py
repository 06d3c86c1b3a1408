"""A front: the composition of book, broker, hand-outs and server, and its life from start to end.

1. `start`: the sockets are open already. The book is opened, and made where it is empty; the queues of config.ini are
   written into it. The server accepts; the broker is connected to in the background, and may be away.
2. It serves. Each second `upkeep` beats.
3. `reload`: the queues of config.ini are written anew, and the limits of requests change. No connection is dropped.
4. `stop`: nothing more is accepted or handed out; requests under way are answered, reports in hand are committed; the
   broker's and the book's connections are closed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable

from taskqueue import __version__
from taskqueue.config.http_settings import HttpSettings
from taskqueue.config.settings import AmqpSettings
from taskqueue.errors import BookUnavailable, CommitInDoubt
from taskqueue.http.access import Access
from taskqueue.http.api_server import ApiServer
from taskqueue.http.book.book import Book, open_book
from taskqueue.http.book.events import Settled
from taskqueue.http.book.queue_rows import config_hash
from taskqueue.http.book.watching import Beat
from taskqueue.http.delivery.broker import Broker
from taskqueue.http.delivery.handing_out import HandingOut
from taskqueue.http.delivery.messages import Messages
from taskqueue.http.delivery.reports import Reports
from taskqueue.http.desk import Desk
from taskqueue.http.ids import new_identity
from taskqueue.http.queue_cache import QueueCache
from taskqueue.http.states import ENDED
from taskqueue.http.upkeep import Upkeep
from taskqueue.http.waiters import Waiters

log = logging.getLogger(__name__)

_REPORTS_S = 5.0
"""Seconds that the end waits for reports that are in hand; the broker delivers the others again."""


class Front:
    """One front process. Make and use it inside a running asyncio loop."""

    def __init__(self, settings: HttpSettings, amqp: AmqpSettings, sockets: list[socket.socket]) -> None:
        self.settings = settings
        self._amqp = amqp
        self._sockets = sockets
        self._id = new_identity()
        self._queues = QueueCache()
        self._tasks: list[asyncio.Task[None]] = []
        self.book: Book
        self.broker: Broker
        self.server: ApiServer

    async def start(self, on_turn: Callable[[], None] = lambda: None) -> None:
        """Serve from here on; `on_turn` is called each second. Raises `BookUnavailable` (also
        its kin `CommitInDoubt` and `Collision`) and `BookMismatch` where the book cannot be opened."""
        settings = self.settings
        self.book = book = await open_book(settings, self._queues.settings)
        self._access = Access(settings, await book.tokens())
        self._access.require_tokens()
        await book.take_config(settings.queues, config_hash(settings.queues))
        self._queues.take(await book.lanes())
        self._waiters = Waiters(book)
        self._reports = Reports(book, settings, self._settled)
        self.broker = Broker(
            self._amqp, book.id, on_report=self._reports.arrived, on_change=lambda: self._handing_out.changed()
        )
        self._handing_out = HandingOut(
            book, self.broker, self._queues, Messages(book.id, settings), self._id, self._waiters.ended
        )
        self._reports.serve(self.broker, self._handing_out)
        beat = Beat(
            self._id,
            socket.gethostname(),
            int(time.time() * 1000),
            __version__,
            config_hash(settings.queues),
            book.one_front,
        )
        self._upkeep = Upkeep(book, self._queues, self._handing_out, beat, self._access.take, on_turn)
        await self._upkeep.once()
        desk = Desk(book, self.broker, self._queues, self._handing_out, self._waiters, settings)
        self.server = ApiServer(desk, self._access, settings)
        await self.server.start(self._sockets)
        self.broker.start()
        self._tasks = [
            asyncio.create_task(self._handing_out.run(), name="handing out"),
            asyncio.create_task(self._upkeep.run(), name="upkeep"),
        ]

    async def reload(self, settings: HttpSettings) -> None:
        """Take the config anew. Where the book or the sockets differ, that needs a restart, and the log says so."""
        fixed = ("listen", "book", "processes", "tls_cert", "tls_key", "client_ca")
        changed = [key for key in fixed if getattr(settings, key) != getattr(self.settings, key)]
        if changed:
            log.warning("reloaded, but for what needs a restart: keys=%s", ",".join(changed))
        self.settings = settings
        try:
            await self.book.take_config(settings.queues, config_hash(settings.queues))
            self._queues.take(await self.book.lanes())
        except (BookUnavailable, CommitInDoubt) as error:
            log.error("queues not reloaded: %s; send SIGHUP again", error)
        self._upkeep.config_changed(config_hash(settings.queues))
        self.server.configure(settings)
        self._handing_out.changed()

    def watch(self) -> asyncio.Task[None] | None:
        """A part that has ended, which none may; None while all run."""
        return next((task for task in self._tasks if task.done()), None)

    async def stop(self, patience_s: float) -> None:
        """End in good order, within about `patience_s` seconds."""
        self._handing_out.stop()
        self._waiters.stop()
        await self.server.stop(patience_s)
        upkeep = self._tasks[1]
        upkeep.cancel()
        await asyncio.wait(self._tasks, timeout=2.0)
        until = time.monotonic() + min(_REPORTS_S, patience_s)
        while self._reports.in_hand and time.monotonic() < until:
            await asyncio.sleep(0.02)
        await self.broker.close()
        await self.book.close()

    def _settled(self, settled: Settled) -> None:
        if settled.state in ENDED:
            self._waiters.ended(settled.task_id)
