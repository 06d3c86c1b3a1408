"""What people ask the book: one task, a list of tasks, counts of a queue. It changes nothing.

A list is newest first, a page at a time: the cursor is the id of the last task that was shown, and ids sort by time.
A filter that no index serves looks at rows for a second at most, then gives what it has found and where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.book.connection import Connection
from taskqueue.http.book.rows import COLUMNS, task_of
from taskqueue.http.ids import first_id
from taskqueue.http.states import WAITING, TaskState
from taskqueue.http.task import Task

_PAGE = 1_000
"""Rows that one statement of a search looks at."""
_BEHIND = "g"
"""Sorts behind every digit of an id, whatever the collation of the database."""
_SEARCH_S = 1.0


@dataclass(frozen=True, slots=True)
class Query:
    """Which tasks: what is None or empty does not count."""

    queue: str | None = None
    states: tuple[TaskState, ...] = ()
    name: str | None = None
    id_prefix: str | None = None
    url_prefix: str | None = None
    status: int | None = None
    tag: str | None = None
    text: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    limit: int = 50
    after: str | None = None
    """The id of the last task of the page before."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    tasks: list[Task]
    after: str | None
    """For the next page; None at the end."""


def get(transaction: Transaction, ids: Sequence[str]) -> list[Task | None]:
    """Each task, with its body."""
    found: list[Task | None] = []
    for task_id in ids:
        row = transaction.connection.one(f"SELECT {COLUMNS}, body FROM tasks WHERE id = ?", task_id)
        if row is None:
            found.append(None)
        else:
            body = row[-1]
            found.append(task_of(row[:-1], transaction.now_ms, None if body is None else bytes(body)))
    return found


def search(transaction: Transaction, query: Query) -> Page:
    """The next page of the tasks that `query` describes."""
    until = time.monotonic() + _SEARCH_S
    tasks: list[Task] = []
    after = query.after
    while True:
        first = _page_from(transaction.connection, query, after)
        if first is None:
            return Page(tasks, None)
        sql, values = _statement(query, transaction.now_ms, first, after)
        for row in transaction.connection.all(f"{sql} ORDER BY id DESC", *values):
            task = task_of(row, transaction.now_ms)
            if _fits(query, task):
                tasks.append(task)
                if len(tasks) == query.limit:
                    return Page(tasks, task.id)
        after = first
        if time.monotonic() > until:
            return Page(tasks, after)


def _page_from(connection: Connection, query: Query, after: str | None) -> str | None:
    """The least id of the next page of rows to look at: those that an index finds, newest first. None: no row is left.

    So each statement looks at few rows, also where none of them is what the query describes.
    """
    conditions, values = _indexed(query)
    if after is not None:
        conditions.append("id < ?")
        values.append(after)
    row = connection.one(
        f"SELECT min(id) FROM (SELECT id FROM tasks WHERE {' AND '.join(conditions) or '1 = 1'} "
        "ORDER BY id DESC LIMIT ?) page",
        *values, _PAGE,
    )  # fmt: skip
    return None if row is None else row[0]


def _indexed(query: Query) -> tuple[list[str], list[Any]]:
    """The conditions that an index serves, in the order of ids, and their values."""
    conditions: list[str] = []
    values: list[Any] = []
    for condition, *more in (
        ("queue = ?", query.queue),
        ("name IS NOT NULL AND name = ?", query.name),
        ("id >= ?", query.id_prefix),
        ("id < ?", None if query.id_prefix is None else query.id_prefix + _BEHIND),
        ("id >= ?", None if query.since_ms is None else first_id(query.since_ms)),
        ("id < ?", None if query.until_ms is None else first_id(query.until_ms)),
    ):
        if more[0] is not None:
            conditions.append(condition)
            values.extend(more)
    if query.states == (TaskState.DEAD,):
        conditions.append("state = 'dead'")
    elif query.states == (TaskState.RUNNING,):
        conditions.append("watch_ms IS NOT NULL")
    return conditions, values


def _statement(query: Query, now_ms: int, first: str, after: str | None) -> tuple[str, list[Any]]:
    """What the database itself can choose by among the rows from `first` to `after`, and the values."""
    conditions, values = _indexed(query)
    conditions.append("id >= ?")
    values.append(first)
    if after is not None:
        conditions.append("id < ?")
        values.append(after)
    if query.states:
        conditions.append(f"({' OR '.join(_STATES[state][0] for state in query.states)})")
        for state in query.states:
            values.extend([now_ms] * _STATES[state][1])
    if query.status is not None:
        conditions.append("status = ?")
        values.append(query.status)
    return f"SELECT {COLUMNS} FROM tasks WHERE {' AND '.join(conditions)}", values


_STATES: dict[TaskState, tuple[str, int]] = {
    TaskState.READY: ("(due_ms IS NOT NULL AND due_ms <= ?)", 1),
    TaskState.SCHEDULED: ("(due_ms > ? AND state <> 'retrying')", 1),
    TaskState.RETRYING: ("(due_ms > ? AND state = 'retrying')", 1),
    **{state: (f"state = '{state.value}'", 0) for state in TaskState if state not in WAITING},
}
"""The condition of each state, and how often it has the time now in it."""


def _fits(query: Query, task: Task) -> bool:
    if query.url_prefix is not None and not (task.url or "").startswith(query.url_prefix):
        return False
    if query.tag is not None and query.tag not in task.tags:
        return False
    return query.text is None or query.text.lower() in _text_of(task)


def _text_of(task: Task) -> str:
    parts = [task.id, task.name or "", task.url or "", task.worker_type or "", task.reason or "", *task.tags]
    parts += [str(each.get("error") or "") for each in task.history]
    parts += [f"{name}: {value}" for name, value in task.headers]
    return "\n".join(parts).lower()
