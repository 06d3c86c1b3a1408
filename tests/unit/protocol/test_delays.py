"""A delay, from the header to the last rung: never early, and late by the last rung only (design, section 4)."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slow import examples
from taskqueue.errors import MalformedWorkitem
from taskqueue.protocol.delays import DELAY_LIMIT_MS, delay_left_ms, delay_ms, next_step, off_ladder, off_rung
from taskqueue.protocol.properties import DELAY, Properties, attempts, forwarded, handed_back
from taskqueue.protocol.queues import HIGHEST_RUNG, LOWEST_RUNG, Queue

TARGET = Queue("worker_w", {})
UNIT_MS = 2**LOWEST_RUNG
RUNGS = HIGHEST_RUNG - LOWEST_RUNG + 1
BEGAN = 1_800_000_000_000
CLIENTS = Properties(
    "text/plain", "utf-8", {"mine": 1}, 3, "c", "r", expiration="60000", message_id="m", timestamp=5, type="t"
)


def walk(delay: int, late: list[int]) -> tuple[list[int], int, Properties]:
    """Send a workitem down the ladder: the TTLs of its rungs, when it arrives, and what it carries then.

    `late`: by how many milliseconds each rung in turn lets go too late; the last value goes on for ever.
    """
    ttls, now = [], BEGAN
    left, due = delay, BEGAN + delay
    queue, properties = next_step(CLIENTS, TARGET, left, due)
    while queue is not TARGET:
        assert len(ttls) < 200, "it never ends"
        ttls.append(queue.arguments["x-message-ttl"])
        now += ttls[-1] + late[min(len(ttls), len(late)) - 1]
        left, due = delay_left_ms(properties, now)
        assert due == BEGAN + delay
        queue, properties = next_step(properties, TARGET, left, due)
    return ttls, now, properties


@settings(max_examples=examples(500))
@given(delay=st.integers(1, DELAY_LIMIT_MS) | st.integers(1, 100_000))
@example(delay=1)
@example(delay=15)
@example(delay=16)
@example(delay=17)
@example(delay=2**31 - 1)
@example(delay=2**31)
@example(delay=DELAY_LIMIT_MS)
def test_the_rungs_of_a_delay_sum_to_it(delay: int) -> None:
    ttls, arrived, properties = walk(delay, [0])
    assert arrived == BEGAN + sum(ttls)
    assert 0 <= sum(ttls) - delay < UNIT_MS, "never early, and less than 16 ms late"
    assert len(ttls) <= RUNGS + DELAY_LIMIT_MS // 2**HIGHEST_RUNG
    assert ttls == sorted(ttls, reverse=True)
    if sum(ttls) < 2**HIGHEST_RUNG:
        assert len(set(ttls)) == len(ttls), "no rung twice"
    assert properties == CLIENTS


@settings(max_examples=examples(500))
@given(
    delay=st.integers(1, 30 * 86_400_000) | st.integers(1, 100_000),
    late=st.lists(st.integers(0, 50) | st.integers(0, 10_000_000), min_size=1, max_size=RUNGS),
)
@example(delay=30 * 86_400_000, late=[50])
@example(delay=2**31 - 16, late=[1000])
@example(delay=65_536, late=[0, 50])
def test_what_a_rung_is_late_by_does_not_add_up(delay: int, late: list[int]) -> None:
    """However late every rung is, the workitem is late at last by the last rung and the rounding, and never early."""
    ttls, arrived, properties = walk(delay, late)
    assert 0 <= arrived - BEGAN - delay < UNIT_MS + late[min(len(ttls), len(late)) - 1]
    assert len(ttls) <= RUNGS, "no rung twice"
    assert properties == CLIENTS


@pytest.mark.parametrize("left", [0, -1, -(10**9)])
def test_without_delay_it_goes_to_its_queue_as_it_came(left: int) -> None:
    assert next_step(CLIENTS, TARGET, left, BEGAN) == (TARGET, CLIENTS)


def test_a_rungs_headers() -> None:
    queue, properties = next_step(CLIENTS, TARGET, 100, 2000)
    assert queue.name == "taskqueue_delay_06"
    assert properties == CLIENTS._replace(
        headers={
            "mine": 1, "x-delay": 48, "x-delay-due": 2000, "x-delay-target": "worker_w", "x-delay-expiration": "60000",
        },
        expiration=None,
    ), "the expiration must not run out on the ladder"  # fmt: skip
    assert off_ladder(properties) == CLIENTS
    bare = Properties(message_id="m")
    assert off_ladder(next_step(bare, TARGET, 100, 2000)[1]) == bare, "where there were no headers there are none"


@pytest.mark.parametrize("forged", ["soon", "-1", "1e3", "", "9" * 12, "\u0663", 5, None])
def test_a_forged_expiration_does_not_leave_the_ladder(forged: object) -> None:
    """The broker would refuse it, each time."""
    assert off_ladder(Properties(headers={"x-delay-expiration": forged})).expiration is None


def test_attempts_survive_the_ladder() -> None:
    onward = handed_back(Properties(message_id="m"), 3, 1)
    assert attempts(off_ladder(next_step(onward, TARGET, 16, 9)[1])) == (3, 1)


# -- what is left between two rungs


@pytest.mark.parametrize(
    ("now", "left"),
    [
        (1000, 500),  # in time
        (1300, 200),  # late: made up for
        (1500, 0),
        (9000, 0),  # late by more than was left
        (200, 500),  # this host's clock is behind that of the host where it began: no longer than the rungs ahead
    ],
)
def test_what_is_left(now: int, left: int) -> None:
    assert delay_left_ms(Properties(headers={DELAY: 500, "x-delay-due": 1500}), now) == (left, 1500)


@pytest.mark.parametrize("due", [None, "soon", 1.5, [1]])
def test_without_a_due_time_the_rungs_alone_count(due: object) -> None:
    properties = Properties(headers={DELAY: 500, "x-delay-due": due})
    assert delay_left_ms(properties, 1000) == (500, 1500)
    assert off_rung(properties, 1000) == properties


@pytest.mark.parametrize(("now", "left"), [(1000, 500), (1400, 100), (2000, 0)])
def test_taken_off_a_rung_too_early(now: int, left: int) -> None:
    """It was to be on its rung until 1484, with 16 ms left after that."""
    properties = Properties(headers={DELAY: 16, "x-delay-due": 1500, "mine": 1}, message_id="m")
    taken = off_rung(properties, now)
    assert taken == properties._replace(headers={DELAY: left, "x-delay-due": 1500, "mine": 1})
    assert delay_left_ms(taken, now) == (left, 1500)


# -- what a client sets


def test_a_client_cannot_say_when_a_delay_is_over() -> None:
    onward = forwarded(Properties(headers={DELAY: 500, "x-delay-due": 1, "x-delay-target": "worker_x"}), None)
    assert onward.headers is None


@pytest.mark.parametrize("value", [0, 1, 250, DELAY_LIMIT_MS])
def test_delays(value: int) -> None:
    assert delay_ms(Properties(headers={DELAY: value})) == value
    assert delay_ms(Properties()) == 0


@pytest.mark.parametrize("value", [-1, DELAY_LIMIT_MS + 1, "250", 1.5, True, [1], 2**70])
def test_bad_delays_are_malformed(value: object) -> None:
    with pytest.raises(MalformedWorkitem) as caught:
        delay_ms(Properties(headers={DELAY: value}))
    assert caught.value.reason == "malformed"
