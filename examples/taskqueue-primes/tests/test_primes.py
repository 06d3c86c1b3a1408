"""The worker type `primes`, run without a broker: python -m pytest"""

import math
import os
from typing import Any

import pytest
from taskqueue_primes.worker import Worker, prime_factors

from taskqueue.testing import Harness, by_entry_point, run

RUOTE = {"wfid": "20251121-a", "fields": {"params": {"worker_type": "primes"}, "number": 15}}


@pytest.mark.parametrize(
    ("number", "factors"),
    [(2, [2]), (4, [2, 2]), (97, [97]), (360, [2, 2, 2, 3, 3, 5]), (999_966_000_289, [999_983] * 2)],
)
def test_prime_factors(number: int, factors: list[int]) -> None:
    assert prime_factors(number) == factors


def test_factors_multiply_to_the_number() -> None:
    assert all(math.prod(prime_factors(number)) == number for number in range(2, 2000))


@pytest.mark.parametrize("body", ["15", " 15\n", 15, {"number": 15}, b"\x0f", b"\x00\x0f"])
def test_each_way_to_write_a_number(body: Any) -> None:
    outcome = run(Worker.factory, body)
    assert (outcome.status, outcome.value) == ("success", {"number": 15, "factors": [3, 5]})
    assert outcome.content_type == "application/json"


def test_a_workflow_gets_its_workitem_back() -> None:
    outcome = run(Worker.factory, RUOTE)
    assert outcome.value == {**RUOTE, "fields": {**RUOTE["fields"], "factors": [3, 5]}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "body", ["", "fifteen", "1", "0", "-15", "1.5", 1.5, True, None, [15], {}, {"number": "15"}, b"", "1" + "0" * 13]
)
def test_what_is_no_number_is_rejected_at_once(body: Any) -> None:
    outcome = run(Worker.factory, body)
    assert (outcome.status, outcome.error_type) == ("reject", "Reject")


def test_settings_of_its_own() -> None:
    with Harness(Worker.factory, settings={"largest": "100"}) as harness:
        assert [outcome.status for outcome in harness.run_many([100, 101])] == ["success", "reject"]


@pytest.mark.parametrize("settings", [{"largest": "1"}, {"largest": "many"}, {"max_load": "-1"}])
def test_wrong_settings_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"expected|invalid literal"):
        run(Worker.factory, 15, settings=settings)


def test_work_is_put_off_while_the_host_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    outcome = run(Worker.factory, 15, settings={"max_load": "2"})
    assert (outcome.status, outcome.delay_s) == ("retry", 30)
    assert run(Worker.factory, 15).status == "success"


def test_what_takes_too_long_is_rejected() -> None:
    outcome = run(Worker.factory, 2**61 - 1, settings={"largest": 2**62, "soft_time_limit": "50ms"})
    assert (outcome.status, outcome.error) == ("reject", "2305843009213693951 takes longer than soft_time_limit")


def test_it_is_installed_as_primes() -> None:
    assert run(by_entry_point("primes"), "360").value["factors"] == [2, 2, 2, 3, 3, 5]
