"""How a front is asked: at a real little server that answers what a test says, over TCP and a unix socket."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from taskqueue.errors import FrontRefused, FrontUnavailable
from taskqueue.operations import front as asking
from taskqueue.operations.front import Front, part


class Played:
    """A server; `answers` are given in turn, the last one again and again: (status, headers, body)."""

    def __init__(self, path: Path | None = None) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = [(200, {}, b"{}")]
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections = 0
        played = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                played.connections += 1
                super().setup()

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                played.seen.append((self.command, self.path, dict(self.headers.items()), body))
                status, headers, answer = played.answers[0]
                if len(played.answers) > 1:
                    played.answers.pop(0)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(answer)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_DELETE = _any

            def address_string(self) -> str:
                return "somebody"

            def log_message(self, *arguments: object) -> None:
                """Says nothing."""

        class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.server: Any
        if path is None:
            self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        else:
            self.server = UnixServer(str(path), Handler)
            self.url = f"unix:{path}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def answer(self, status: int, document: Any, **headers: str) -> None:
        """From here on it answers that."""
        self.answers = [(status, headers, document if isinstance(document, bytes) else json.dumps(document).encode())]

    def close(self) -> None:
        """End it."""
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def played() -> Iterator[Played]:
    server = Played()
    yield server
    server.close()


FAULTS = [{"pointer": "#/url", "detail": "is missing"}, {"field": "at", "detail": "b"}]


def problem(slug: str, detail: str, **more: Any) -> dict[str, Any]:
    return {"type": f"/problems/{slug}", "detail": detail, **more}


def test_one_connection_for_all_requests(played: Played) -> None:
    played.answer(200, {"queues": []})
    with Front(played.url, "hush") as front:
        assert front.get("/v1/queues", {"state": ["a", "b"], "name": None, "tag": ""}) == {"queues": []}
        front.post("/v1/queues/x:pause", {"a": "ü"}, headers={"Prefer": "wait=3"})
    (_, path, headers, body), (method, _, second, text) = played.seen
    assert path == "/v1/queues?state=a&state=b" and body == b"" and headers["Authorization"] == "Bearer hush"
    assert (method, json.loads(text)) == ("POST", {"a": "ü"})
    assert second["Prefer"] == "wait=3" and second["Content-Type"] == "application/json"
    assert played.connections == 1


def test_over_a_unix_socket_with_a_base_path(tmp_path: Path) -> None:
    server = Played(tmp_path / "s")
    try:
        with Front(server.url, root="/base") as front:
            assert front.get("/v1/queues") == {}
        assert server.seen[0][1] == "/base/v1/queues"
    finally:
        server.close()


def test_a_path_in_the_url_stands_before_every_path(played: Played) -> None:
    with Front(f"{played.url}/base/") as front:
        front.get("/v1/queues")
    with Front(played.url.removeprefix("http://")) as front:
        front.get("/x")
        assert front.url == played.url
    assert [path for _, path, _, _ in played.seen] == ["/base/v1/queues", "/x"]


def test_a_connection_that_rested_is_not_used_again(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_IDLE_S", 0.0)
    with Front(played.url) as front:
        front.get("/a")
        front.get("/b")
    assert played.connections == 2


def test_all_pages_up_to_a_limit(played: Played) -> None:
    def page(*ids: int, after: str | None) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, json.dumps({"tasks": [{"id": each} for each in ids], "next": after}).encode()

    pages = [page(1, 2, after="c"), page(after="d"), page(3, after=None)]
    played.answers = list(pages)
    with Front(played.url) as front:
        assert [each["id"] for each in front.all("/v1/tasks", "tasks")] == [1, 2, 3]
        played.answers = list(pages)
        assert [each["id"] for each in front.all("/v1/tasks", "tasks", {"tag": "t"}, limit=2)] == [1, 2]
    paths = [path for _, path, _, _ in played.seen]
    assert paths[1] == "/v1/tasks?limit=1000&cursor=c" and paths[3:] == ["/v1/tasks?tag=t&limit=2"]


@pytest.mark.parametrize(
    ("status", "document", "line"),
    [
        (404, problem("unknown-task", "There is no task 'x'."), "There is no task 'x'; taskqueue tasks list shows"),
        (403, problem("forbidden", "It has no scope manage."), "It has no scope manage; taskqueue http token add"),
        (409, problem("task-ended", "The task x is dead."), "The task x is dead."),
        (
            422,
            problem("validation", "…", errors=FAULTS),
            "url is missing; at b",
        ),
        (404, b"<html>no</html>", "404 Not Found; expected a taskqueue front"),
        (400, {"detail": 3}, "400 Bad Request; expected a taskqueue front"),
    ],
)  # fmt: skip
def test_a_refusal_in_the_fronts_words(played: Played, status: int, document: Any, line: str) -> None:
    played.answer(status, document)
    with Front(played.url) as front, pytest.raises(FrontRefused) as caught:
        front.get("/v1/x")
    assert str(caught.value).startswith(line) and caught.value.status == status


@pytest.mark.parametrize(
    ("status", "document", "token", "line"),
    [
        (401, problem("unauthorized", "Send a token"), None, "it wants a token: put one into TASKQUEUE_HTTP_TOKEN"),
        (401, problem("unauthorized", "Send a token"), "hush", "is not known there, or has expired"),
        (503, problem("book-unavailable", "book x: disk full"), None, "book x: disk full"),
        (200, b"<html>hello</html>", None, "no taskqueue front; is the port right?"),
        (302, b"", None, "it sends to another address (302)"),
    ],
)
def test_one_that_cannot_be_used(played: Played, status: int, document: Any, token: str | None, line: str) -> None:
    played.answer(status, document)
    with Front(played.url, token) as front, pytest.raises(FrontUnavailable) as caught:
        front.get("/v1/x")
    assert line in str(caught.value) and played.url in str(caught.value) and "hush" not in str(caught.value)


@pytest.mark.parametrize("document", [{"hello": "world"}, {"queues": [{"x": 1}]}])
def test_json_of_something_else_is_no_defect_of_ours(played: Played, document: Any) -> None:
    played.answer(200, document)
    with Front(played.url) as front, pytest.raises(FrontUnavailable, match=r"the answer has no 'queues'|no 'name'"):
        front.get("/v1/queues")["queues"][0]["name"]


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://[", "http://h:99999", "", "http://h/?q=1", "unix"])
def test_a_url_that_is_none(url: str) -> None:
    if url == "unix":  # a name, like any other
        assert Front(url).url == "http://unix"
        return
    with pytest.raises(FrontUnavailable, match="expected http://host:port"):
        Front(url)


def test_a_password_in_the_url_is_refused_and_not_shown() -> None:
    with pytest.raises(FrontUnavailable, match="TASKQUEUE_HTTP_TOKEN") as caught:
        Front("http://me:hush@h:1/")
    assert "hush" not in str(caught.value)


def test_a_token_that_is_none() -> None:
    with (
        Front("http://127.0.0.1:1", "ü\n") as front,
        pytest.raises(FrontUnavailable, match="letters that no token has"),
    ):
        front.get("/x")


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        for url in (f"http://127.0.0.1:{taken.getsockname()[1]}", f"unix:{tmp_path}/none"):
            with Front(url) as front, pytest.raises(FrontUnavailable, match="nothing listens there; is taskqueue-http"):
                front.get("/x")


@pytest.mark.parametrize(
    ("sent", "line"),
    [(b"SSH-2.0-OpenSSH\r\n", "does not speak HTTP"), (b"", "does not speak HTTP|RemoteDisconnected|closed")],
)
def test_something_else_listens(sent: bytes, line: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(sent)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with Front(url) as front, pytest.raises(FrontUnavailable, match=line):
            front.get("/x")
        thread.join(5)


def test_one_that_never_answers() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Front(f"http://127.0.0.1:{server.getsockname()[1]}", wait_s=0.05) as front,
        pytest.raises(FrontUnavailable, match="no answer in time"),
    ):
        front.get("/x")


def test_tls_where_there_is_none(played: Played) -> None:
    with Front(played.url.replace("http", "https")) as front, pytest.raises(FrontUnavailable, match="is it http://"):
        front.get("/x")


def test_a_part_of_a_path() -> None:
    assert part("a/b c?#ü") == "a%2Fb%20c%3F%23%C3%BC"
