"""The plugin `webhook` through real local HTTP servers: what it sends to the byte, and what it says came of it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from raw_http import CLOSE, RawServer, Request, answer
from taskqueue import __version__
from taskqueue.errors import ConfigError
from taskqueue.testing import Harness
from taskqueue.webhook.plugin import Webhook

SETTINGS = {"targets": "private", "concurrency": "40"}
HANDED_OUT = {"x-handout": 7}
TASK_ID = "0190a7c2-0000-7000-8000-000000000001"


@pytest.fixture
def worker() -> Iterator[Harness]:
    with Harness(Webhook, settings=SETTINGS) as harness:
        yield harness


def hand_out(worker: Harness, url: str, amqp: dict[str, Any] = HANDED_OUT, /, **fields: Any) -> dict[str, Any]:
    """The outcome of one hand-out."""
    ended = worker.run({"url": url, **fields}, headers=amqp, message_id=TASK_ID)
    assert ended.status == "success", ended.trace
    assert isinstance(ended.value, dict) and "\n" not in (ended.value["error"] or "")
    return ended.value


def ok(request: Request) -> bytes:
    return answer(200, b"ok", "Content-Type: text/plain")


def test_the_request_to_the_byte(worker: Harness) -> None:
    with RawServer(ok) as server:
        began = time.time()
        got = hand_out(
            worker, server.url("/a/../b?c=%20d#e"), {**HANDED_OUT, "x-task-attempt": 3}, queue="emails",
            headers=[["x-Custom", "ü"], ["Content-Type", "text/x"], ["Empty", ""], ["x-Custom", "2"],
                     ["User-Agent", "mine"]],
            body="häh",
        )  # fmt: skip
        (request,) = server.requests
    stamp = request.value("webhook-timestamp") or ""
    assert int(began) <= int(stamp) <= time.time()
    assert request.head.decode() == "\r\n".join([
        "POST /a/../b?c=%20d HTTP/1.1", f"Host: 127.0.0.1:{server.port}", f"webhook-id: {TASK_ID}",
        f"webhook-timestamp: {stamp}", f"X-Task-Id: {TASK_ID}", f"X-Task: {TASK_ID}", "X-Task-Attempt: 3",
        "X-Queue: emails", f"User-Agent: taskqueue/{__version__}", "Accept-Encoding: identity", "x-Custom: ü",
        "Content-Type: text/x", "Empty:", "x-Custom: 2", "Content-Length: 4",
    ])  # fmt: skip
    assert request.body == "häh".encode()
    assert got["started_at"] >= began and 0 < got["duration_s"] < 10
    assert got | {"started_at": 0, "duration_s": 0} == {
        "outcome": "answered", "status": 200, "headers": [["Content-Type", "text/plain"], ["Content-Length", "2"]],
        "body": "ok", "truncated": False, "error": None, "duration_s": 0, "address": "127.0.0.1", "retry_after_s": None,
        "no_retry": False, "started_at": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "length"),
    [("GET", None), ("DELETE", None), ("POST", "0"), ("PUT", "0"), ("HEAD", None), ("OPTIONS", None)],
)
def test_methods_without_a_body(worker: Harness, method: str, length: str | None) -> None:
    with RawServer(lambda request: answer(200) if request.head.startswith(b"HEAD") else ok(request)) as server:
        for _ in range(2):  # the same handle again
            assert hand_out(worker, server.url(), method=method)["status"] == 200
            hand_out(worker, server.url(), method="PATCH", body="b" * 70_000)
        assert [request.lines[0].split()[0] for request in server.requests] == [method, "PATCH"] * 2
        assert server.requests[2].value("Content-Length") == length
        assert server.requests[3].body == b"b" * 70_000 and server.requests[3].value("Expect") is None
        assert server.requests[2].value("Content-Type") is None and server.requests[2].value("Accept") is None
        assert server.connections == 1, "kept alive"


def test_no_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with RawServer(ok) as server, Harness(Webhook, settings=SETTINGS) as worker:
        assert hand_out(worker, server.url())["status"] == 200


def test_what_is_kept_of_a_body(worker: Harness) -> None:
    with RawServer(lambda request: answer(200, b"x" * 5000)) as server:
        got = hand_out(worker, server.url())
        assert (got["body"], got["truncated"]) == ("x" * 4096, True)
        assert (hand_out(worker, server.url(), keep_response=0)["body"]) == ""
        assert hand_out(worker, server.url(), keep_response=5000)["truncated"] is False
        assert server.connections == 1
    packed = gzip.compress(b"z" * 1_000_000)
    with RawServer(lambda request: answer(200, packed, "Content-Encoding: gzip")) as server:
        assert base64.b64decode(hand_out(worker, server.url())["body_base64"]) == packed, "untouched"


def test_a_body_of_ten_gigabytes_is_not_read(worker: Harness) -> None:
    async def endless(request: Request) -> AsyncIterator[bytes]:
        yield answer(200, length=10_000_000_000)
        while True:
            yield b"x" * 65_536

    with RawServer(endless) as server:
        got = hand_out(worker, server.url())
        assert (got["outcome"], got["status"], got["truncated"], len(got["body"])) == ("answered", 200, True, 4096)
        assert server.written < 50_000_000, "what kernels buffer, not ten gigabytes"


async def trickle(request: Request) -> AsyncIterator[bytes]:
    import asyncio

    yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    while True:
        yield b"x"
        await asyncio.sleep(0.05)


async def interim(request: Request) -> AsyncIterator[bytes]:
    import asyncio

    while True:
        yield b"HTTP/1.1 103 Early\r\nX: y\r\n\r\n"
        await asyncio.sleep(0.001)


async def silence(request: Request) -> AsyncIterator[bytes]:
    import asyncio

    await asyncio.sleep(60)
    yield b""


@pytest.mark.parametrize("handler", [trickle, interim, silence])
def test_the_deadline_holds_for_all_of_it(worker: Harness, handler: Any) -> None:
    with RawServer(handler) as server:
        began = time.monotonic()
        got = hand_out(worker, server.url(), timeout=0.5)
        assert 0.45 < time.monotonic() - began < 5
        assert (got["outcome"], got["status"]) == ("timeout", None) and "0.5 s" in got["error"]


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("said", "outcome", "says"),
    [
        (CLOSE, "connect", "lost"),
        (HEAD[:9] + CLOSE, "connect", "lost"),
        (HEAD + b"Content-Length: 9\r\n\r\n" + CLOSE, "connect", "status 200"),
        (HEAD + b"Content-Length: 9\r\n\r\nabc" + CLOSE, "connect", "status 200"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + CLOSE, "connect", "lost"),
        (HEAD + b"".join(b"X-%d: %s\r\n" % (number, b"v" * 990) for number in range(100)), "error", "too large"),
        (HEAD + b"X: " + b"v" * 900_000, "error", ""),
        (b"SSH-2.0-OpenSSH_9\r\n" + CLOSE, "error", "understood"),
        (HEAD + b"Content-Length: -5\r\n\r\nabc" + CLOSE, "error", ""),
    ],
)
def test_an_answer_that_is_none(worker: Harness, said: bytes, outcome: str, says: str) -> None:
    with RawServer(lambda request: said) as server:
        got = hand_out(worker, server.url(), timeout=10)
        assert (got["outcome"], got["status"], got["body"]) == (outcome, None, ""), got
        assert says in got["error"] and got.get("permanent") is None
        assert len(server.requests) == 1


def test_closed_after_the_headers_without_a_length_is_an_answer(worker: Harness) -> None:
    with RawServer(lambda request: HEAD + b"Connection: close\r\n\r\nabc" + CLOSE) as server:
        assert hand_out(worker, server.url())["body"] == "abc"


def test_the_last_head_counts_and_folded_headers_are_joined(worker: Harness) -> None:
    said = (
        b"HTTP/1.1 103 Early\r\nX: early\r\n\r\n"
        + HEAD
        + b"X: a\r\n b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nT: 1\r\n\r\n"
    )
    with RawServer(lambda request: said) as server:
        got = hand_out(worker, server.url())
        assert got["headers"] == [["X", "a b"], ["Transfer-Encoding", "chunked"]] and got["body"] == "ok"


@pytest.mark.parametrize("body", ["b", "b" * 200_000])
def test_a_request_is_not_sent_twice_when_a_kept_connection_dies(worker: Harness, body: str) -> None:
    with RawServer(lambda request: CLOSE if request.head.startswith(b"POST /2") else ok(request)) as server:
        assert hand_out(worker, server.url("/1"))["status"] == 200
        got = hand_out(worker, server.url("/2"), body=body)
        assert (got["outcome"], [request.lines[0][:7] for request in server.requests]) == (
            "connect",
            ["POST /1", "POST /2"],
        )


def test_no_connection_and_no_name(worker: Harness) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        got = hand_out(worker, f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert got["outcome"] == "connect" and "Connection refused" in got["error"]
    got = hand_out(worker, "http://no-such-name.invalid/")
    assert got["outcome"] == "dns" and "no-such-name.invalid" in got["error"]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "localhost",
    ],
)
def test_what_is_not_public_is_denied_in_every_form(host: str) -> None:
    with RawServer(ok) as server, Harness(Webhook) as worker:
        got = hand_out(worker, server.url(host=host))
        assert (got["outcome"], got["address"], server.connections) == ("denied", None, 0)
        assert ("unspecified" if host == "0" else "loopback") in got["error"] and "targets_allow" in got["error"]


def test_a_name_that_resolves_to_a_private_address_is_denied() -> None:
    name = socket.gethostname()
    address = socket.gethostbyname(name)  # this host's own, as /etc/hosts has it
    with RawServer(ok, host=address) as server:
        with Harness(Webhook) as worker:
            got = hand_out(worker, server.url(host=name))
            assert (got["outcome"], server.connections) == ("denied", 0) and address not in got["error"]
        with Harness(Webhook, settings={"targets_allow": name}) as worker:
            assert hand_out(worker, server.url(host=name))["address"] == address
            assert hand_out(worker, server.url(host=address))["outcome"] == "denied", "the name was opened"


def test_own_listeners_ports_and_a_narrower_hand_out_are_denied() -> None:
    with RawServer(ok) as server:
        for own in (f"127.0.0.1:{server.port}", f"0.0.0.0:{server.port}"):
            with Harness(Webhook, settings={"targets": "any", "own_listeners": [own, "[::1]:9"]}) as worker:
                got = hand_out(worker, server.url())
                assert got["outcome"] == "denied" and "own-listener" in got["error"]
        with Harness(Webhook, settings={"auto_targets": "private"}) as worker:
            assert hand_out(worker, "http://127.0.0.1:5432/")["outcome"] == "denied"
            assert hand_out(worker, server.url())["status"] == 200
            assert hand_out(worker, server.url(), targets="public")["outcome"] == "denied", "no kept connection is used"
            assert hand_out(worker, server.url(), targets="any")["status"] == 200
    with pytest.raises(ConfigError, match="targets"), Harness(Webhook, settings={"targets": "lan"}):
        pass


def redirect(status: int, location: str) -> bytes:
    return answer(status, b"", f"Location: {location}")


def test_redirects(worker: Harness) -> None:
    def handler(request: Request) -> bytes:
        path = request.lines[0].split()[1]
        return {"/a": redirect(307, "/b?x"), "/b?x": redirect(308, "c"), "/see": redirect(303, "/c")}.get(
            path, ok(request)
        )

    def tried(path: str, **fields: Any) -> tuple[Any, str | None, list[str]]:
        server.requests.clear()
        got = hand_out(worker, server.url(path), **fields)
        return got["status"], got["error"], [request.lines[0].split()[1] for request in server.requests]

    with RawServer(handler) as server:
        assert tried("/a") == (307, None, ["/a"]), "off by default"
        assert tried("/a", follow_redirects=2, body="b") == (200, None, ["/a", "/b?x", "/c"])
        assert [request.body for request in server.requests] == [b"b"] * 3
        status, error, paths = tried("/a", follow_redirects=1)
        assert (status, paths) == (308, ["/a", "/b?x"]) and "follow_redirects" in (error or "")
        status, error, paths = tried("/see", follow_redirects=1)
        assert (status, paths) == (303, ["/see"]) and "into GET" in (error or "")
        assert tried("/see", follow_redirects=1, method="GET")[2] == ["/see", "/c"]


def test_a_redirect_is_judged_and_loses_credentials(worker: Harness) -> None:
    secret = {"Authorization": "Bearer x", "Cookie": "a", "X-Api-Key": "k", "X-Plain": "p"}
    with RawServer(ok) as other, RawServer(lambda request: redirect(307, other.url("/x"))) as server:
        assert hand_out(worker, server.url(), follow_redirects=1, headers=secret)["status"] == 200
        names = {name for name, _ in other.requests[0].headers}
        assert "X-Plain" in names and "webhook-id" in names and not names & {"Authorization", "Cookie", "X-Api-Key"}
        assert server.requests[0].value("Authorization") == "Bearer x"
    for location, outcome in (
        ("http://169.254.169.254/latest", "denied"),
        ("http://127.0.0.1:6379/", "denied"),
        ("file:///etc/passwd", "answered"),
        ("http://a@127.0.0.1/", "answered"),
        ("http://[", "answered"),
    ):
        with RawServer(lambda request, location=location: redirect(307, location)) as server:  # type: ignore[misc]
            got = hand_out(worker, server.url(), follow_redirects=3)
            assert got["outcome"] == outcome and got["error"], location


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, signed by itself, with its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", path, "-out", f"{path}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


def test_tls(certificate: Path, worker: Harness) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with RawServer(lambda request: redirect(307, "http://127.0.0.1/"), tls=context) as server:
        got = hand_out(worker, server.url(host="localhost"))
        assert (
            got["outcome"] == "tls" and got["error"].startswith("TLS with https://localhost:") and not server.requests
        )
        with Harness(Webhook, settings={**SETTINGS, "ca_file": str(certificate)}) as trusting:
            got = hand_out(trusting, server.url(host="localhost"), follow_redirects=1)
            assert got["status"] == 307 and "from https to http" in got["error"]
            assert hand_out(trusting, server.url(host="127.0.0.1"))["outcome"] == "tls", "another name"
    with RawServer(ok) as server:
        assert hand_out(worker, server.url().replace("http:", "https:"), timeout=0.3)["outcome"] == "timeout"


def test_retry_after_and_no_retry(worker: Harness) -> None:
    said = {
        "/s": answer(429, b"", "Retry-After: 7"), "/n": answer(500, b"", "taskqueue-no-retry: 1"),
        "/d": answer(503, b"", "Date: Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After: Sun, 06 Nov 1994 08:50:37 GMT"),
        "/ok": answer(200, b"", "Retry-After: 7"),
    }  # fmt: skip
    with RawServer(lambda request: said[request.lines[0].split()[1]]) as server:
        assert hand_out(worker, server.url("/s"))["retry_after_s"] == 7
        assert hand_out(worker, server.url("/d"))["retry_after_s"] == 60
        assert hand_out(worker, server.url("/ok"))["retry_after_s"] is None
        assert hand_out(worker, server.url("/n"))["no_retry"] is True


def test_signed(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    old, new = (base64.b64encode(bytes([each]) * 32).decode() for each in (1, 2))
    with RawServer(ok) as server, Harness(Webhook, settings={**SETTINGS, "secrets": str(path)}) as worker:

        def verify(*secrets: str) -> None:
            hand_out(worker, server.url(), queue="emails", sign=True, body="ü")
            request = server.requests[-1]
            signed = f"{TASK_ID}.{request.value('webhook-timestamp')}.".encode() + request.body
            macs = [hmac.new(base64.b64decode(each), signed, hashlib.sha256).digest() for each in secrets]
            wanted = " ".join("v1," + base64.b64encode(mac).decode() for mac in macs)
            assert request.value("webhook-signature") == wanted

        got = hand_out(worker, server.url(), queue="emails", sign=True)
        assert got["outcome"] == "error" and "secrets" in got["error"] and not server.requests
        path.write_text(f"emails = whsec_{old}\n")
        verify(old)
        path.write_text(f"emails = {new} whsec_{old}\n")
        verify(new, old)
        hand_out(worker, server.url(), queue="emails")
        assert server.requests[-1].value("webhook-signature") is None


def test_late_and_malformed(worker: Harness) -> None:
    with RawServer(ok) as server:
        late = hand_out(worker, server.url(), {**HANDED_OUT, "x-handout-until": int(time.time() * 1000) - 1})
        assert late["outcome"] == "late"
        for fields in ({"headers": {"A": "b\r\nC: d"}}, {"method": "X Y"}, {"timeout": "x"}):
            got = hand_out(worker, server.url(), **fields)
            assert (got["outcome"], got["permanent"]) == ("error", True)
        assert not server.requests
        fine = hand_out(worker, server.url(), {**HANDED_OUT, "x-handout-until": int(time.time() * 1000) + 9_000})
        assert fine["outcome"] == "answered"
        got = worker.run({"url": server.url()}, headers=HANDED_OUT, message_id="a\r\nX: y").value
        assert got["permanent"] is True and len(server.requests) == 1


def test_deferred_when_one_origin_has_its_share() -> None:
    release = threading.Event()

    async def held(request: Request) -> AsyncIterator[bytes]:
        import asyncio

        await asyncio.to_thread(release.wait, 20)
        yield ok(request)

    def outcomes(worker: Harness, urls: Sequence[str]) -> list[dict[str, Any]]:
        work = [worker._assigned({"url": url, "timeout": 20}, headers=HANDED_OUT) for url in urls]
        return [json.loads(each.body) for each in worker._run(work)]

    def free(request: Request) -> bytes:
        release.set()  # the free origin answers while the other one is held
        return ok(request)

    settings = {**SETTINGS, "concurrency": "8"}
    with RawServer(held) as slow, RawServer(free) as other, Harness(Webhook, settings=settings) as worker:
        got = outcomes(worker, [slow.url()] * 8 + [other.url()])
    assert [each["outcome"] for each in got] == ["answered"] * 6 + ["deferred"] * 2 + ["answered"]
    assert got[6]["wait_s"] == 0.5 and len(slow.requests) == 6


def test_of_an_amqp_client(worker: Harness) -> None:
    statuses = {
        "/204": answer(204), "/410": answer(410), "/no": answer(500, b"", "Taskqueue-No-Retry: 1"), "/500": answer(500),
        "/503": answer(503, b"", "Retry-After: 99999"), "/ok": ok(Request(b"", b"", 0)),
    }  # fmt: skip
    with RawServer(lambda request: statuses[request.lines[0].split()[1]]) as server:

        def client(path: str, **fields: Any) -> Any:
            return worker.run({"url": server.url(path), **fields})

        assert client("/ok").value == {
            "status": 200, "headers": [["Content-Type", "text/plain"], ["Content-Length", "2"]], "body": "ok"
        }  # fmt: skip
        assert (
            server.requests[-1].value("X-Task-Attempt") == "1"
            and server.requests[-1].value("webhook-signature") is None
        )
        for path, status, says in (
            ("/410", "reject", "410"),
            ("/no", "reject", "500"),
            ("/500", "error", "answered 500"),
        ):
            ended = client(path)
            assert (ended.status, says in ended.error) == (status, True), ended
        retried = client("/503")
        assert (retried.status, retried.delay_s) == ("retry", 3600)
        assert client("/ok", header={}).status == "reject" and client("/ok", sign=True).status == "reject"
        assert client("/ok", targets="public").status == "reject", "denied"
    lost = worker.run({"url": server.url("/ok")})
    assert (lost.status, lost.error_type) == ("error", "DeliveryFailed") and "Connection refused" in lost.error
    assert worker.run("no object").status == "reject"


def test_a_soft_time_limit_ends_a_hand_out_with_an_outcome() -> None:
    with RawServer(silence) as server, Harness(Webhook, settings={**SETTINGS, "soft_time_limit": "0.3s"}) as worker:
        got = hand_out(worker, server.url(), timeout=20)
        assert got["outcome"] == "timeout" and "soft_time_limit" in got["error"]
        assert hand_out(worker, server.url(), timeout=0.1)["outcome"] == "timeout", "the handle is used again"


SLOW_NAMES = """
import asyncio, json, socket, time
from taskqueue.testing import Harness
from taskqueue.webhook.plugin import Webhook

