"""The way of a report: from the broker into the book, and acked after the commit.

1. A delivery of the outcomes arrives; `protocol.handouts` reads it. What it cannot read is logged and acked: it came
   from outside, and would come again for ever.
2. Its event goes into the book, together with all others of that moment.
3. Committed: the delivery is acked; lanes that waited for the slot go on; whoever waits for the task is told.
4. The book is away: the delivery stays, and its event is tried again every half second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from taskqueue.amqp import Delivery
from taskqueue.config.http_settings import HttpSettings
from taskqueue.errors import BookUnavailable, CommitInDoubt
from taskqueue.http.book.book import Book
from taskqueue.http.book.events import Event, Returned, Settled
from taskqueue.http.delivery.broker import Broker
from taskqueue.http.delivery.handing_out import HandingOut
from taskqueue.http.delivery.reading import event_of
from taskqueue.protocol.handout_reports import read_report

log = logging.getLogger(__name__)

_AGAIN_S = 0.5


class Reports:
    """`on_settled(settled)` is called after the commit, for each task that changed."""

    def __init__(
        self,
        book: Book,
        settings: HttpSettings,
        on_settled: Callable[[Settled], None],
    ) -> None:
        self._book, self._settings = book, settings
        self._on_settled = on_settled
        self._broker: Broker | None = None
        self._handing_out: HandingOut | None = None
        self.in_hand = 0
        """Reports that are not acked yet."""

    def serve(self, broker: Broker, handing_out: HandingOut) -> None:
        """Where the reports come from, and who waits for slots."""
        self._broker, self._handing_out = broker, handing_out

    def arrived(self, delivery: Delivery) -> None:
        """A report was delivered."""
        assert self._broker is not None and self._handing_out is not None
        try:
            report = read_report(delivery.properties, delivery.body)
            event = event_of(report, self._settings.keep_response_bytes, self._book.now_ms())
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("report not understood, dropped: task=%s reason=%s", delivery.properties.message_id, error)
            self._broker.settle(delivery)
            return
        now = time.monotonic()
        window = self._handing_out.window(report.worker_type)
        window.heard(report.host, report.slots.all, now)
        if isinstance(event, Returned) and event.why == "late":
            window.late(now)
        self._broker.heard_of(report.worker_type)
        self._handing_out.settled(report.task_id)
        self.in_hand += 1
        self._settle(delivery, event)

    def _settle(self, delivery: Delivery, event: Event) -> None:
        try:
            future = self._book.settle(event)
        except BookUnavailable:  # the front stops: the broker keeps the report
            self.in_hand -= 1
            return
        future.add_done_callback(partial(self._settled, delivery, event))

    def _settled(self, delivery: Delivery, event: Event, future: asyncio.Future[Settled]) -> None:
        assert self._broker is not None and self._handing_out is not None
        error = future.exception()
        if isinstance(error, BookUnavailable | CommitInDoubt):  # an event that was written already is old: no harm
            asyncio.get_running_loop().call_later(_AGAIN_S, self._settle, delivery, event)
            return
        self.in_hand -= 1
        self._broker.settle(delivery)
        if error is not None:
            log.error("report dropped: task=%s unexpected error", event.task_id, exc_info=error)
            return
        settled = future.result()
        if settled.queue is None:
            return
        if settled.due_ms is not None:
            self._handing_out.poke(settled.queue, settled.worker_type, settled.due_ms)
        self._handing_out.freed(settled.queue, settled.worker_type)
        self._on_settled(settled)
