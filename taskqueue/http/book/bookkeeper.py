"""The thread that has a connection to the book. What concurrent callers want written is committed together.

1. Forty requests call `call(enqueue, task)` within an iteration of asyncio or two: forty futures, one list.
2. The thread takes the whole list, begins, calls `enqueue(transaction, [task, …])` once with all forty, commits.
3. The forty futures get their results in one turn of asyncio. Each 2xx was on the disk before it was answered.
4. The connection is lost: what was not committed gets `BookUnavailable`, a commit without an answer `CommitInDoubt`.
   The thread opens another; meanwhile whoever calls is told at once.
5. Something raises: the list is undone, and run again one by one. Only the culprit gets the error.

Callers are coroutines of one asyncio loop. This module must never know what is written.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from taskqueue.errors import BookMismatch, BookUnavailable, Collision, CommitInDoubt
from taskqueue.http.book.connection import Connection

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_TOGETHER = 500
"""Calls that are committed together at most: some 20 ms of work, so that no caller waits long behind others."""
_UNBEGUN_S = 0.8
"""Seconds that a call may wait for the thread; a front says within a second that its book is away."""
_BEGUN_S = 10.0
"""Seconds that a call may take once the thread works on it; then its caller no longer knows what became of it."""
_RETRY_S = 0.5
"""Seconds between two tries to open the book anew."""
_COLLISIONS = 5
"""Times that a call which collides with another front's is run again."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """What a call may use: the connection, inside a transaction, and the book's time at its beginning."""

    connection: Connection
    now_ms: int
    """Unix time in milliseconds, by the book's clock."""


Bulk = Callable[[Transaction, Sequence[T]], Sequence[R]]
"""Writes a list of things, and gives a result for each of them, in their order."""


class _Call:
    __slots__ = ("argument", "begun", "bulk", "error", "future", "result")

    def __init__(self, bulk: Bulk[Any, Any], argument: Any, future: asyncio.Future[Any]) -> None:
        self.bulk = bulk
        self.argument = argument
        self.future = future
        self.begun = False
        self.result: Any = None
        self.error: BaseException | None = None


