"""The book, on SQLite and on PostgreSQL: one set of tests for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from taskqueue.config.http_settings import HttpSettings, QueueSettings, RetrySettings
from taskqueue.http.book.book import Book, open_book
from taskqueue.http.book.claiming import Wish
from taskqueue.http.book.enqueueing import Key, Taken, Wanted
from taskqueue.http.book.events import Lasts, Outcome, Returned
from taskqueue.http.book.looking import Query
from taskqueue.http.book.watching import Beat
from taskqueue.http.states import TaskState
from taskqueue.http.task_spec import TaskSpec

HOUR_MS = 3_600_000
QUEUE = QueueSettings("default")


class Desk:
    """A book, and what a test wants of it in a word."""

    def __init__(self, book: Book, queues: dict[str, QueueSettings]) -> None:
        self.book = book
        self.queues = queues

    async def add(self, queue: str = "default", *, key: Key | None = None, **fields: Any) -> Any:
        spec = TaskSpec(queue, **{"url": "https://example.com/x", **fields})
        return await self.book.enqueue(Wanted(spec, HOUR_MS, key))

    async def claim(
        self, window: int = 1000, queue: str = "default", worker_type: str = "webhook", front: str = "f1"
    ) -> Any:
        return await self.book.claim(Wish(self.queues[queue], worker_type, window, front))

    async def finish(self, handout: Any, **fields: Any) -> Any:
        record = {"attempt": handout.attempt, "outcome": "answered", "status": 200}
        base: dict[str, Any] = {"success": True, "record": record, "result": {"status": 200}, "answered": True}
        return await self.book.settle(Outcome(handout.task_id, handout.number, handout.attempt, **{**base, **fields}))

    def let_pass(self, ms: int) -> None:
        """The book's clock stands still but for this."""
        self.now_ms = getattr(self, "now_ms", self.book.now_ms()) + ms
        self.book._writer.now_ms = lambda: self.now_ms  # type: ignore[method-assign]

    async def state(self, task_id: str) -> TaskState:
        task = await self.book.get(task_id)
        assert task is not None
        return task.state


def with_book(url: str, body: Callable[[Desk], Awaitable[None]], *queues: QueueSettings, **settings: Any) -> None:
    """Run `body(desk)` on the book at `url`, with the queues `default` and `queues`."""

    async def main() -> None:
        async with asyncio.timeout(30), desk(url, *queues, **settings) as made:
            await body(made)

    asyncio.run(main())


@asynccontextmanager
async def desk(url: str, *queues: QueueSettings, **settings: Any) -> AsyncIterator[Desk]:
    known = {queue.name: queue for queue in (QUEUE, *queues)}
    book = await open_book(HttpSettings(book=url, **settings), known.get)
    await book.take_config(list(known.values()), "hash")
    for name in known:
        await book.add_lane(name, "webhook")
    try:
        yield Desk(book, known)
    finally:
        await book.close()


