"""The book, for coroutines: opens it, and gives one method for each thing that the front does with it.

    book = await open_book(settings)
    receipt = await book.enqueue(Wanted(spec, name_ttl_ms=3_600_000))     committed when this returns
    page = await book.search(Query(queue="emails"))

Two bookkeepers: one writes, one only reads, so that a list never waits for a commit, nor a commit for a list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from taskqueue.config.http_settings import HttpSettings, QueueSettings
from taskqueue.http.book import (
    changing,
    claiming,
    enqueueing,
    holding,
    looking,
    origins,
    pruning,
    queue_rows,
    schema,
    tokens,
    watching,
)
from taskqueue.http.book.bookkeeper import Bookkeeper
from taskqueue.http.book.changing import Changed
from taskqueue.http.book.claiming import Claimed, HandOut, Wish
from taskqueue.http.book.connection import Connection
from taskqueue.http.book.enqueueing import Receipt, Wanted
from taskqueue.http.book.events import Event, Settled
from taskqueue.http.book.holding import Holding
from taskqueue.http.book.looking import Page, Query
from taskqueue.http.book.opening import connect
from taskqueue.http.book.origins import Origin
from taskqueue.http.book.pruning import Keeping
from taskqueue.http.book.queue_rows import Counts, Lanes
from taskqueue.http.book.settling import Rules, Settling
from taskqueue.http.book.tokens import Token
from taskqueue.http.book.watching import Beat
from taskqueue.http.task import Task


class Book:
    """An open book. Every method raises `BookUnavailable` where nothing was done, and `CommitInDoubt` where nobody
    knows."""

    def __init__(
        self, book_id: str, shown: str, writer: Bookkeeper, reader: Bookkeeper, settings: HttpSettings, rules: Rules
    ) -> None:
        self.id = book_id
        """Names the queue of its outcomes in the broker."""
        self.shown = shown
        """The book for people, without a password."""
        self.one_front = settings.book.startswith("sqlite:")
        """Whether it serves a single front."""
        self._writer, self._reader = writer, reader
        self._settling = Settling(rules, settings.keep_body_size_bytes)
        self._settle = self._settling.settle
        self._keeping = Keeping(
            int(settings.keep_finished_s * 1000), int(settings.keep_dead_s * 1000), int(settings.keep_body_s * 1000)
        )
        self._max_age_ms = int(settings.max_task_age_s * 1000)

    @property
    def trouble(self) -> str | None:
        """Why the book is away; None while it can be used."""
        return self._writer.trouble

    def now_ms(self) -> int:
        """The book's time: Unix time in milliseconds."""
        return self._writer.now_ms()

    # -- tasks

    def enqueue(self, wanted: Wanted) -> Awaitable[Receipt]:
        """Take a task; see `enqueueing`. What is called from here on is written behind it, and finds it."""
        return self._writer.called(enqueueing.enqueue, wanted)

    async def get(self, task_id: str) -> Task | None:
        """One task, with its body."""
        return await self._reader.call(looking.get, task_id)

    async def holding(self, task: Task, settings: QueueSettings) -> Holding:
        """What holds up a task that waits."""
        return await self._reader.single(partial(holding.holding, task=task, settings=settings))

    async def search(self, query: Query) -> Page:
        """A page of tasks, newest first."""
        return await self._reader.single(partial(looking.search, query=query))

    async def cancel(self, task_id: str) -> Changed:
        """Cancel a task, or note the wish while it runs."""
        return await self._writer.call(changing.cancel, task_id)

    async def run_now(self, task_id: str) -> Changed:
        """Let a task that waits be due now."""
        return await self._writer.call(changing.run_now, task_id)

    async def retry(self, task_id: str, delay_ms: int = 0) -> Changed:
        """Begin a task that has ended anew, some milliseconds from now."""
        return await self._writer.call(changing.retry, (task_id, delay_ms))

    # -- hand-outs

    async def claim(self, wish: Wish) -> Claimed:
        """Claim what may be handed out."""
        return await self._writer.call(claiming.claim, wish)

    def give_back(self, handout: HandOut) -> asyncio.Future[None]:
        """Undo a claim that was not published."""
        return self._writer.submit(claiming.give_back, handout)

    def mark_published(self, handout: HandOut) -> asyncio.Future[None]:
        """Note that a hand-out is in the broker."""
        return self._writer.submit(claiming.mark_published, handout)

    def settle(self, event: Event) -> asyncio.Future[Settled]:
        """What a report made of its task. It waits for as long as the book is busy."""
        return self._writer.submit(self._settle, event)

    async def beat(self, beat: Beat) -> list[tuple[str, str]]:
        """Say that this front lives; gives the lanes that have something due again."""
        return await self._writer.single(partial(watching.beat, front=beat))

    async def look(self) -> list[tuple[str, str]]:
        """Take back what vanished; gives the lanes that have something due again."""
        return await self._writer.single(watching.look)

    async def next_due(self) -> dict[tuple[str, str], int]:
        """When the next task of each lane is due."""
        return await self._reader.single(claiming.next_due)

    # -- queues

    async def lanes(self) -> Lanes:
        """All queues and lanes, as they are now."""
        return await self._writer.single(queue_rows.load)

    async def add_lane(self, queue: str, worker_type: str) -> None:
        """Remember a lane."""
        await self._writer.single(lambda transaction: enqueueing.add_lanes(
            transaction.connection, [(queue, worker_type)]))  # fmt: skip

    async def take_config(self, queues: Sequence[QueueSettings], config_hash: str) -> None:
        """Write the queues of config.ini."""
        await self._writer.single(partial(queue_rows.take_config, queues=queues, config_hash=config_hash))

    async def make_queue(self, settings: QueueSettings) -> bool:
        """Make a queue; False where there is one, or too many."""
        return await self._writer.single(partial(queue_rows.make, settings=settings))

    async def change_queue(self, settings: QueueSettings) -> bool:
        """Change the rules of a queue of the API."""
        return await self._writer.single(partial(queue_rows.change, settings=settings))

    async def pause(self, queue: str, *, paused: bool) -> bool:
        """Pause or resume a queue."""
        return await self._writer.single(partial(queue_rows.pause, name=queue, paused=paused))

    async def purge(self, queue: str) -> int:
        """Remove what waits in a queue; gives how many tasks went."""
        return await self._steps(partial(changing.purge, queue=queue))

    async def delete_queue(self, queue: str) -> int:
        """Delete a queue of the API with all of its tasks; gives how many went."""
        return await self._steps(partial(queue_rows.delete, name=queue))

    async def counts(self, queue: str) -> Counts:
        """How many tasks of a queue are in which state."""
        return await self._reader.single(partial(queue_rows.counts, name=queue))

    async def _steps(self, step: Callable[..., int]) -> int:
        total = 0
        while count := await self._writer.single(step):
            total += count
            await asyncio.sleep(0)
        return total

    async def tokens(self) -> dict[str, Token]:
        """All tokens of clients, by their digest."""
        return await self._reader.single(tokens.load)

    async def origins(self) -> list[Origin]:
        """The origins that rest, or have failed of late."""
        return await self._reader.single(origins.load)

    async def close_breaker(self, origin: str) -> bool:
        """Send to an origin again; False where it does not rest."""
        return await self._writer.single(partial(origins.close, origin=origin))

    # -- upkeep

    async def prune(self) -> int:
        """One step of dropping what is old; gives how many rows."""
        dropped = await self._writer.single(partial(pruning.prune, keeping=self._keeping))
        return dropped + await self._writer.single(partial(watching.expire, max_age_ms=self._max_age_ms))

    async def prune_surplus(self) -> int:
        """Drop ended tasks beyond the limit of rows."""
        return await self._writer.single(pruning.prune_surplus)

    async def measure_clock(self) -> None:
        """Measure how far the book's clock is from this host's."""
        await self._writer.measure_clock()
        self._reader.clock_offset_ms = self._writer.clock_offset_ms

    async def close(self) -> None:
        """Finish what was called, and close."""
        await asyncio.gather(self._writer.end(), self._reader.end())


async def open_book(settings: HttpSettings, rules: Rules) -> Book:
    """Open the book, and make its tables where it has none. Raises `BookUnavailable` and `BookMismatch`."""

    def make() -> tuple[Connection, str]:
        connection = connect(settings.book)
        try:
            return connection, schema.prepare(connection)
        except BaseException:
            connection.close()
            raise

    connection, book_id = await asyncio.to_thread(make)
    writer = Bookkeeper(partial(connect, settings.book), "book-writer")
    reader = Bookkeeper(partial(connect, settings.book, read_only=True), "book-reader")
    writer.start(connection)
    reader.start()
    reader.clock_offset_ms = writer.clock_offset_ms
    return Book(book_id, connection.shown, writer, reader, settings, rules)
