"""A worker process with a coroutine handler: up to `concurrency` attempts at a time on one asyncio loop.

1. `serve` makes the loop, awaits `setup` and reports `ready`.
2. While fewer than `concurrency` attempts run, it reads workitems from its link; each runs in an asyncio task.
3. An attempt ends: its task reports it. When no attempt runs any more, the surroundings are put back.
4. It stops at the end of its link, after `max_tasks`, or after an attempt that was out of memory. It waits for the
   attempts that run, awaits `teardown`, cancels the tasks that the plugin has left, and gives its exit status.

Only `worker.serve` imports this module, and only for a coroutine handler: a sync worker must never load asyncio.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Awaitable, Callable, Generator
from time import monotonic
from typing import Any

from taskqueue.config.settings import GroupSettings
from taskqueue.host.title import set_title
from taskqueue.link.assignment import Assignment, Report
from taskqueue.link.exits import MEMORY
from taskqueue.link.packets import Packet
from taskqueue.worker import api
from taskqueue.worker.execution import call, failure, success, task_of
from taskqueue.worker.line import Line, report_attempt, report_failure
from taskqueue.worker.surroundings import Surroundings
from taskqueue.workitem import decode

_LEFT_S = 1.0
"""Seconds that the plugin's own asyncio tasks have to clean up, after their cancellation at the worker's end. A task
that takes longer is abandoned."""


def serve(line: Line, worker: Any, settings: GroupSettings, title: str) -> int:
    """Be an async worker until the link ends; gives the exit status.

    `asyncio.run` would not do: it waits without end for threads, and for a task that ignores its cancellation.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop.run_until_complete(_Server(line, worker, settings, title).serve())


async def run_async(worker: Any, assignment: Assignment, body: bytes, settings: GroupSettings) -> tuple[Report, bytes]:
    """Run one attempt through a coroutine handler; gives the report and the body of the result.

    Await it in an asyncio task of its own: `self.task` is a context variable.
    """
    started = monotonic()
    api._task.set(task_of(assignment, settings, started))
    try:
        value = decode(body, assignment.content_type, assignment.content_encoding)
        returned = worker.handle_task(value)
        if settings.soft_time_limit_s is not None:
            returned = _limited(returned, settings.soft_time_limit_s)
        return success(assignment, started, await returned)
    except BaseException as error:  # CancelledError, too: only the handler itself cancels its task
        return failure(assignment, started, error, settings)


async def _limited(handler: Awaitable[Any], limit_s: float) -> Any:
    """Await `handler`; after `limit_s` seconds throw `SoftTimeLimitExceeded` into it, where it waits.

    `asyncio.timeout` would not do: it raises behind the handler, which then cannot catch the exception to clean up.
    """
    current = asyncio.current_task()
    assert current is not None
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        current.cancel()

    @types.coroutine
    def driven() -> Generator[Any, Any, Any]:
        nonlocal expired
        inner = handler.__await__()
        step: Callable[[], Any] = lambda: inner.send(None)  # noqa: E731
        while True:
            try:
                waits_for = step()
            except StopIteration as stop:
                return stop.value
            try:
                sent = yield waits_for
                step = lambda sent=sent: inner.send(sent)  # type: ignore[misc]  # noqa: E731
            except BaseException as error:
                thrown = error
                if expired and isinstance(error, asyncio.CancelledError):
                    expired = False
                    current.uncancel()
                    thrown = api.SoftTimeLimitExceeded(f"soft_time_limit of {limit_s:g} s is over")
                step = lambda thrown=thrown: inner.throw(thrown)  # type: ignore[misc]  # noqa: E731

    timer = asyncio.get_running_loop().call_later(limit_s, expire)
    try:
        return await driven()
    finally:
        timer.cancel()


class _Server:
    """The serving loop of an async worker."""

    def __init__(self, line: Line, worker: Any, settings: GroupSettings, title: str) -> None:
        self._line, self._worker, self._settings, self._title = line, worker, settings, title
        self._running: set[asyncio.Task[None]] = set()
        self._served = 0
        self._reading = False
        self._status = 0

    async def serve(self) -> int:
        """Serve until the link ends or `max_tasks` were taken, and until all that runs has ended."""
        try:
            await self._await_call("setup")
        except BaseException as error:
            return report_failure(self._line, error)
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._surroundings = Surroundings()
        self._line.send(["ready"])
        self._read_on()
        await self._ended.wait()
        while self._running:
            await asyncio.wait(self._running)
        await self._await_call("teardown")
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=_LEFT_S)
        return self._status

    async def _await_call(self, name: str) -> None:
        returned = call(self._worker, name)
        if inspect.isawaitable(returned):
            await returned

    def _read_on(self) -> None:
        if not self._reading and not self._ended.is_set():
            self._reading = True
            self._loop.add_reader(self._line.fileno(), self._on_readable)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._line.fileno())

    def _end(self) -> None:
        self._pause()
        self._ended.set()

    def _on_readable(self) -> None:
        while len(self._running) < self._settings.concurrency:
            try:
                packet = self._line.receive(wait=False)
            except EOFError:
                self._end()
                return
            if packet is None:
                return
            self._served += 1
            last = self._served == self._settings.max_tasks
            task = self._loop.create_task(self._run(packet, last))
            self._running.add(task)
            task.add_done_callback(self._done)
            if last:
                self._end()
                return
        self._pause()

    async def _run(self, packet: Packet, last: bool) -> None:
        assignment = Assignment(*packet.head)
        set_title(f"{self._title} [task {assignment.message_id:.36}]")
        report, body = await run_async(self._worker, assignment, packet.body, self._settings)
        report_attempt(self._line, report._replace(last=last), body)
        if report.outcome == "memory":
            self._status = MEMORY
            self._end()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not self._running:
            set_title(self._title)
            self._surroundings.restore()
        if not task.cancelled() and task.exception() is not None:
            self._end()
            raise task.exception() or SystemExit(1)
        self._read_on()
