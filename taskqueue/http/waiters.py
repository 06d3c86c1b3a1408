"""Requests that wait for the end of a task (`Prefer: wait=N`).

A report that this front read tells at once; where another front read it, the book is asked every half second.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from taskqueue.http.book.book import Book
from taskqueue.http.states import ENDED
from taskqueue.http.task import Task

_ASK_S = 0.5


class Waiters:
    """Who waits for which task."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._events: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._stopped = False

    def ended(self, task_id: str) -> None:
        """A task has ended."""
        for event in self._events.pop(task_id, ()):
            event.set()

    def stop(self) -> None:
        """Let nobody wait any more: the front ends."""
        self._stopped = True
        for task_id in list(self._events):
            self.ended(task_id)

    async def wait(self, task_id: str, wait_s: float) -> Task | None:
        """The task `task_id` once it has ended, or as it is after `wait_s` seconds; None where there is none."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        event = asyncio.Event()
        self._events[task_id].add(event)
        try:
            while True:
                task = await self._book.get(task_id)
                left_s = until - loop.time()
                if task is None or task.state in ENDED or left_s <= 0 or self._stopped:
                    return task
                try:
                    async with asyncio.timeout(left_s if self._book.one_front else min(left_s, _ASK_S)):
                        await event.wait()
                except TimeoutError:
                    continue
        finally:
            waiting = self._events.get(task_id)
            if waiting is not None:
                waiting.discard(event)
                if not waiting:
                    del self._events[task_id]