def test_a_claim_finds_what_was_called_before_it_and_is_not_awaited_yet(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        enqueued = desk.book.enqueue(Wanted(TaskSpec("default", "https://example.com/x"), HOUR_MS))
        claimed = await desk.claim()
        receipt = await enqueued
        assert [handout.task_id for handout in claimed.handouts] == [receipt.task_id]

    with_book(book_url, body)


def test_a_task_goes_in_is_claimed_and_succeeds(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        receipt = await desk.add(body=b"a\0\xff", headers=(("X-A", "ü"),), tags=("t",))
        task = await desk.book.get(receipt.task_id)
        assert task is not None and task.state is TaskState.READY and task.body == b"a\0\xff"
        assert (task.headers, task.tags, task.url) == ((("X-A", "ü"),), ("t",), "https://example.com/x")
        claimed = await desk.claim()
        [handout] = claimed.handouts
        assert (handout.task_id, handout.number, handout.attempt, handout.body) == (receipt.task_id, 1, 1, b"a\0\xff")
        assert claimed.next_ms is None and not (await desk.claim()).handouts, "it is claimed once"
        assert await desk.state(receipt.task_id) is TaskState.RUNNING
        settled = await desk.finish(handout)
        assert (settled.queue, settled.state) == ("default", TaskState.SUCCEEDED)
        task = await desk.book.get(receipt.task_id)
        assert task is not None and (task.attempts, task.responses, task.result) == (1, 1, {"status": 200})
        assert (await desk.finish(handout)).queue is None, "the second report of it is old"

    with_book(book_url, body)


def test_hundreds_at_once_are_one_commit_and_in_order(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        receipts = await asyncio.gather(*(desk.add(name=f"n{number}") for number in range(300)))
        assert len({receipt.task_id for receipt in receipts}) == 300
        page = await desk.book.search(Query(queue="default", limit=200))
        assert len(page.tasks) == 200 and page.after is not None
        rest = await desk.book.search(Query(queue="default", limit=200, after=page.after))
        assert len(rest.tasks) == 100 and rest.after is None
        ids = [task.id for task in (*page.tasks, *rest.tasks)]
        assert ids == sorted(ids, reverse=True)

    with_book(book_url, body)


def test_a_key_gives_the_same_task_and_another_request_is_refused(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        first, second = await asyncio.gather(*(desk.add(key=Key("q", "k", "same", HOUR_MS)) for _ in range(2)))
        assert (first.taken, second.taken) == (Taken.NEW, Taken.REPLAYED) and first.task_id == second.task_id
        other = await desk.add(key=Key("q", "k", "other", HOUR_MS))
        assert (other.taken, other.task_id) == (Taken.KEY_REUSED, first.task_id)
        gone = Key("q", "old", "same", 0)
        assert (await desk.add(key=gone)).taken is Taken.NEW
        assert (await desk.add(key=gone)).taken is Taken.NEW, "the key has expired"

    with_book(book_url, body)


def test_a_name_is_taken_while_its_task_lives_and_a_while_longer(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        first = await desk.add(name="n")
        assert (await desk.add(name="n")).taken is Taken.NAME_TAKEN
        assert (await desk.add("other", name="n")).taken is Taken.NEW, "names are a queue's own"
        again = Key("q", "k", "f", HOUR_MS)
        assert (await desk.add(name="n", key=again)).taken is Taken.NAME_TAKEN
        assert (await desk.add(name="m", key=again)).taken is Taken.NEW, "a refusal has freed the key"
        assert (await desk.book.cancel(first.task_id)).done
        assert (await desk.add(name="n")).taken is Taken.NAME_TAKEN, "an hour after its end"

    with_book(book_url, body, QueueSettings("other"))


def test_content_is_taken_once_in_its_window(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        first = await desk.add(dedup_key="c", dedup_window_s=60.0)
        second = await desk.add(dedup_key="c", dedup_window_s=60.0, name="n")
        assert (second.taken, second.task_id) == (Taken.DUPLICATE, first.task_id)
        assert (await desk.add(name="n")).taken is Taken.NEW, "the duplicate has not kept its name"

    with_book(book_url, body)


def test_what_is_not_due_waits(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        receipt = await desk.add(delay_ms=60_000)
        claimed = await desk.claim()
        assert not claimed.handouts and claimed.next_ms == receipt.due_ms
        assert await desk.state(receipt.task_id) is TaskState.SCHEDULED
        assert await desk.book.next_due() == {("default", "webhook"): receipt.due_ms}
        assert (await desk.book.run_now(receipt.task_id)).done
        assert len((await desk.claim()).handouts) == 1

    with_book(book_url, body)


def test_a_failure_is_retried_and_then_dead(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        receipt = await desk.add("r")
        for attempt in (1, 2, 3):
            [handout] = (await desk.claim(queue="r")).handouts
            assert handout.attempt == attempt
            record = {"attempt": attempt, "outcome": "answered", "status": 503}
            settled = await desk.finish(handout, success=False, record=record, result={"status": 503}, failing=True)
            if attempt < 3:
                assert settled.state is TaskState.RETRYING and settled.due_ms is not None
                await desk.book.run_now(receipt.task_id)
        assert settled.state is TaskState.DEAD
        task = await desk.book.get(receipt.task_id)
        assert task is not None and task.reason == "failed" and len(task.history) == 3
        [dead] = (await desk.book.search(Query(states=(TaskState.DEAD,), status=503))).tasks
        assert dead.id == receipt.task_id
        assert (await desk.book.retry(receipt.task_id)).done
        [handout] = (await desk.claim(queue="r")).handouts
        assert (handout.number, handout.attempt) == (4, 1), "it begins anew"
        assert (await desk.finish(handout)).state is TaskState.SUCCEEDED
        task = await desk.book.get(receipt.task_id)
        assert task is not None and len(task.history) == 4

    with_book(book_url, body, QueueSettings("r", retry=RetrySettings(max_attempts=3, min_backoff_s=60)))


def test_a_hand_out_that_comes_back_counts_only_where_it_is_the_current_one(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        receipt = await desk.add()
        [first] = (await desk.claim()).handouts
        assert (await desk.book.settle(Returned(receipt.task_id, 1, 1, started=True))).state is TaskState.READY
        [second] = (await desk.claim()).handouts
        assert (second.number, second.attempt, second.crashes) == (2, 1, 1)
        assert (await desk.book.settle(Returned(receipt.task_id, 1, 0, started=False))).queue is None
        assert await desk.state(receipt.task_id) is TaskState.RUNNING
        assert (await desk.finish(first)).state is TaskState.SUCCEEDED, "a real outcome counts for any hand-out"
        assert (await desk.finish(second)).queue is None

    with_book(book_url, body)


def test_a_hand_out_that_was_begun_and_is_redelivered_has_lost_its_host(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        task_id = (await desk.add()).task_id
        for crashes in range(20):
            [handout] = (await desk.claim()).handouts
            assert handout.crashes == crashes
            await desk.book.settle(Lasts(task_id, handout.number, desk.book.now_ms() + 1000))
            back = Returned(task_id, handout.number, handout.crashes, started=True, why="redelivered")
            settled = await desk.book.settle(back)
        assert settled.state is TaskState.DEAD, "it may be what ends them"

    with_book(book_url, body)


def test_cancel(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        waiting, running, ended = [(await desk.add()).task_id for _ in range(3)]
        handouts = {handout.task_id: handout for handout in (await desk.claim(3)).handouts}
        await desk.book.settle(Returned(waiting, 1, 0, started=False))
        await desk.finish(handouts[ended])
        assert (await desk.book.cancel(waiting)).done and await desk.state(waiting) is TaskState.CANCELLED
        assert not (await desk.book.cancel(ended)).done
        changed = await desk.book.cancel(running)
        assert changed.done and changed.task is not None and changed.task.cancel_requested
        record = {"attempt": 1, "outcome": "timeout"}
        settled = await desk.finish(handouts[running], success=False, record=record)
        assert settled.state is TaskState.CANCELLED, "in place of a retry"
        assert (await desk.book.cancel("nobody")).task is None

    with_book(book_url, body)


def test_a_rate_is_kept_by_the_book(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        for _ in range(40):
            await desk.add("slow")
        desk.let_pass(0)
        first = await desk.claim(queue="slow")
        assert len(first.handouts) == 10 - 5, "burst 10, less what may be started late: r·V is 5"
        desk.let_pass(350)
        second = await desk.claim(queue="slow")
        assert len(second.handouts) == 3 and second.next_ms == desk.now_ms + 50
        await desk.book.give_back(second.handouts[0])
        assert len((await desk.claim(queue="slow")).handouts) == 1, "what was not published gives its token back"

    with_book(book_url, body, QueueSettings("slow", rate_limit=10.0, burst=10))


def test_concurrency_and_room_and_pause(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        for _ in range(20):
            await desk.add("c")
        assert len((await desk.claim(2, queue="c")).handouts) == 2
        [third] = (await desk.claim(queue="c")).handouts
        assert not (await desk.claim(queue="c")).handouts
        await desk.book.pause("c", paused=True)
        await desk.finish(third)
        assert not (await desk.claim(queue="c")).handouts
        await desk.book.pause("c", paused=False)
        assert len((await desk.claim(queue="c")).handouts) == 1

    with_book(book_url, body, QueueSettings("c", concurrency=3))


def test_what_vanished_is_handed_out_anew(book_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(desk: Desk) -> None:
        vanished, begun = [(await desk.add("q")).task_id for _ in range(2)]
        assert len((await desk.claim(queue="q")).handouts) == 2
        assert await desk.book.look() == [], "both are valid"
        now_ms = desk.book.now_ms()
        await desk.book.settle(Lasts(begun, 1, now_ms + 180_000))
        desk.let_pass(13_100)
        assert await desk.book.look() == [("q", "webhook")]
        assert [handout.task_id for handout in (await desk.claim(queue="q")).handouts] == [vanished]
        desk.let_pass(181_000 - 13_100)
        await desk.book.look()
        found = {handout.task_id: handout.crashes for handout in (await desk.claim(queue="q")).handouts}
        assert found == {vanished: 0, begun: 1}

    with_book(book_url, body, QueueSettings("q"))


def test_claims_of_a_dead_front_are_taken_over(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        unpublished, published = [(await desk.add()).task_id for _ in range(2)]
        handouts = {each.task_id: each for each in (await desk.claim(front="dead")).handouts}
        await desk.book.mark_published(handouts[published])
        only = desk.book.one_front
        await desk.book.beat(Beat("dead", "h", 1, "1", "c", only))
        if not only:
            assert await desk.book.beat(Beat("me", "h", 1, "1", "c", only)) == [], "it may be alive"
            desk.let_pass(5_100)
        assert await desk.book.beat(Beat("me", "h", 1, "1", "c", only)) == [("default", "webhook")]
        assert [each.task_id for each in (await desk.claim(front="me")).handouts] == [unpublished]

    with_book(book_url, body)


def test_an_origin_that_fails_rests(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        for _ in range(30):
            await desk.add()
        other = await desk.add(url="https://other.example/y")
        for handout in (await desk.claim(10)).handouts:
            record = {"attempt": 1, "outcome": "timeout"}
            await desk.finish(handout, success=False, answered=False, failing=True, record=record)
        claimed = await desk.claim()
        assert [each.task_id for each in claimed.handouts] == [other.task_id], "the breaker is open"
        desk.let_pass(37_000)
        [trial] = (await desk.claim()).handouts
        await desk.finish(trial)
        desk.let_pass(6_000)
        assert len((await desk.claim()).handouts) == 29, "one came back well, and the others follow"

    with_book(book_url, body)


def test_expired_and_purged(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        late = await desk.add(expires_in_ms=0)
        assert (await desk.claim()).ended == [late.task_id]
        assert await desk.state(late.task_id) is TaskState.EXPIRED
        await desk.add(delay_ms=60_000, expires_in_ms=0)
        await desk.book.prune()
        page = await desk.book.search(Query(states=(TaskState.EXPIRED,)))
        assert len(page.tasks) == 2
        for _ in range(5):
            await desk.add(name="once")
        assert await desk.book.purge("default") == 1
        assert (await desk.add(name="once")).taken is Taken.NEW

    with_book(book_url, body)


def test_old_tasks_and_bodies_are_dropped(book_url: str) -> None:
    async def body(desk: Desk) -> None:
        receipt = await desk.add(body=b"x" * 10)
        large = await desk.add(body=b"x" * 100)
        for handout in (await desk.claim()).handouts:
            await desk.finish(handout)
        task = await desk.book.get(large.task_id)
        assert task is not None and task.body is None, "above keep_body_size"
        desk.let_pass(2_000)
        await desk.book.prune()
        task = await desk.book.get(receipt.task_id)
        assert task is not None and task.body is None
        assert not (await desk.book.retry(receipt.task_id)).done, "its body is gone"
        desk.let_pass(9_000)
        await desk.book.prune()
        assert await desk.book.get(receipt.task_id) is None

    with_book(book_url, body, keep_body_size_bytes=50, keep_body_s=1.0, keep_finished_s=10.0)
