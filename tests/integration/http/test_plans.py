"""How the databases find rows in a book with 100,000 tasks that wait: by an index, in every statement of the hot path.

The statements are not written here again: a connection that spies sees each one that the book's functions run, and asks
the database for its plan before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from postgresql import PrivatePostgresql
from taskqueue.config.http_settings import QueueSettings
from taskqueue.http.book import (
    changing,
    claiming,
    enqueueing,
    holding,
    looking,
    pruning,
    queue_rows,
    schema,
    settling,
    watching,
)
from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.book.claiming import HandOut, Wish
from taskqueue.http.book.connection import Connection, Row
from taskqueue.http.book.enqueueing import Key, Wanted
from taskqueue.http.book.events import Lasts, Outcome, Returned
from taskqueue.http.book.looking import Query
from taskqueue.http.book.opening import connect
from taskqueue.http.book.watching import Beat
from taskqueue.http.ids import new_task_id
from taskqueue.http.states import TaskState
from taskqueue.http.task_spec import TaskSpec

WAITING, ENDED, DEAD, RUNNING = 100_000, 4_000, 500, 300
QUEUES = [f"q{number}" for number in range(10)]
NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000
COLUMNS = (
    "id", "queue", "worker_type", "state", "due_ms", "watch_ms", "ended_ms", "created_ms", "scheduled_ms", "name",
    "handout", "begun", "attempts", "responses", "crashes", "cancel_requested", "spec", "body", "expires_ms",
)  # fmt: skip


class Spy(Connection):
    """Passes everything on to a real connection, and keeps the plan of each statement."""

    def __init__(self, real: Connection) -> None:
        super().__init__(real.shown)
        self._real = real
        self.for_update, self.skip_locked = real.for_update, real.skip_locked
        self._sqlite = real.shown.startswith("sqlite:")
        self.plans: dict[str, list[str]] = {}

    def _explain(self, sql: str, values: Sequence[Any]) -> None:
        if sql in self.plans or not re.match(r"SELECT|UPDATE|DELETE|INSERT", sql):
            return
        if self._sqlite:
            self.plans[sql] = [row[3] for row in self._real.all(f"EXPLAIN QUERY PLAN {sql}", *values)]
        else:
            self.plans[sql] = [row[0] for row in self._real.all(f"EXPLAIN {sql}", *values)]

    def full_scans(self) -> dict[str, list[str]]:
        """The statements that read the whole of a table that can be large, and their plans."""
        large = "tasks|names|idempotency|t"
        wrong = rf"SCAN (TABLE )?({large})\b(?!.*USING .*INDEX)" if self._sqlite else rf"Seq Scan on ({large})\b"
        return {sql: plan for sql, plan in self.plans.items() if any(re.search(wrong, line) for line in plan)}

    def run(self, sql: str, *values: Any) -> int:
        self._explain(sql, values)
        return self._real.run(sql, *values)

    def all(self, sql: str, *values: Any) -> list[Row]:
        self._explain(sql, values)
        return self._real.all(sql, *values)

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            self._explain(sql, rows[0])
        self._real.many(sql, rows)

    def each(self, sql: str, rows: Sequence[Sequence[Any]]) -> list[Row | None]:
        if rows:
            self._explain(sql, rows[0])
        return self._real.each(sql, rows)

    def begin(self, *, alone: bool = False) -> None:
        self._real.begin(alone=alone)

    def commit(self) -> None:
        self._real.commit()

    def rollback(self) -> None:
        self._real.rollback()

    def has_table(self, name: str) -> bool:
        return self._real.has_table(name)

    def clock_ms(self) -> int | None:
        return self._real.clock_ms()

    def close(self) -> None:
        self._real.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def large_book(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A book with very many tasks in it; what a test changes is undone."""
    if request.param == "sqlite":
        url = f"sqlite:{tmp_path_factory.mktemp('plans')}/http.db"
    else:
        server: PrivatePostgresql = request.getfixturevalue("postgresql")
        url = server.make_database("plans")
    connection = connect(url)
    schema.prepare(connection)
    fill(connection)
    if request.param == "postgresql":  # as autovacuum does; SQLite never has statistics
        connection.run("VACUUM ANALYZE")
    yield connection
    connection.close()
    if request.param == "sqlite":
        Path(url.removeprefix("sqlite:")).unlink()
    else:
        server.drop_database("plans")


