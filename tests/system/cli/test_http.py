"""`taskqueue http`: tokens, and the tables of a book, beside a front that runs and before there is one."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from daemons import Stage
from front_daemons import FrontDaemon
from postgresql import PrivatePostgresql
from waiting import wait_for


@pytest.fixture
def front(stage: Stage) -> FrontDaemon:
    """Not started yet."""
    return FrontDaemon(stage)


def test_tokens_beside_a_front_that_runs(front: FrontDaemon) -> None:
    front.start()
    ran = front.run("http", "token", "add", "reader", "--scope", "read")
    secret = ran.stdout.strip()
    assert ran.returncode == 0 and secret.startswith("tq_reader_") and "cannot be shown again" in ran.stderr

    def refused() -> str:
        return front.run("tasks", "list", "--url", front.url).stderr

    wait_for(lambda: "it wants a token: put one into TASKQUEUE_HTTP_TOKEN" in refused(), 10, "it wants a token")
    assert front.run("tasks", "list", "--url", front.url).returncode == 3
    wrong = front.run("tasks", "list", "--url", front.url, TASKQUEUE_HTTP_TOKEN="tq_reader_x")
    assert wrong.returncode == 3 and "is not known there, or has expired" in wrong.stderr
    assert "tq_reader_x" not in wrong.stderr
    front.told("tasks", "list", "--url", front.url, TASKQUEUE_HTTP_TOKEN=secret)
    no_right = front.run("queues", "pause", "default", "--url", front.url, TASKQUEUE_HTTP_TOKEN=secret)
    assert (
        no_right.returncode == 1 and "The token reader has no scope manage; taskqueue http token add" in no_right.stderr
    )
    front.told("tasks", "list")  # its unix socket needs none
    again = front.run("http", "token", "add", "reader", "--scope", "read")
    assert again.returncode == 1 and "there is a token reader; remove it first" in again.stderr
    assert front.told("http", "token", "remove", "reader") == "token reader was removed"
    none = front.run("http", "token", "remove", "reader")
    assert none.returncode == 1 and "taskqueue http token list shows all" in none.stderr
    wait_for(lambda: front.run("tasks", "list", "--url", front.url).returncode == 0, 10, "it wants none any more")


def test_a_list_of_tokens(front: FrontDaemon) -> None:
    ran = front.run("http", "token", "list")
    assert ran.stdout == "NAME\tSCOPES\tCREATED\tEXPIRES\tSTATE\n" and "there are no tokens" in ran.stderr
    front.told("http", "token", "add", "a", "--scope", "enqueue:emails", "--scope", "read")
    made = json.loads(front.told("http", "token", "add", "b", "--scope", "manage", "--expires", "1ms", "--json"))
    assert made["name"] == "b" and made["token"].startswith("tq_b_")
    _, a, b = [line.split("\t") for line in front.told("http", "token", "list").splitlines()]
    assert (a[:2], a[3:]) == (["a", "enqueue:emails read"], ["-", "good"]) and b[4] == "expired"
    assert made["token"] not in front.told("http", "token", "list", "--json")


@pytest.mark.root_only
def test_what_root_makes_before_the_first_start_is_the_fronts(front: FrontDaemon) -> None:
    front.configure(listen=f"0.0.0.0:{front.port}")
    front.daemon.start()
    assert front.daemon.wait(20) == 1 and "taskqueue http token add NAME" in front.daemon.log
    for path in front.file.parent.iterdir():
        path.unlink()
    secret = front.told("http", "token", "add", "a", "--scope", "manage")
    assert front.file.owner() == "taskqueue" and stat.S_IMODE(front.file.stat().st_mode) == 0o600
    front.start()
    front.told("queues", "list", TASKQUEUE_HTTP_TOKEN=secret)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("add", "a b", "--scope", "read"), "name 'a b': expected letters"),
        (("add", "a", "--scope", "write"), "--scope 'write': expected enqueue, enqueue:QUEUE, read or manage"),
        (("add", "a"), "--scope"),
        (("add", "a", "--scope", "read", "--expires", "soon"), "--expires"),
    ],
)
def test_wrong_usage(front: FrontDaemon, arguments: tuple[str, ...], line: str) -> None:
    ran = front.run("http", "token", *arguments)
    assert ran.returncode == 2 and line in ran.stderr
    assert not front.file.exists()


def test_a_book_that_cannot_be_opened(front: FrontDaemon, tmp_path: Path) -> None:
    for book, line in (
        (f"sqlite:{tmp_path}/none/http.db", "No such file or directory"),
        ("postgresql://me:hush@127.0.0.1:1/x", "book postgresql://me:…@127.0.0.1:1/x: "),
    ):
        front.book = book
        front.configure()
        for command in (("migrate",), ("token", "list")):
            ran = front.run("http", *command)
            assert ran.returncode == 3 and line in ran.stderr and ran.stderr.count("\n") == 1, ran.stderr
            assert "hush" not in ran.stderr
    noise = tmp_path / "noise.db"
    noise.write_bytes(os.urandom(8192))
    front.book = f"sqlite:{noise}"
    front.configure()
    ran = front.run("http", "migrate")
    assert ran.returncode == 3 and "file is not a database" in ran.stderr and ran.stderr.count("\n") == 1


def test_migrate(front: FrontDaemon) -> None:
    assert front.told("http", "migrate") == f"{front.book} was empty, and has the tables of version 1 now"
    assert front.told("http", "migrate") == f"{front.book} has version 1 already"
    assert json.loads(front.told("http", "migrate", "--json")) == {"book": front.book, "before": 1, "after": 1}
    front.start()
    assert front.told("http", "migrate") == f"{front.book} has version 1 already"


def certificate(directory: Path, name: str) -> tuple[str, str]:
    """A certificate for no name of this host, and its key."""
    cert, key = str(directory / f"{name}.pem"), str(directory / f"{name}.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=tasks.example"],
        check=True, capture_output=True,
    )  # fmt: skip
    Path(key).chmod(0o644)  # the front is another user
    return cert, key


def test_a_front_with_tls(front: FrontDaemon) -> None:
    cert, key = certificate(front.stage.scratch, "a")
    tls = f"tls_cert: {cert}\ntls_key: {key}"
    listen = f"127.0.0.1:{front.port}"
    front.configure(tls, listen=listen)
    front.start()
    assert "default" in front.told("queues", "list"), "this host's own certificate is known, whatever name it has"
    other = front.run("queues", "list", "--url", f"https://127.0.0.1:{front.port}")
    assert other.returncode == 3 and "its certificate is not trusted (self" in other.stderr
    plain = front.run("queues", "list", "--url", front.url)
    assert plain.returncode in {1, 3} and plain.stderr.startswith(f"taskqueue: front {front.url}: ")
    wrong, _ = certificate(front.stage.scratch, "b")
    front.configure(f"tls_cert: {wrong}\ntls_key: {key}", listen=listen)
    ran = front.run("queues", "list", TASKQUEUE_HTTP_TOKEN="tq_hush")
    assert ran.returncode == 3 and f"it shows another certificate than {wrong}; restart it" in ran.stderr
    front.daemon.stop()
    front.configure(f"{tls}\nclient_ca: {wrong}", listen=listen)
    front.start()
    ran = front.run("queues", "list")
    assert ran.returncode == 3 and "where it wants a client's certificate ([http] client_ca)" in ran.stderr


def test_in_postgresql(stage: Stage, postgresql: PrivatePostgresql) -> None:
    url = postgresql.make_database("operators")
    front = FrontDaemon(stage, book=url)
    shown = front.told("http", "migrate")
    assert shown.endswith("was empty, and has the tables of version 1 now") and "tests%2Fonly" not in shown
    secret = front.told("http", "token", "add", "a", "--scope", "manage")
    front.start()
    task = front.told("tasks", "add", "default", "http://127.0.0.1:9/", "--url", front.url, TASKQUEUE_HTTP_TOKEN=secret)
    assert json.loads(front.told("tasks", "show", task, "--json"))["queue"] == "default"
    front.daemon.stop()
    postgresql.drop_database("operators")
    gone = front.run("http", "token", "list")
    assert gone.returncode == 3 and "tests%2Fonly" not in gone.stderr and gone.stderr.count("\n") == 1
    stopped = front.run("tasks", "list", "--url", front.url)
    assert stopped.returncode == 3 and "nothing listens there; is taskqueue-http running?" in stopped.stderr
