"""What an operator sees of a book, on both kinds: what holds up a task, and what `taskqueue doctor` surveys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fronts import Client, front
from taskqueue.config.http_settings import HttpSettings, QueueSettings
from taskqueue.http.book import schema, tokens
from taskqueue.http.book.book import Book, open_book
from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.book.claiming import Wish
from taskqueue.http.book.connection import Connection
from taskqueue.http.book.enqueueing import Wanted
from taskqueue.http.book.events import Outcome
from taskqueue.http.book.holding import Holding
from taskqueue.http.book.opening import connect
from taskqueue.http.book.survey import survey
from taskqueue.http.book.watching import Beat
from taskqueue.http.task_spec import TaskSpec

SLOW = QueueSettings("slow", rate_limit=0.01, burst=1, concurrency=5)
HOUR_MS = 3_600_000


def with_book(url: str, body: Callable[[Book], Awaitable[None]]) -> None:
    async def main() -> None:
        settings = HttpSettings(book=url, queues=(SLOW,))
        async with asyncio.timeout(30):
            book = await open_book(settings, lambda name: SLOW)
            await book.take_config(settings.queues, "hash")
            try:
                await body(book)
            finally:
                await book.close()

    asyncio.run(main())


@contextmanager
def looking(url: str) -> Iterator[Connection]:
    connection = connect(url, read_only=True)
    yield connection
    connection.close()


async def add(book: Book, url: str = "https://a.example/x", delay_ms: int = 0) -> str:
    spec = TaskSpec("slow", url=url, delay_ms=delay_ms) if delay_ms else TaskSpec("slow", url=url)
    return (await book.enqueue(Wanted(spec, HOUR_MS, None))).task_id


async def held(book: Book, task_id: str) -> Holding:
    task = await book.get(task_id)
    assert task is not None
    return await book.holding(task, SLOW)


async def fail(book: Book, wish: Wish, **fields: Any) -> None:
    (handout,) = (await book.claim(wish)).handouts
    record = {"attempt": 1, "outcome": "answered", "status": 503}
    base: dict[str, Any] = {"success": False, "failing": True, "record": record, "result": None, "answered": True}
    await book.settle(Outcome(handout.task_id, handout.number, 1, **{**base, **fields}))


def test_what_holds_up_a_task(book_url: str) -> None:
    async def body(book: Book) -> None:
        first, second = await add(book), await add(book)
        found = await held(book, first)
        assert (found.paused, found.token_ms, found.running, found.before) == (False, None, 0, 0)
        assert (found.origin, found.rests_until_ms) == ("https://a.example:443", None)
        await asyncio.sleep(0.01)
        third = await add(book)
        assert (await held(book, third)).before == 2
        await book.claim(Wish(SLOW, "webhook", 10, "f"))
        found = await held(book, second)
        assert (found.running, found.running_of_type, found.before) == (1, 1, 0)
        assert found.token_ms is not None and 90_000 < found.token_ms - found.now_ms <= 100_000
        await book.pause("slow", paused=True)
        assert (await held(book, second)).paused

    with_book(book_url, body)


def test_an_origin_that_rests(book_url: str) -> None:
    async def body(book: Book) -> None:
        await add(book)
        await fail(book, Wish(SLOW, "webhook", 10, "f"), retry_after_s=60.0, rests=True)
        found = await held(book, await add(book))
        assert found.rests_until_ms is not None and 50_000 < found.rests_until_ms - found.now_ms <= 60_000
        assert found.failures == 0, "it asked for the rest itself"
        assert (await held(book, await add(book, "https://b.example/"))).rests_until_ms is None

    with_book(book_url, body)


def test_a_survey(book_url: str) -> None:
    async def body(book: Book) -> None:
        await add(book)
        await fail(book, Wish(SLOW, "webhook", 10, "f"), retry_after_s=60.0, rests=True, dead_reason="gone")
        for name, config in (("a", "h1"), ("b", "h1")):
            await book.beat(Beat(name, f"host-{name}", 1, "1.0", config, False))

    with_book(book_url, body)
    connection = connect(book_url, visitor=True)
    connection.begin()
    now_ms = connection.clock_ms() or 10**12
    tokens.add(Transaction(connection, now_ms), "old", frozenset({"read"}), now_ms - 1, "me")
    connection.run("UPDATE fronts SET beat_ms = beat_ms - 60000 WHERE id = 'b'")
    connection.commit()
    beat = connection.one("SELECT max(beat_ms) FROM fronts")
    connection.close()
    assert beat is not None
    with looking(book_url) as reader:
        found = survey(Transaction(reader, int(beat[0])))
    assert (found.version, found.wanted, found.is_known) == (schema.VERSION, schema.VERSION, True)
    assert [(each.host, each.config_hash) for each in found.fronts] == [("host-a", "h1")], "b is gone"
    assert [(each.name, each.expires_ms) for each in found.tokens] == [("old", now_ms - 1)]
    assert [each.origin for each in found.origins] == ["https://a.example:443"]
    assert [(each.queue, each.target, each.count) for each in found.deaths] == [("slow", "https://a.example:443", 1)]
    with looking(book_url) as reader:
        later = survey(Transaction(reader, int(beat[0]) + 2 * 86_400_000))
    assert not later.deaths and not later.origins and not later.fronts


def test_a_survey_of_a_book_of_another_version(book_url: str) -> None:
    connection = connect(book_url, visitor=True)
    connection.begin()
    assert survey(Transaction(connection, 0)).version == 0
    connection.rollback()
    schema.prepare(connection)
    connection.run("UPDATE meta SET value = ? WHERE key = 'version'", str(schema.VERSION + 7))
    connection.close()
    with looking(book_url) as reader:
        found = survey(Transaction(reader, 0))
    assert (found.version, found.is_known) == (schema.VERSION + 7, False)


def test_the_api_says_what_one_task_waits_for(book_url: str) -> None:
    async def body(client: Client) -> None:
        task = await client.add("slow", delay=3600)
        shown = (await client.get(f"/v1/tasks/{task['id']}")).json
        assert shown["waits_for"].startswith(f"not due until {task['scheduled_at']}; the front has no broker: ")
        await client.post("/v1/queues/slow:pause")
        shown = (await client.get(f"/v1/tasks/{task['id']}", headers={"Prefer": "wait=1"})).json
        assert "; queue slow is paused; " in shown["waits_for"]
        cancelled = (await client.ask("DELETE", f"/v1/tasks/{task['id']}")).json
        assert "waits_for" not in cancelled
        assert (await client.get(f"/v1/tasks/{task['id']}")).json["waits_for"] is None

    async def main() -> None:
        async with asyncio.timeout(60), front(book_url, queues=(SLOW,)) as client:
            await body(client)

    asyncio.run(main())
