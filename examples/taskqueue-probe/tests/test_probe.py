"""The worker type `probe`, run without a broker: python -m pytest"""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from taskqueue_probe.worker import Worker

from taskqueue.testing import Harness, by_entry_point, run


@pytest.fixture
def service() -> Iterator[int]:
    """A port on which something listens."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


@pytest.fixture
def nothing() -> Iterator[int]:
    """A port that is taken, and on which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_an_open_port(service: int) -> None:
    outcome = run(Worker.factory, f"127.0.0.1:{service}", message_id="me")
    assert outcome.status == "success"
    assert outcome.value["ms"] < 3000
    del outcome.value["ms"]
    assert outcome.value == {
        "probe": "me", "host": "127.0.0.1", "port": service, "state": "open", "detail": "connected"
    }  # fmt: skip


def test_a_closed_port(nothing: int) -> None:
    outcome = run(Worker.factory, {"host": "127.0.0.1", "port": nothing})
    assert (outcome.status, outcome.value["state"]) == ("success", "closed")
    assert "refused" in outcome.value["detail"].lower() or str(nothing) in outcome.value["detail"]


def test_a_host_that_does_not_answer() -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = server.getsockname()
        for _ in range(4):  # fills the backlog: the kernel drops what comes after
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        outcome = run(Worker.factory, f"127.0.0.1:{address[1]}", settings={"timeout": "0.1"})
    assert (outcome.value["state"], outcome.value["detail"]) == ("closed", "no answer within 0.1 s")


def test_many_at_a_time_and_the_count_at_the_end(service: int, nothing: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="taskqueue.plugin")
    with Harness(Worker.factory, settings={"concurrency": "20"}, worker_type="probe") as harness:
        outcomes = harness.run_many([f"127.0.0.1:{port}" for port in [service, nothing] * 20])
    assert [outcome.value["state"] for outcome in outcomes] == ["open", "closed"] * 20
    assert [outcome.value["probe"] for outcome in outcomes] == [f"test-{number}" for number in range(1, 41)]
    assert "probes made: open=20 closed=20" in caplog.messages
    assert sum(message.endswith("task=test-7") for message in caplog.messages) == 1


@pytest.mark.parametrize(
    ("expect", "attempt", "status"), [("open", 1, "success"), ("closed", 1, "retry"), ("closed", 3, "success")]
)
def test_what_is_expected(service: int, expect: str, attempt: int, status: str) -> None:
    target = {"host": "127.0.0.1", "port": service, "expect": expect}
    outcome = run(Worker.factory, target, attempt=attempt, settings={"tries": "3"})
    assert outcome.status == status
    if status == "retry":
        assert outcome.error == f"127.0.0.1:{service} is open, expected closed"
    else:
        assert outcome.value["state"] == "open"


@pytest.mark.parametrize(
    "body",
    ["", "here", "here:", ":80", "here:0", "here:65536", "here:x", 80, None, b"here:80", {"host": "here"},
     {"host": 1, "port": 80}, {"host": "here", "port": "80"}, {"host": "here", "port": 80, "expect": "ajar"}],
)  # fmt: skip
def test_what_is_no_target_is_rejected_at_once(body: Any) -> None:
    assert run(Worker.factory, body).status == "reject"


def test_wrong_settings_are_refused() -> None:
    for settings in ({"timeout": "0"}, {"tries": "0"}):
        with pytest.raises(ValueError, match="expected more than 0, and 1 or more"):
            run(Worker.factory, "here:80", settings=settings)


def test_it_is_installed_as_probe(service: int) -> None:
    assert run(by_entry_point("probe"), f"localhost:{service}").value["state"] == "open"