mute = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
mute.bind(("127.0.0.1", 53))  # a name server that never answers


async def both(worker):
    longest, stop = 0.0, False

    async def heartbeat():
        nonlocal longest
        while not stop:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - began)

    beats = asyncio.create_task(heartbeat())
    work = worker._assigned({"url": "http://slow.example/", "timeout": 0.5}, headers={"x-handout": 1})
    (ended,) = await worker._run_async([work])
    stop = True
    await beats
    return json.loads(ended.body), longest


with Harness(Webhook) as worker:
    outcome, longest = worker._loop.run(both(worker))
    print(json.dumps([outcome["outcome"], longest]), flush=True)
    import os
    os._exit(0)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a mount and a network namespace, and so root")
def test_a_name_server_that_is_mute_holds_up_nobody(tmp_path: Path) -> None:
    """libcurl waits for its resolver's thread when a transfer times out, unless it is told not to."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    private = "if mountpoint -q /; then mount --make-rprivate /; fi"  # in a clean root, / is none
    script = f'{private} && ip link set lo up && mount --bind "$1" /etc/resolv.conf && exec "$2" -c "$3"'
    command = [
        "unshare",
        "--mount",
        "--propagation=unchanged",
        "--net",
        "sh",
        "-c",
        script,
        "sh",
        str(tmp_path / "resolv.conf"),
        sys.executable,
        SLOW_NAMES,
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)  # not the sources
    assert ran.returncode == 0, ran.stderr
    outcome, longest_s = json.loads(ran.stdout)
    assert outcome == "timeout" and longest_s < 3
