"""An error that nobody expected ends in its group: logged once, with what was being done, and never passed on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from clockwork import Clockwork
from taskqueue.foundation.contained_loop import ContainedLoop, name_of
from taskqueue.pool.containment import contained, end_in


class Part:
    """Records how it broke; `stubborn`: raises then, too."""

    name = "worker1"

    def __init__(self, stubborn: bool = False) -> None:
        self.broken: list[str] = []
        self.stubborn = stubborn

    def broke(self, why: str) -> None:
        self.broken.append(why)
        if self.stubborn:
            raise RuntimeError("nor can it be ended")


def fail(*arguments: object) -> None:
    raise KeyError("counts")


WHY = "unexpected error in taskqueue ({}): KeyError: 'counts'"


def test_it_is_logged_once_and_breaks_the_group(caplog: pytest.LogCaptureFixture) -> None:
    part = Part()
    with contained(part, "a reload"):
        fail()
    assert part.broken == [WHY.format("a reload")]
    (record,) = caplog.records
    assert record.message == "unexpected error: group=worker1 doing=a reload" and record.exc_info


def test_without_an_error_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    part = Part()
    with contained(part, "a reload"):
        pass
    assert not part.broken and not caplog.records


def test_a_group_that_cannot_even_be_ended_is_contained(caplog: pytest.LogCaptureFixture) -> None:
    with contained(Part(stubborn=True), "a reload"):
        fail()
    assert [record.exc_info[0] for record in caplog.records] == [KeyError, RuntimeError]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_end_of_the_process_is_not_held_up(error: type[BaseException]) -> None:
    with pytest.raises(error), contained(Part(), "a reload"):
        raise error


@pytest.mark.parametrize("callback", [fail, partial(partial(fail, 1), 2)])
def test_what_the_loop_calls_is_contained_and_named(callback: Callable[..., object]) -> None:
    loop, part = Clockwork(), Part()
    through = ContainedLoop(loop, lambda error, callback: end_in(part, name_of(callback), error))
    through.add_handler(7, callback, through.READ)
    timer = through.call_later(3.0, callback)
    through.call_later(4.0, callback)
    loop.ready()
    timer.cancel()
    loop.advance(5.0)
    assert part.broken == [WHY.format("fail")] * 2
    through.remove_handler(7)
    loop.ready()
    assert len(part.broken) == 2
