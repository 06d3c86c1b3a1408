"""Hands out what is due: claims in the book, publishes to the broker, watches over both. One task of asyncio.

1. A request enqueues a task that is due at once, and before that is committed: `poke("emails", "webhook", due)`.
2. `_round`: lanes with something due, whose worker type is served, are claimed together, in one transaction.
3. Each claim is published at once. The broker confirms: in flight. It does not: the claim goes back to the book.
4. A claim that was held up (this process was stopped, the book was slow) is given back, not published: it may be too
   late, or another front's by now.
5. What was confirmed, and has no outcome after 50 ms, is noted as published: no other front takes it over.

A *lane* is a queue and a worker type: a type that nobody serves holds up nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from taskqueue.errors import BookUnavailable, CommitInDoubt
from taskqueue.http.book.book import Book
from taskqueue.http.book.claiming import HandOut, Wish, valid_s
from taskqueue.http.delivery.broker import Broker
from taskqueue.http.delivery.messages import Messages
from taskqueue.http.delivery.windows import Window
from taskqueue.http.queue_cache import QueueCache

log = logging.getLogger(__name__)

Lane = tuple[str, str]
"""(queue, worker type)."""

_AGAIN_S = 1.0
"""Seconds until a lane that gave nothing, though something is due, is tried again by itself."""
_MARK_S = 0.05
"""Seconds after its confirm when a hand-out without an outcome is noted as published."""
_PAUSE_S = 0.5
"""Seconds to wait after the book was away."""


class HandingOut:
    """`on_ended(task id)` is called for a task that expired in place of a hand-out."""

    def __init__(
        self,
        book: Book,
        broker: Broker,
        queues: QueueCache,
        messages: Messages,
        front: str,
        on_ended: Callable[[str], None],
    ) -> None:
        self._book, self._broker, self._queues, self._messages = book, broker, queues, messages
        self._front = front
        self._on_ended = on_ended
        self._due: dict[Lane, int] = {}
        """When the next task of a lane is due, as far as this front knows."""
        self._held: dict[Lane, float] = {}
        """Lanes that gave nothing though something is due, and until when they rest (monotonic), or something ends."""
        self.windows: dict[str, Window] = {}
        self._wake = asyncio.Event()
        self._unmarked: dict[str, tuple[HandOut, float]] = {}
        self._marking: asyncio.TimerHandle | None = None
        self._stopped = False

    # -- what happens

    def poke(self, queue: str, worker_type: str, due_ms: int) -> None:
        """Something of that lane is due at `due_ms`, by the book's clock."""
        lane = (queue, worker_type)
        known = self._due.get(lane)
        if known is None or due_ms < known:
            self._due[lane] = due_ms
            self._wake.set()

    def poke_all(self, due: dict[Lane, int]) -> None:
        """When the next task of each lane is due, as the book says."""
        for (queue, worker_type), due_ms in due.items():
            self.poke(queue, worker_type, due_ms)

    def freed(self, queue: str, worker_type: str | None = None) -> None:
        """A hand-out has ended, or `queue` was resumed: lanes that wait for its slot may go on."""
        for lane in [lane for lane in self._held if lane[0] == queue or lane[1] == worker_type]:
            del self._held[lane]
            self._wake.set()

    def settled(self, task_id: str) -> None:
        """A report of this task came: nobody needs to note that it was published."""
        self._unmarked.pop(task_id, None)

    def changed(self) -> None:
        """The broker came or went, or serves another worker type."""
        self._held.clear()
        self._wake.set()

    def window(self, worker_type: str) -> Window:
        """The window of a worker type."""
        window = self.windows.get(worker_type)
        if window is None:
            window = self.windows[worker_type] = Window()
        return window

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True
        self._wake.set()

    # -- the task

    async def run(self) -> None:
        """Hand out until `stop`."""
        while not self._stopped:
            self._wake.clear()
            try:
                more = await self._round()
            except (BookUnavailable, CommitInDoubt):
                await asyncio.sleep(_PAUSE_S)
                continue
            if not more:
                await self._wait()

    async def _round(self) -> bool:
        """Claim what is due, and publish it; gives whether there may be more at once."""
        if not self._broker.ready:
            return False
        now_ms, now = self._book.now_ms(), time.monotonic()
        lanes = [
            lane
            for lane, due_ms in self._due.items()
            if due_ms <= now_ms and self._held.get(lane, 0.0) <= now and self._may(lane)
        ]
        wishes = []
        for queue, worker_type in lanes:
            settings = self._queues.settings(queue)
            assert settings is not None
            wishes.append(Wish(settings, worker_type, self.window(worker_type).size, self._front))
        started = time.monotonic()
        due = {lane: self._due.pop(lane) for lane in lanes}  # who pokes from here on has not been seen by these claims
        try:
            claims = await asyncio.gather(*(self._book.claim(wish) for wish in wishes))
        except BaseException:
            self.poke_all(due)
            raise
        more = False
        for lane, wish, claimed in zip(lanes, wishes, claims, strict=True):
            for task_id in claimed.ended:
                self._on_ended(task_id)
            patience_s = min(2.0, valid_s(wish.queue) / 2)
            for handout in claimed.handouts:
                if time.monotonic() - started > patience_s:
                    self._give_back(handout)
                else:
                    self._publish(handout)
            got = bool(claimed.handouts or claimed.ended or claimed.deferred)
            self._after(lane, claimed.next_ms, got=got)
            more = more or got
        return more

    def _after(self, lane: Lane, next_ms: int | None, *, got: bool) -> None:
        """A lane was claimed: when it is tried next. Where nothing is due, the next poke tells; and the book is asked
        each second."""
        if next_ms is None:
            return
        known = self._due.get(lane)
        self._due[lane] = next_ms if known is None else min(known, next_ms)
        if not got and next_ms <= self._book.now_ms():
            self._held[lane] = time.monotonic() + _AGAIN_S

    def _may(self, lane: Lane) -> bool:
        queue = self._queues.queue(lane[0])
        return queue is not None and not queue.paused and self._broker.serves(lane[1])

    async def _wait(self) -> None:
        """Until something happens, or is due."""
        now_ms, now = self._book.now_ms(), time.monotonic()
        waits = [
            max((due_ms - now_ms) / 1000, self._held.get(lane, 0.0) - now)
            for lane, due_ms in self._due.items()
            if self._may(lane)
        ]
        wait_s = max(0.0, min(waits, default=_AGAIN_S)) if self._broker.ready else _AGAIN_S
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return

    # -- one hand-out

    def _publish(self, handout: HandOut) -> None:
        settings = self._queues.settings(handout.queue)
        assert settings is not None
        properties, body = self._messages.of(handout, settings)

        def done(confirmed: bool) -> None:
            if not confirmed:
                self._give_back(handout)
                return
            self._unmarked.setdefault(handout.task_id, (handout, time.monotonic()))
            if self._marking is None:
                self._marking = asyncio.get_running_loop().call_later(_MARK_S, self._mark)

        self._broker.publish(handout.worker_type, properties, body, done)

    def _give_back(self, handout: HandOut) -> None:
        def done(future: asyncio.Future[None]) -> None:
            if (error := future.exception()) is not None:
                log.info("claim not given back, it returns by itself: task=%s reason=%s", handout.task_id, error)
                return
            self._held[(handout.queue, handout.worker_type)] = time.monotonic() + _PAUSE_S
            self.poke(handout.queue, handout.worker_type, self._book.now_ms())

        with suppress(BookUnavailable):  # the front stops: the claim is taken over
            self._book.give_back(handout).add_done_callback(done)

    def _mark(self) -> None:
        before = time.monotonic() - _MARK_S
        old = [task_id for task_id, (_handout, since) in self._unmarked.items() if since <= before]
        for task_id in old:
            handout, _since = self._unmarked.pop(task_id)
            with suppress(BookUnavailable):
                self._book.mark_published(handout).add_done_callback(_seen)
        self._marking = asyncio.get_running_loop().call_later(_MARK_S, self._mark) if self._unmarked else None


def _seen(future: asyncio.Future[None]) -> None:
    """An error of a note that nobody waits for: the hand-out may be taken over, if this front dies."""
    if (error := future.exception()) is not None:
        log.debug("not noted as published: reason=%s", error)
