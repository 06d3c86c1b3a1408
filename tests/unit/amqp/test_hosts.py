"""Which host is tried next, how patiently, after what wait."""

from __future__ import annotations

import pytest

from taskqueue.amqp.hosts import Hosts

A, B, C = ("a", 5672), ("b", 5672), ("c", 5673)


def unjittered(*hosts: tuple[str, int]) -> Hosts:
    return Hosts(hosts, jitter=lambda: 0.0)


def test_hosts_are_tried_in_turn_and_the_wait_is_between_rounds() -> None:
    hosts = unjittered(A, B, C)
    tried = [(hosts.current, hosts.failed()) for _ in range(9)]
    assert [host for host, _ in tried] == [A, B, C] * 3
    assert [wait_s for _, wait_s in tried] == [0, 0, 0.25, 0, 0, 0.5, 0, 0, 1.0]


@pytest.mark.parametrize(("hosts", "expected"), [((A,), [10, 10, 10]), ((A, B), [3, 3, 10])], ids=["one", "two"])
def test_only_in_the_first_round_of_several_it_is_impatient(
    hosts: tuple[tuple[str, int], ...], expected: list[float]
) -> None:
    made = unjittered(*hosts)
    assert [(made.timeout_s, made.failed())[0] for _ in range(3)] == expected


def test_a_single_host_waits_longer_each_time_up_to_five_seconds() -> None:
    hosts = unjittered(A)
    assert [hosts.failed() for _ in range(7)] == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_untried_until_each_host_was_tried_since_one_worked() -> None:
    hosts = unjittered(A, B)
    assert hosts.untried
    hosts.failed()
    assert hosts.untried
    hosts.failed()
    assert not hosts.untried
    hosts.worked()
    assert hosts.untried


def test_after_one_that_worked_the_next_is_tried_at_once_and_the_backoff_begins_again() -> None:
    hosts = unjittered(A, B)
    for _ in range(5):
        hosts.failed()
    assert hosts.current == B
    hosts.worked()
    assert hosts.failed() == 0.0 and hosts.current == A and hosts.timeout_s == 3.0
    assert hosts.failed() == 0.25
