"""What a front does for a request, whoever asks and in whatever format: takes tasks, shows and changes them.

The adapters turn a request into calls of a `Desk`, and its answers into documents. This module must never know HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskqueue.config.http_settings import HttpSettings, QueueSettings
from taskqueue.config.http_values import QUEUE_NAME
from taskqueue.errors import BookUnavailable, CommitInDoubt
from taskqueue.http.api.target_rules import reading_rules
from taskqueue.http.book.book import Book
from taskqueue.http.book.changing import Changed
from taskqueue.http.book.enqueueing import Key, Receipt, Taken, Wanted
from taskqueue.http.book.looking import Page, Query
from taskqueue.http.book.origins import Origin
from taskqueue.http.book.queue_rows import QUEUE_LIMIT, Counts, Queue
from taskqueue.http.book.rows import WEBHOOK
from taskqueue.http.delivery.broker import Broker
from taskqueue.http.delivery.handing_out import HandingOut
from taskqueue.http.literal_targets import literal_judge
from taskqueue.http.queue_cache import QueueCache
from taskqueue.http.states import WAITING, TaskState
from taskqueue.http.task import Task
from taskqueue.http.task_spec import Api, RetryOverride, TaskSpec
from taskqueue.http.waiters import Waiters
from taskqueue.http.waits_for import waits_for


@dataclass(frozen=True, slots=True)
class Health:
    """How a front is."""

    book: str | None
    """Why the book is away; None while it can be used."""
    broker: str | None
    """Why the broker is away; None while it can be used."""


class Desk:
    """Every method of the book's kind raises `BookUnavailable` or `CommitInDoubt`."""

    def __init__(
        self,
        book: Book,
        broker: Broker,
        queues: QueueCache,
        handing_out: HandingOut,
        waiters: Waiters,
        settings: HttpSettings,
    ) -> None:
        self._book, self._broker, self._queues = book, broker, queues
        self._handing_out, self._waiters = handing_out, waiters
        self.configure(settings)

    def configure(self, settings: HttpSettings) -> None:
        """The config was loaded anew."""
        self._settings = settings
        self.reading = reading_rules(settings, literal_judge(settings))

    def now_ms(self) -> int:
        """The book's time, Unix time in milliseconds."""
        return self._book.now_ms()

    # -- tasks

    def new_task(self, receipt: Receipt, spec: TaskSpec) -> Task:
        """The task that was just taken, as the book would show it."""
        now_ms = receipt.created_ms
        state = TaskState.SCHEDULED if receipt.due_ms > now_ms else TaskState.READY
        return Task(
            receipt.task_id, spec.queue, spec.name, state, None, spec.url, spec.worker_type, spec.method, spec.headers,
            now_ms, receipt.due_ms, spec.expires_ms(now_ms), 0, 0, receipt.due_ms, None, None, spec.tags,
            timeout_s=spec.timeout_s, callback_url=spec.callback_url,
        )  # fmt: skip

    async def take(self, spec: TaskSpec, key: tuple[str, str, str] | None = None) -> Receipt:
        """Take a task; committed when this returns. `key` is (scope, key, fingerprint) of an Idempotency-Key."""
        worker_type = WEBHOOK if spec.worker_type is None else spec.worker_type
        if not self._queues.is_lane(spec.queue, worker_type):
            await self._book.add_lane(spec.queue, worker_type)
            self._queues.add_lane(spec.queue, worker_type)
        settings = self._settings
        kept = None if key is None else Key(*key, ttl_ms=int(settings.idempotency_ttl_s * 1000))
        enqueued = self._book.enqueue(Wanted(spec, int(settings.name_ttl_s * 1000), kept))
        at_once = spec.at_ms is None and not spec.delay_ms
        if at_once:  # the claim is written behind the task, most often in the same transaction
            self._handing_out.poke(spec.queue, worker_type, self.now_ms())
        receipt = await enqueued
        if receipt.taken is Taken.NEW and not at_once:
            self._handing_out.poke(spec.queue, worker_type, receipt.due_ms)
        return receipt

    async def get(self, task_id: str, wait_s: float | None = None) -> Task | None:
        """A task, at once or when it has ended, after `wait_s` seconds at the latest."""
        if wait_s is None:
            return await self._book.get(task_id)
        return await self._waiters.wait(task_id, wait_s)

    async def waits_for(self, task: Task) -> str | None:
        """What a task waits for, in words; None where it runs or has ended."""
        settings = self._queues.settings(task.queue) or QueueSettings(task.queue)
        worker_type = WEBHOOK if task.worker_type is None else task.worker_type
        if task.state not in WAITING:
            return waits_for(task, settings, None, broker=None, served=None, window=0)
        return waits_for(
            task, settings, await self._book.holding(task, settings), broker=self._broker_trouble,
            served=self._broker.known_to_serve(worker_type), window=self._handing_out.window(worker_type).size,
        )  # fmt: skip

    async def search(self, query: Query) -> Page:
        """A page of tasks."""
        return await self._book.search(query)

    async def cancel(self, task_id: str) -> Changed:
        """Cancel a task."""
        changed = await self._book.cancel(task_id)
        if changed.done:
            self._waiters.ended(task_id)
        return changed

    async def run_now(self, task_id: str) -> Changed:
        """Let a task be due now."""
        return self._poked(await self._book.run_now(task_id))

    async def retry(self, task_id: str, delay_ms: int = 0) -> Changed:
        """Begin a task anew that has ended, some milliseconds from now."""
        return self._poked(await self._book.retry(task_id, delay_ms))

    def again(self, task: Task) -> TaskSpec:
        """What makes another task like `task`: without its name, due at once."""
        retry = RetryOverride(**task.retry) if task.retry else None
        return TaskSpec(
            task.queue, task.url, task.worker_type, task.method, task.headers, task.body or b"",
            timeout_s=task.timeout_s, retry=retry, tags=task.tags, callback_url=task.callback_url, api=Api.NATIVE,
        )  # fmt: skip

    def _poked(self, changed: Changed) -> Changed:
        if changed.done and changed.task is not None:
            task = changed.task
            due_ms = self.now_ms() if task.next_attempt_ms is None else task.next_attempt_ms
            self._handing_out.poke(task.queue, task.worker_type or WEBHOOK, due_ms)
        return changed

    # -- origins

    async def origins(self) -> Sequence[Origin]:
        """The origins that are not well."""
        return await self._book.origins()

    async def close_breaker(self, origin: str) -> bool:
        """Send to an origin again; False where nothing is known of it."""
        closed = await self._book.close_breaker(origin)
        self._handing_out.poke_all(await self._book.next_due())
        return closed

    # -- queues

    def queue(self, name: str) -> Queue | None:
        """A queue; None where there is none of that name."""
        return self._queues.queue(name)

    async def queue_or_new(self, name: str) -> QueueSettings | None:
        """The rules of a queue. One that does not exist is made, where strangers cannot reach this front; else None."""
        known = self._queues.settings(name)
        if known is None and not self._settings.exposed and QUEUE_NAME.fullmatch(name) and not self.full:
            await self.make_queue(QueueSettings(name))
            known = self._queues.settings(name)
        return known

    def queues(self) -> Sequence[Queue]:
        """All queues, by name."""
        return self._queues.all()

    @property
    def full(self) -> bool:
        """Whether there are as many queues as there may be."""
        return len(self._queues.all()) >= QUEUE_LIMIT

    async def make_queue(self, settings: QueueSettings) -> bool:
        """Make a queue; False where there is one of that name, or too many."""
        made = await self._book.make_queue(settings)
        await self._reread()
        return made

    async def change_queue(self, settings: QueueSettings) -> bool:
        """Give a queue of the API other rules; False where it is none of the API."""
        changed = await self._book.change_queue(settings)
        await self._reread()
        self._handing_out.freed(settings.name)
        return changed

    async def pause(self, name: str, *, paused: bool) -> bool:
        """Pause or resume a queue; False where there is none."""
        done = await self._book.pause(name, paused=paused)
        await self._reread()
        if not paused:
            self._handing_out.freed(name)
            self._handing_out.poke_all(await self._book.next_due())
        return done

    async def purge(self, name: str) -> int:
        """Remove what waits in a queue; gives how many tasks went."""
        return await self._book.purge(name)

    async def delete_queue(self, name: str) -> int:
        """Delete a queue of the API, with its tasks; gives how many went."""
        gone = await self._book.delete_queue(name)
        await self._reread()
        return gone

    async def counts(self, name: str) -> Counts:
        """How many tasks of a queue are in which state."""
        return await self._book.counts(name)

    async def _reread(self) -> None:
        self._queues.take(await self._book.lanes())

    # -- how it is

    async def health(self) -> Health:
        """How book and broker are, asked just now."""
        try:
            await self._book.lanes()
        except (BookUnavailable, CommitInDoubt) as error:
            return Health(str(error), self._broker_trouble)
        return Health(self._book.trouble, self._broker_trouble)

    @property
    def _broker_trouble(self) -> str | None:
        return None if self._broker.ready else self._broker.connection.trouble or "connecting"
