"""Which dead letters an operation is for: chosen by id, worker type, reason and age, and read without being taken.

last_hour = Selection(types=frozenset({"worker1"}), died_after=time.time() - 3600)
with closing(chosen(broker, last_hour)) as found:
    for message, letter in found:
        print(letter.message_id, letter.reason)
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

from taskqueue.errors import TaskqueueError
from taskqueue.operations.broker import Broker
from taskqueue.operations.reading import Message
from taskqueue.protocol import queues
from taskqueue.protocol.dead_letters import DeadLetter, read_dead_letter


class NoSuchDeadLetter(TaskqueueError):
    """No dead letter has these ids."""

    def __init__(self, ids: Iterable[str]) -> None:
        super().__init__(f"no such dead letter: {', '.join(sorted(ids))}")


@dataclass(frozen=True, slots=True)
class Selection:
    """The dead letters that fit every one of these conditions; an empty condition fits any, and so does None."""

    ids: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    """Worker types."""
    reasons: frozenset[str] = frozenset()
    """Values of `protocol.dead_letters.DeadReason`."""
    died_before: float | None = None
    """Unix time in seconds, as is `died_after`. A letter that does not say when it died fits neither."""
    died_after: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is no condition: every dead letter is taken."""
        return not (self.ids or self.types or self.reasons or self.died_before or self.died_after)

    def takes(self, letter: DeadLetter) -> bool:
        """Whether `letter` fits."""
        return (
            (not self.ids or letter.message_id in self.ids)
            and (not self.types or letter.worker_type in self.types)
            and (not self.reasons or letter.reason in self.reasons)
            and (self.died_before is None or (letter.died_at is not None and letter.died_at <= self.died_before))
            and (self.died_after is None or (letter.died_at is not None and letter.died_at >= self.died_after))
        )


def chosen(broker: Broker, selection: Selection) -> Generator[tuple[Message, DeadLetter], None, None]:
    """The dead letters that `selection` takes, the oldest first. Close the generator before `broker`: only then the
    letters are back in their queue. Raises what `Reading` raises."""
    with broker.read(queues.DEAD) as reading:
        for message in reading:
            letter = read_dead_letter(message.properties)
            if selection.takes(letter):
                yield message, letter


def count(broker: Broker, selection: Selection) -> int:
    """How many dead letters `selection` takes at present."""
    if selection.is_open:
        counts = broker.counts(queues.DEAD)
        return 0 if counts is None else counts.ready
    with broker.read(queues.DEAD) as reading:
        return sum(selection.takes(read_dead_letter(message.properties)) for message in reading)
