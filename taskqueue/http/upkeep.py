"""What a front does each second, whatever else happens: beats in the book, looks for what vanished, drops what is old.

Each of these is a short transaction of its own. Where the book is away, the next second tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from taskqueue.errors import BookUnavailable, Collision, CommitInDoubt
from taskqueue.http.book.book import Book
from taskqueue.http.book.tokens import Token
from taskqueue.http.book.watching import Beat
from taskqueue.http.delivery.handing_out import HandingOut
from taskqueue.http.queue_cache import QueueCache

log = logging.getLogger(__name__)

_BEAT_S = 1.0
_CLOCK_EVERY, _PRUNE_EVERY, _SURPLUS_EVERY = 10, 5, 600
"""Beats between two measurements of the clock, two prunings, two counts of all rows."""
_PRUNE_STEPS = 20
"""Steps of one pruning at most: the rest waits for the next."""


class Upkeep:
    """`on_tokens(tokens)` gets the tokens that the book has, after each beat that it took. `on_turn()` is called each
    second in which the book has answered, or is known to be away: the watchdog is fed by that."""

    def __init__(
        self,
        book: Book,
        queues: QueueCache,
        handing_out: HandingOut,
        beat: Beat,
        on_tokens: Callable[[dict[str, Token]], None],
        on_turn: Callable[[], None],
    ) -> None:
        self._book, self._queues, self._handing_out = book, queues, handing_out
        self._beat = beat
        self._on_tokens, self._on_turn = on_tokens, on_turn
        self._count = 0

    def config_changed(self, config_hash: str) -> None:
        """The config was loaded anew."""
        self._beat = replace(self._beat, config_hash=config_hash)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            try:
                await self.once()
            except (BookUnavailable, CommitInDoubt, Collision) as error:
                log.debug("upkeep: %s", error)
            self._on_turn()
            await asyncio.sleep(_BEAT_S)

    async def once(self) -> None:
        """One beat, and what is due with it."""
        self._count += 1
        for queue, worker_type in [*await self._book.beat(self._beat), *await self._book.look()]:
            self._handing_out.poke(queue, worker_type, self._book.now_ms())
        self._queues.take(await self._book.lanes())
        self._on_tokens(await self._book.tokens())
        self._handing_out.poke_all(await self._book.next_due())
        if self._count % _CLOCK_EVERY == 1:
            await self._book.measure_clock()
        if self._count % _PRUNE_EVERY == 1:
            for _ in range(_PRUNE_STEPS):
                if not await self._book.prune():
                    break
        if self._count % _SURPLUS_EVERY == 1:
            while await self._book.prune_surplus():
                await asyncio.sleep(0)
