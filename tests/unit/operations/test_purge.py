"""What waits for a worker type, who would take it, and its removal."""

from __future__ import annotations

import pytest

from fake_broker import FakeBroker, message
from taskqueue.operations.consumers import Consumers, consumers
from taskqueue.operations.purge import Backlog, NothingWasSent, backlog, purge


def test_purge_removes_what_waits_for_one_worker_type() -> None:
    broker = FakeBroker()
    broker.queue("worker_t", message("a"), message("b"))
    broker.queue("worker_u", message("c"))
    assert backlog(broker, "t") == Backlog("worker_t", 2)
    assert purge(broker, "t") == 2
    assert (backlog(broker, "t").ready, backlog(broker, "u").ready) == (0, 1)


def test_nothing_was_ever_sent() -> None:
    with pytest.raises(NothingWasSent, match="there is no queue worker_t"):
        backlog(FakeBroker(), "t")
    assert purge(FakeBroker(), "t") == 0, "it was deleted meanwhile"


def test_consumers() -> None:
    broker = FakeBroker()
    assert consumers(broker, "t") == Consumers(0, 0)
    broker.queue("worker_t", consumers=3)
    broker.queue("taskqueue", consumers=2)
    assert consumers(broker, "t") == Consumers(dispatchers=2, workers=3)
