"""What doctor's checks make of a front and of its book, and whether there is one on this host."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskqueue.cli.checks import front_book
from taskqueue.cli.checks.front_here import front_is_here
from taskqueue.config.http_settings import HttpSettings, QueueSettings
from taskqueue.config.load import load
from taskqueue.errors import BookUnavailable
from taskqueue.http.book.origins import Origin
from taskqueue.http.book.queue_rows import config_hash
from taskqueue.http.book.survey import Deaths, FrontRow, Survey
from taskqueue.http.book.tokens import Token
from taskqueue.operations.checks import fronts
from taskqueue.operations.findings import OK, PROBLEM, WARNING
from taskqueue.operations.front_overview import FrontSeen, TaskQueue

WELL = FrontSeen("unix:/s", "up", "up")
HTTP = HttpSettings(queues=(QueueSettings("a"),))
BOOK = Survey(1_000_000, 3, 3)


def statuses(findings: Any) -> list[str]:
    return [each.status for each in findings]


@pytest.mark.parametrize(
    ("seen", "expected", "line"),
    [
        (WELL, OK, "unix:/s answers"),
        (FrontSeen("unix:/s", "down", "up", ["disk full"]), PROBLEM, "takes no tasks: disk full"),
        (FrontSeen("unix:/s", "up", "down", ["refused"]), PROBLEM, "can hand out none: broker refused"),
        (FrontSeen("unix:/s", trouble="nothing listens"), PROBLEM, "nothing listens"),
    ],
)
def test_front(seen: FrontSeen, expected: str, line: str) -> None:
    (found,) = fronts.front(seen)
    assert found.status == expected and line in found.found


def test_a_paused_queue_is_told_where_something_waits() -> None:
    def queue(name: str, paused: bool, ready: int) -> TaskQueue:
        return TaskQueue(name, paused, {"ready": ready, "retrying": 0, "scheduled": 5, "running": 0, "dead": 0})

    seen = FrontSeen("u", "up", "up", queues=[queue("a", True, 0), queue("b", False, 9), queue("c", True, 1)])
    (found,) = fronts.paused(seen)
    assert found.found == "c is paused, 1 tasks wait"


@pytest.mark.parametrize(
    ("http", "tokens", "expected"),
    [
        (HttpSettings(), 0, OK),
        (HttpSettings(listen=("0.0.0.0:1",)), 0, PROBLEM),
        (HttpSettings(listen=("0.0.0.0:1",)), 1, WARNING),
        (HttpSettings(listen=("0.0.0.0:1",), tls_cert="c"), 1, OK),
        (HttpSettings(base_path="/x"), 1, OK),
        (HttpSettings(base_path="/x"), 0, PROBLEM),
    ],
)
def test_exposed(http: HttpSettings, tokens: int, expected: str) -> None:
    assert statuses(fronts.exposed(http, tokens)) == [expected]


def test_exposed_with_a_book_that_cannot_say() -> None:
    assert statuses(fronts.exposed(HttpSettings(base_path="/x"), None)) == []


GROUPS = load("/no/such/config.ini", environ={}).every_group(["webhook", "t"])
MINE = load("/x", text="[webhook]\nuser: root\n", environ={}).every_group(["webhook"])


@pytest.mark.parametrize(
    ("seen", "installed", "groups", "root", "user", "expected"),
    [
        (WELL, True, GROUPS, True, True, []),
        (WELL, True, GROUPS, False, False, []),
        (WELL, True, GROUPS, True, False, [WARNING]),
        (WELL, True, MINE, True, False, []),
        (WELL, True, (), True, True, [WARNING]),
        (WELL, False, (), True, True, [WARNING]),
        (FrontSeen("u"), False, (), True, True, []),
    ],
)
def test_webhook_workers(
    seen: FrontSeen, installed: bool, groups: Any, root: bool, user: bool, expected: list[str]
) -> None:
    groups = [each if each.user != "taskqueue-webhook" else SimpleNamespace(**_fields(each)) for each in groups]
    assert statuses(fronts.webhook_workers(seen, installed, groups, root, user)) == expected


def _fields(group: Any) -> dict[str, Any]:
    """A group as on a host without that user."""
    return {"worker_type": group.worker_type, "user": None}


@pytest.mark.parametrize(
    ("found", "answers", "expected"),
    [
        (BOOK, True, (OK, "")),
        (Survey(0, 2, 3), True, (PROBLEM, "taskqueue http migrate")),
        (Survey(0, 4, 3), True, (WARNING, "upgrade taskqueue here, too")),
        (Survey(0, 5, 3), True, (PROBLEM, "install that newer taskqueue here, too")),
        (Survey(0, 0, 3), True, (OK, "")),
        (BookUnavailable("book sqlite:/x: No such file or directory"), False, (OK, "")),
        (BookUnavailable("book sqlite:/x: No such file or directory"), True, (PROBLEM, "mend")),
        (BookUnavailable("book sqlite:/x: Permission denied"), True, (WARNING, "as root")),
        (BookUnavailable("book postgresql://h/x: refused"), False, (PROBLEM, "mend")),
    ],
)
def test_book(found: Any, answers: bool, expected: tuple[str, str]) -> None:
    (finding,) = front_book.book(HTTP, found, answers=answers)
    assert finding.status == expected[0] and expected[1] in finding.advice


def survey(**more: Any) -> Survey:
    return Survey(1_000_000, 3, 3, **more)


def test_tokens() -> None:
    good, old = Token("good", frozenset(), 0, None), Token("old", frozenset(), 0, 999_000)
    assert statuses(front_book.tokens(survey())) == []
    assert statuses(front_book.tokens(survey(tokens=[good]))) == [OK]
    (found,) = front_book.tokens(survey(tokens=[good, old]))
    assert found.status == WARNING and found.found.startswith("old expired at ")


def test_fronts() -> None:
    mine = config_hash(HTTP.queues)
    here, there = FrontRow("1", "here", "1", mine), FrontRow("2", "there", "1", mine)
    assert statuses(front_book.fronts(HTTP, survey(), "here")) == []
    assert statuses(front_book.fronts(HTTP, survey(fronts=[here, there]), "here")) == [OK]
    other = FrontRow("3", "there", "1", "x")
    (found,) = front_book.fronts(HTTP, survey(fronts=[here, other]), "here")
    assert found.status == WARNING and found.found.endswith(": here / there")
    (found,) = front_book.fronts(HTTP, survey(fronts=[FrontRow("1", "here", "1", "x")]), "here")
    assert found.status == WARNING and found.advice == "systemctl reload python-taskqueue-http"


def test_origins_and_deaths() -> None:
    rests = [Origin("https://[::1]:443", 2_000_000, 12, 1), Origin("http://b:80", 2_000_000, 0, 0)]
    breaker, asked = front_book.origins(survey(origins=rests))
    assert "after 12 failures in a row" in breaker.found and "--text [::1];" in breaker.advice
    assert "as it asked" in asked.found
    assert statuses(front_book.deaths(survey())) == [OK]
    (found,) = front_book.deaths(survey(deaths=[Deaths("q", "http://b:80", 7)]))
    assert found.status == WARNING and found.found == "7 of queue q for http://b:80 within the last day"


def test_the_hash_of_a_config_does_not_depend_on_the_order() -> None:
    a, b = QueueSettings("a"), QueueSettings("b", burst=3)
    assert config_hash((a, b)) == config_hash((b, a)) != config_hash((a,))


# -- whether there is one


@pytest.fixture
def served() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a server, and what it answers."""
    answer = [b"{}"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer[0])

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}", answer
    server.shutdown()
    server.server_close()


def here(listen: str, book: str, sections: tuple[str, ...] = ()) -> bool:
    settings: Any = SimpleNamespace(http=HttpSettings(listen=(listen,), book=book), http_sections=lambda: sections)
    return front_is_here(settings)


def test_whether_a_front_is_here(served: tuple[str, list[bytes]], tmp_path: Path) -> None:
    address, answer = served
    none = f"sqlite:{tmp_path}/none.db"
    assert not here("127.0.0.1:1", none)
    for other in (b"{}", b"[]", b"<html>", b'{"status": "UP"}'):
        answer[0] = other
        assert not here(address, none), "another program has that port"
    answer[0] = json.dumps({"status": "ok", "book": "up", "broker": "up"}).encode()
    assert here(address, none)
    assert here("127.0.0.1:1", none, ("http",))
    (tmp_path / "none.db").touch()
    assert here("127.0.0.1:1", none)