def fill(connection: Connection) -> None:
    """Write queues, lanes and tasks."""
    connection.begin()
    transaction = Transaction(connection, NOW_MS)
    queue_rows.take_config(transaction, [QueueSettings(name) for name in QUEUES], "hash")
    enqueueing.add_lanes(connection, [(name, "webhook") for name in QUEUES])
    sql = f"INSERT INTO tasks ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
    rows = []
    for number in range(WAITING + ENDED + DEAD + RUNNING):
        made_ms = NOW_MS - 10 * DAY_MS + number * 100
        state, due_ms, watch_ms, ended_ms = "scheduled", NOW_MS - 5_000 + number, None, None
        name = f"n{number}" if number % 10 == 0 else None
        if number >= WAITING:
            state, due_ms, watch_ms, ended_ms = "succeeded", None, None, made_ms + 1000
        if number >= WAITING + ENDED:
            state = "dead"
        if number >= WAITING + ENDED + DEAD:
            state, watch_ms, ended_ms = "running", NOW_MS + 5_000, None
        body = None if ended_ms else b"x" * 100
        rows.append(
            (new_task_id(made_ms), QUEUES[number % len(QUEUES)], "webhook", state, due_ms, watch_ms, ended_ms, made_ms,
             made_ms, name, 0, 0, 0, 0, 0, 0, '{"method":"POST","headers":[]}', body,
             due_ms and (due_ms + DAY_MS if number % 100 == 0 else None))
        )  # fmt: skip
    for start in range(0, len(rows), 5_000):
        connection.many(sql, rows[start : start + 5_000])
    names = [("name", row[1], row[9], row[0], None, 1) for row in rows if row[9]]
    connection.many("INSERT INTO names (kind, queue, name, task_id, until_ms, ttl_ms) VALUES (?, ?, ?, ?, ?, ?)", names)
    keys = [("q", str(number), "f", "t", NOW_MS + number) for number in range(20_000)]
    connection.many("INSERT INTO idempotency (scope, key, fingerprint, task_id, until_ms) VALUES (?, ?, ?, ?, ?)", keys)
    connection.commit()


@contextmanager
def spying(connection: Connection) -> Iterator[tuple[Spy, Transaction]]:
    """A transaction that is undone. None of its statements on tasks may read the whole table."""
    connection.begin()
    spy = Spy(connection)
    try:
        yield spy, Transaction(spy, NOW_MS)
    finally:
        connection.rollback()
    assert any("tasks" in sql for sql in spy.plans), "the spy saw nothing"
    assert spy.full_scans() == {}


def some_handouts(transaction: Transaction, queue: str = "q1", count: int = 5) -> list[HandOut]:
    wish = Wish(QueueSettings(queue, concurrency=5_000), "webhook", 5_000, "f1")
    return claiming.claim(transaction, [wish])[0].handouts[:count]


def test_the_spy_knows_a_full_scan(large_book: Connection) -> None:
    with pytest.raises(AssertionError, match="WHERE spec"), spying(large_book) as (_spy, transaction):
        transaction.connection.all("SELECT id FROM tasks WHERE spec = ?", "made up")


def test_handing_out(large_book: Connection) -> None:
    with spying(large_book) as (_spy, transaction):
        queue = QueueSettings("q1", concurrency=5_000)
        limited = QueueSettings("q2", concurrency=5_000, rate_limit=10.0)
        claimed, slowly = claiming.claim(
            transaction, [Wish(queue, "webhook", 5_000, "f1"), Wish(limited, "webhook", 5_000, "f1")]
        )
        assert len(claimed.handouts) == 200 and slowly.handouts
        claiming.claim(transaction, [Wish(limited, "webhook", 5_000, "f1")])
        claiming.give_back(transaction, claimed.handouts[:3])
        claiming.mark_published(transaction, claimed.handouts[3:6])
        assert len(claiming.next_due(transaction)) == len(QUEUES)


