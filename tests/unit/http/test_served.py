"""Which worker types are served, as far as the broker has told."""

from __future__ import annotations

from taskqueue.http.delivery.served import Served


def test_a_type_is_asked_for_once_until_it_is_answered() -> None:
    served = Served()
    assert served.wants("a", 0.0) and not served.wants("a", 0.1)
    assert list(served.to_ask(0.1)) == ["a"] and list(served.to_ask(0.2)) == []
    assert not served.serves("a", 0.2) and served.known("a") is None
    assert served.told("a", True) and served.serves("a", 0.3)
    assert list(served.to_ask(1.0)) == ["a"] and not served.told("a", True), "that is no news"
    assert served.told("a", False) and not served.serves("a", 1.1)


def test_a_broker_that_does_not_answer_holds_up_nobody() -> None:
    served = Served()
    served.wants("a", 0.0)
    list(served.to_ask(0.0))
    assert not served.serves("a", 0.4) and served.serves("a", 0.5)
    served.not_told("a")
    assert not served.serves("a", 9.0) and list(served.to_ask(9.0)) == ["a"]
    served.told("a", False)
    assert not served.serves("a", 99.0), "it has answered"


def test_what_was_known_is_forgotten_with_the_broker_and_with_time() -> None:
    served = Served()
    served.wants("a", 0.0)
    list(served.to_ask(0.0))
    served.told("a", True)
    served.lost()
    assert served.known("a") is None and list(served.to_ask(1.0)) == ["a"]
    served.told("a", True)
    assert list(served.to_ask(302.0)) == [] and served.known("a") is None
    assert served.wants("a", 303.0)
