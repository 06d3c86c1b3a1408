"""The queues as this front knows them: read from the book each second, and after each change that it makes itself."""

from __future__ import annotations

from taskqueue.config.http_settings import QueueSettings
from taskqueue.http.book.queue_rows import Lanes, Queue


class QueueCache:
    """Queues by name, and the lanes that the book remembers."""

    def __init__(self) -> None:
        self._known = Lanes({})
        self._lanes: set[tuple[str, str]] = set()

    def take(self, known: Lanes) -> None:
        """What the book has now."""
        self._known = known
        self._lanes |= known.lanes

    def queue(self, name: str) -> Queue | None:
        """A queue; None where there is none of that name."""
        return self._known.queues.get(name)

    def settings(self, name: str) -> QueueSettings | None:
        """The rules of a queue; None where there is none of that name."""
        queue = self._known.queues.get(name)
        return None if queue is None else queue.settings

    def all(self) -> list[Queue]:
        """Every queue, by name."""
        return list(self._known.queues.values())

    def is_lane(self, queue: str, worker_type: str) -> bool:
        """Whether the book remembers that lane."""
        return (queue, worker_type) in self._lanes

    def add_lane(self, queue: str, worker_type: str) -> None:
        """The book remembers it from now on."""
        self._lanes.add((queue, worker_type))