class Bookkeeper:
    """Owns one connection, which `connect` opens, in a thread of its own. `start` it in the asyncio loop that uses it.

    `clock_offset_ms` is how far the book's clock is ahead of this host's; it is measured when the connection opens and
    by `measure_clock`.
    """

    def __init__(self, connect: Callable[[], Connection], name: str) -> None:
        self._connect = connect
        self._name = name
        self._connection: Connection | None = None
        self._calls: deque[_Call] = deque()
        self._work = threading.Condition()
        self._ending = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tried = 0.0
        self.clock_offset_ms = 0
        self.trouble: str | None = None
        """Why the book is away; None while it can be used."""

    # -- for coroutines

    def start(self, connection: Connection | None = None) -> None:
        """Begin to work, with `connection` where one is open already."""
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        if connection is not None:
            self._measure(connection)
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def submit(self, bulk: Bulk[T, R], argument: T) -> asyncio.Future[R]:
        """`bulk(transaction, [argument, …])`, together with the other calls of that function; gives its own result.

        The future gets what `bulk` raises, `BookUnavailable` where nothing was changed, `CommitInDoubt` where nobody
        knows. It waits for as long as it takes.
        """
        return self._put(bulk, argument).future

    async def call(self, bulk: Bulk[T, R], argument: T) -> R:
        """As `submit`, for a person who waits: within a second, the book has begun with it or is said to be away."""
        return await self.called(bulk, argument)

    def called(self, bulk: Bulk[T, R], argument: T) -> Awaitable[R]:
        """As `call`, and it has its place among the calls when this returns."""
        return self._in_time(self._put(bulk, argument))

    async def _in_time(self, call: _Call) -> Any:
        assert self._loop is not None
        timer = self._loop.call_later(_UNBEGUN_S, self._late, call)
        try:
            return await call.future
        finally:
            timer.cancel()

    def _put(self, bulk: Bulk[Any, Any], argument: Any) -> _Call:
        assert self._loop is not None
        call = _Call(bulk, argument, self._loop.create_future())
        with self._work:
            if self._ending:
                raise BookUnavailable("the front is stopping")
            self._calls.append(call)
            first = len(self._calls) == 1
        if first:  # in the iteration after the next: who is woken by this one may want something written with it
            self._loop.call_soon(self._loop.call_soon, self._wake)
        return call

    def _wake(self) -> None:
        with self._work:
            self._work.notify()

    async def single(self, work: Callable[[Transaction], R]) -> R:
        """`work(transaction)`, by itself."""
        return await self.call(_one_by_one, work)

    async def measure_clock(self) -> None:
        """Measure how far the book's clock is from this host's."""
        await self.single(lambda transaction: self._measure(transaction.connection))

    async def end(self) -> None:
        """Finish what was called, close the connection, end the thread."""
        with self._work:
            self._ending = True
            self._work.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _BEGUN_S)

    def now_ms(self) -> int:
        """The book's time, Unix time in milliseconds."""
        return int(time.time() * 1000) + self.clock_offset_ms

    def _late(self, call: _Call) -> None:
        """A call has waited: give it up where the thread has not begun it, else let it have more time."""
        if call.future.done():
            return
        with self._work:
            if not call.begun:
                self._calls.remove(call)
                call.future.set_exception(BookUnavailable(self.trouble or "the book is busy; nothing was changed"))
                return
        assert self._loop is not None
        self._loop.call_later(_BEGUN_S, self._lost, call)

    def _lost(self, call: _Call) -> None:
        if not call.future.done():
            call.future.set_exception(CommitInDoubt("the book has not answered; nobody knows whether it was written"))

    # -- in the thread

    def _run(self) -> None:
        while True:
            with self._work:
                while not self._calls and not self._ending:
                    self._work.wait()
                if not self._calls:
                    break
                batch = [self._calls.popleft() for _ in range(min(_TOGETHER, len(self._calls)))]
                for call in batch:
                    call.begun = True
            self._do(batch)
            self._answer(batch)
        if self._connection is not None:
            self._connection.close()

    def _do(self, batch: list[_Call]) -> None:
        try:
            connection = self._open()
            self._transact(connection, batch)
        except Exception as error:
            self._failed(batch, error)
            alone = len(batch) == 1 and not isinstance(error, Collision)
            if alone or isinstance(error, BookUnavailable | CommitInDoubt | BookMismatch):
                return
            for call in batch:
                call.error = None
                self._alone(call)

    def _alone(self, call: _Call) -> None:
        for left in reversed(range(_COLLISIONS)):
            try:
                self._transact(self._open(), [call])
            except Collision as error:
                if left:
                    time.sleep(0.01)
                    continue
                self._failed([call], BookUnavailable(str(error)))
            except Exception as error:
                self._failed([call], error)
            return

    def _transact(self, connection: Connection, batch: list[_Call]) -> None:
        connection.begin()
        transaction = Transaction(connection, self.now_ms())
        start = 0
        while start < len(batch):
            bulk = batch[start].bulk
            end = start + 1
            while end < len(batch) and batch[end].bulk is bulk:
                end += 1
            results = bulk(transaction, [call.argument for call in batch[start:end]])
            for call, result in zip(batch[start:end], results, strict=True):
                call.result = result
            start = end
        connection.commit()

    def _failed(self, batch: list[_Call], error: Exception) -> None:
        connection = self._connection
        if connection is not None:
            connection.rollback()
            if isinstance(error, BookUnavailable | CommitInDoubt):
                connection.close()
                self._connection = None
        if isinstance(error, BookUnavailable | CommitInDoubt) and self.trouble is None:
            log.warning("book is away: %s; trying again every %.1f s", error, _RETRY_S)
            self.trouble = str(error)
        for call in batch:
            call.error = error

    def _open(self) -> Connection:
        if self._connection is None:
            if time.monotonic() - self._tried < _RETRY_S:
                raise BookUnavailable(self.trouble or "the book is away")
            self._tried = time.monotonic()
            self._connection = self._connect()
            self._measure(self._connection)
            if self.trouble is not None:
                log.info("book is back: %s", self._connection.shown)
                self.trouble = None
        return self._connection

    def _measure(self, connection: Connection) -> None:
        before = time.time()
        theirs_ms = connection.clock_ms()
        if theirs_ms is not None:
            self.clock_offset_ms = theirs_ms - int((before + time.time()) / 2 * 1000)

    def _answer(self, batch: list[_Call]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_set_results, batch)
        except RuntimeError:
            log.debug("nobody awaits the book any more")  # the loop is closed


def _set_results(batch: list[_Call]) -> None:
    for call in batch:
        if call.future.done():
            continue
        if call.error is not None:
            call.future.set_exception(call.error)
        else:
            call.future.set_result(call.result)


def _one_by_one(transaction: Transaction, works: Sequence[Callable[[Transaction], Any]]) -> list[Any]:
    return [work(transaction) for work in works]
