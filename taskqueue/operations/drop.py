"""Removes dead letters for good, one after the other, and never more than the caller has counted before."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing

from taskqueue.operations.broker import Broker
from taskqueue.operations.selection import Selection, chosen
from taskqueue.protocol.dead_letters import DeadLetter


def drop(
    broker: Broker, selection: Selection, limit: int, *, stop: Callable[[], bool] = lambda: False
) -> Generator[DeadLetter, None, None]:
    """Remove the `limit` oldest dead letters that `selection` takes; gives each letter as soon as it is removed.

    Nothing brings them back. `stop()` is asked between two letters; once it is true no more are removed. Close the
    generator before `broker`. Raises `BrokerUnavailable` where the connection is lost: the letters given last may then
    be in their queue again, because the broker may not have read our acks.
    """
    dropped = 0
    with closing(chosen(broker, selection)) as found:
        while dropped < limit and not stop() and (each := next(found, None)):
            message, letter = each
            if message.take():
                dropped += 1
                yield letter