def test_reports(large_book: Connection) -> None:
    with spying(large_book) as (_spy, transaction):
        first, second, third, fourth = some_handouts(transaction, count=4)
        record = {"attempt": 1, "outcome": "answered", "status": 200}
        settler = settling.Settling(lambda name: QueueSettings(name), 1000)
        settled = settler.settle(
            transaction,
            [Lasts(first.task_id, first.number, NOW_MS), Returned(second.task_id, second.number, 0, started=False),
             Outcome(third.task_id, third.number, 1, True, record, {"status": 200}, answered=True),
             Outcome(fourth.task_id, fourth.number, 1, False, record, None)],
        )  # fmt: skip
        assert [each.queue for each in settled] == [None, "q1", "q1", "q1"]


def test_upkeep(large_book: Connection) -> None:
    with spying(large_book) as (_spy, transaction):
        some_handouts(transaction)
        beats = [Beat(front, "h", NOW_MS, "1", "x", front == "f3") for front in ("f2", "f3")]
        taken_over = [watching.beat(transaction, beat) for beat in beats]
        assert taken_over == [[("q1", "webhook")], []], "f1 has never beaten"
        later = Transaction(transaction.connection, NOW_MS + 6_000)
        assert len(watching.look(later)) == len(QUEUES)
        watching.expire(transaction, 31 * DAY_MS)
        pruning.prune(transaction, pruning.Keeping(3 * DAY_MS, 30 * DAY_MS, DAY_MS))
        pruning.prune_surplus(transaction, limit=100)


def test_requests(large_book: Connection) -> None:
    with spying(large_book) as (_spy, transaction):
        spec = TaskSpec("q1", "https://example.com/", name="fresh", dedup_key="d")
        wanted = [Wanted(spec, 1000, Key("q", "k", "f", 1000)) for _ in range(2)]
        receipt, again = enqueueing.enqueue(transaction, wanted)
        assert receipt.task_id == again.task_id
        taken = [Wanted(TaskSpec("q1", "https://example.com/", name="other", dedup_key="d"), 1000)]
        enqueueing.enqueue(transaction, taken)
        [task] = looking.get(transaction, [receipt.task_id])
        assert task is not None
        holding.holding(transaction, task, QueueSettings("q1"))
        changing.run_now(transaction, [receipt.task_id])
        changing.cancel(transaction, [receipt.task_id])
        changing.retry(transaction, [(receipt.task_id, 0)])
        assert queue_rows.counts(transaction, "q1").scheduled > 1_000
        assert changing.purge(transaction, "q3", 50) == 50


SEARCHES: dict[str, Callable[[str], Query]] = {
    "everything": lambda known: Query(),
    "queue": lambda known: Query(queue="q1"),
    "name": lambda known: Query(name="n500"),
    "id": lambda known: Query(id_prefix=known),
    "id of an hour": lambda known: Query(id_prefix=known[:8]),
    "time": lambda known: Query(since_ms=NOW_MS - DAY_MS, until_ms=NOW_MS),
    "status": lambda known: Query(status=599),
    "text": lambda known: Query(queue="q1", text="nowhere"),
    **{state.value: lambda known, state=state: Query(states=(state,)) for state in TaskState},  # type: ignore[misc]
    **{
        f"{state.value} of a queue": lambda known, state=state: Query(queue="q1", states=(state,))  # type: ignore[misc]
        for state in TaskState
    },
}


@pytest.mark.parametrize("search", SEARCHES)
def test_searches(large_book: Connection, search: str) -> None:
    row = large_book.one("SELECT id FROM tasks WHERE state = 'running' ORDER BY id LIMIT 1")
    assert row is not None
    with spying(large_book) as (_spy, transaction):
        page = looking.search(transaction, SEARCHES[search](row[0]))
    if search in {"everything", "queue", "name", "id", "succeeded", "dead", "scheduled", "running", "ready"}:
        assert page.tasks
