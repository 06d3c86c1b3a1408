"""What `taskqueue doctor`, `status` and `why` tell of this host's front: nothing where there is none; each fault."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from daemons import Stage
from front_daemons import FrontDaemon
from proxy import Proxy
from waiting import wait_for

Found = dict[str, list[dict[str, Any]]]
CHECKS = {
    "front", "book", "exposure", "targets", "webhook", "task queues", "tokens", "fronts", "origins", "dead tasks",
}  # fmt: skip


@pytest.fixture
def front(stage: Stage) -> FrontDaemon:
    """Not started yet."""
    return FrontDaemon(stage, http="queues: emails")


def doctor(front: FrontDaemon, **environ: str) -> Found:
    """What doctor found of the front, by check."""
    ran = front.run("--json", "doctor", "--socket", front.stage.pool.socket_path, **environ)
    found: Found = {}
    for each in json.loads(ran.stdout):
        assert (each["advice"] is None) == (each["status"] == "ok"), each
        found.setdefault(each["check"], []).append(each)
    return found


def told(found: Found, check: str, status: str) -> str:
    return "\n".join(each["found"] for each in found.get(check, []) if each["status"] == status)


def sql(front: FrontDaemon, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(front.file)) as book:
        book.execute(statement, values)
        book.commit()


def test_a_host_without_the_http_half_hears_one_line(stage: Stage) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8088)) == 0:
            pytest.skip("something listens where a front would by default")
    stage.configure("")
    options = ("-c", stage.config_file, "--socket", stage.pool.socket_path)
    findings = json.loads(stage.run("taskqueue", "--json", "doctor", *options, deadline_s=60).stdout)
    of_front = [each for each in findings if each["check"] in CHECKS]
    assert [(each["status"], each["found"]) for each in of_front] == [("ok", "none is set up on this host")]
    ran = stage.run("taskqueue", "status", *options)
    assert ran.returncode == 0 and "front" not in ran.stdout and "TASK QUEUE" not in ran.stdout
    assert json.loads(stage.run("taskqueue", "--json", "status", *options).stdout)["front"] is None


def test_all_is_well(front: FrontDaemon) -> None:
    front.stage.site.install_webhook()
    front.start()
    found = doctor(front)
    bad = [each for check in CHECKS & found.keys() for each in found[check] if each["status"] != "ok"]
    assert all("taskqueue-webhook does not exist" in each["found"] for each in bad), bad
    assert told(found, "front", "ok") == f"unix:{front.socket} answers, book and broker are up"
    assert told(found, "book", "ok") == "reached, its tables are of version 1"
    assert f"{front.file} has mode 0600" in told(found, "permissions", "ok")
    assert "only this host reaches" in told(found, "exposure", "ok")
    assert "private addresses and loopback (targets: auto, and this host's front is not exposed)" in told(
        found, "targets", "ok"
    )
    assert told(found, "fronts", "ok").startswith("1: ") and told(found, "dead tasks", "ok")


def test_it_does_not_run(front: FrontDaemon) -> None:
    found = doctor(front)
    assert "nothing listens there; is taskqueue-http running?" in told(found, "front", "problem")
    assert "does not exist yet" in told(found, "book", "ok")
    front.start()
    front.daemon.stop()
    assert not front.socket.exists()
    found = doctor(front)
    assert "is taskqueue-http running?" in told(found, "front", "problem")
    assert "reached" in told(found, "book", "ok")
    ran = front.run("status", "--socket", front.stage.pool.socket_path)
    assert ran.returncode == 0 and "front trouble\tfront http" in ran.stdout and "nothing listens there" in ran.stdout


def test_a_book_of_another_version_and_one_that_is_open_to_all(front: FrontDaemon) -> None:
    front.told("http", "migrate")
    front.file.chmod(0o644)
    assert "everybody may read bodies" in told(doctor(front), "permissions", "problem")
    front.file.chmod(0o600)
    for version, status, advice in ((2, "warning", "upgrade taskqueue here"), (9, "problem", "install that newer")):
        sql(front, "UPDATE meta SET value = ? WHERE key = 'version'", str(version))
        found = doctor(front)
        (only,) = found["book"]
        assert only["status"] == status and advice in only["advice"]


def test_a_book_that_is_away_and_its_password(front: FrontDaemon) -> None:
    front.book = "postgresql://me:hush@127.0.0.1:1/x"
    front.configure()
    found = doctor(front)
    assert "book postgresql://me:…@127.0.0.1:1/x: " in told(found, "book", "problem")
    assert "hush" not in json.dumps(found)


def test_exposed_without_tokens_and_with_one_that_has_expired(front: FrontDaemon) -> None:
    front.configure(listen=f"0.0.0.0:{front.port}")
    front.told("http", "migrate")
    found = doctor(front)
    assert f"it listens on 0.0.0.0:{front.port}, and there are no tokens" in told(found, "exposure", "problem")
    front.told("http", "token", "add", "old", "--scope", "read", "--expires", "1ms")
    found = doctor(front)
    assert "old expired at " in told(found, "tokens", "warning")
    assert "go over the net in clear" in told(found, "exposure", "warning")
    front.configure("base_path: /tasks")
    front.told("http", "token", "add", "new", "--scope", "read")
    assert told(doctor(front), "exposure", "ok") == "it stands behind a proxy (base_path or trusted_proxies); 2 tokens"


@pytest.mark.parametrize(
    ("http", "webhook", "line"),
    [
        ("", "", "webhook may reach the Internet, private addresses and loopback (targets: auto, and this"),
        ("base_path: /x", "", "webhook may reach the Internet only (targets: auto, and this host's front is exposed)"),
        ("", "targets: any", "every address but metadata and link-local ([webhook] targets)"),
        ("targets: public", "", "hand-outs of fronts with this config: public, by [http] targets"),
    ],
)
def test_how_far_webhook_workers_may_reach(front: FrontDaemon, http: str, webhook: str, line: str) -> None:
    front.stage.site.install_webhook()
    front.configure(http, f"[webhook]\n{webhook}\n")
    assert line in told(doctor(front), "targets", "ok")


def test_what_the_book_tells(front: FrontDaemon) -> None:
    front.start()
    front.told("queues", "pause", "emails")
    task = front.told("tasks", "add", "emails", "http://10.1.2.3/x")
    died = front.told("tasks", "add", "default", "http://10.1.2.3/x", "--delay", "1h")
    now_ms = int(time.time() * 1000)
    sql(front, "UPDATE tasks SET state = 'dead', due_ms = NULL, ended_ms = ? WHERE id = ?", now_ms, died)
    sql(front, "INSERT INTO origins VALUES ('http://10.1.2.3:80', ?, 10, 1, 0, 0, 0, 0)", now_ms + 3_600_000)
    found = doctor(front)
    assert told(found, "task queues", "warning") == "emails is paused, 1 tasks wait"
    assert "http://10.1.2.3:80 rests until " in told(found, "origins", "warning")
    assert "after 10 failures in a row" in told(found, "origins", "warning")
    assert told(found, "dead tasks", "warning") == "1 of queue default for http://10.1.2.3:80 within the last day"
    assert "the plugin webhook is not installed here" in told(found, "webhook", "warning")
    front.configure("queues: emails, more")
    assert "are not those that the front of this host has loaded" in told(doctor(front), "fronts", "warning")
    assert (
        front.run("why", task, "--socket", front.stage.pool.socket_path)
        .stdout.splitlines()[1]
        .startswith("ready\ttask in queue emails\twaits for: origin http://10.1.2.3:80 rests until ")
    )


def test_fronts_whose_configs_differ(front: FrontDaemon) -> None:
    front.told("http", "migrate")
    now_ms = int(time.time() * 1000) + 60_000  # they beat for a minute
    for number in range(2):
        sql(front, "INSERT INTO fronts VALUES (?, ?, 0, ?, '1', ?)", f"f{number}", f"h{number}", now_ms, f"c{number}")
    assert told(doctor(front), "fronts", "warning").endswith("the last one loaded wins: h0 / h1")


def test_status(front: FrontDaemon, proxy: Proxy, vhost: str) -> None:
    front.daemon.env["TASKQUEUE_AMQP_URL"] = proxy.url(vhost)
    front.start()
    pool = front.stage.pool.socket_path
    front.told("tasks", "add", "emails", "http://127.0.0.1:9/")
    front.told("queues", "pause", "emails")

    def shown() -> list[list[str]]:
        return [line.split("\t") for line in front.told("status", "--socket", pool).splitlines()]

    wait_for(lambda: ["front", f"unix:{front.socket}, book up, broker up"] in shown(), 10, "it is well")
    lines = shown()
    at = lines.index(["TASK QUEUE", "READY", "SCHEDULED", "RUNNING", "RETRYING", "DEAD", "PAUSED"])
    assert lines[at + 1 : at + 3] == [["emails", "1", "0", "0", "0", "0", "paused"]], "quiet queues are left out"
    seen = json.loads(front.told("--json", "status", "--socket", pool))["front"]
    assert (seen["book"], seen["broker"], seen["trouble"]) == ("up", "up", None)
    assert next(each for each in seen["queues"] if each["name"] == "emails")["counts"]["ready"] == 1
    proxy.refuse()
    proxy.cut()
    wait_for(lambda: ["front", f"unix:{front.socket}, book up, broker down"] in shown(), 10, "the broker is away")
    assert any(line[0] == "front trouble" for line in shown())
    problem = told(doctor(front), "front", "problem")
    assert f"unix:{front.socket} takes tasks, and can hand out none: broker " in problem


def test_why(front: FrontDaemon) -> None:
    front.start()
    task = front.told("tasks", "add", "emails", "http://127.0.0.1:9/", "--delay", "1h")
    pool = front.stage.pool.socket_path
    head, line = [row.split("\t") for row in front.told("why", task, "--socket", pool).splitlines()]
    assert head == ["STATE", "WHERE", "WHAT"] and line[:2] == ["scheduled", "task in queue emails"]
    assert line[2].startswith("waits for: not due until ")
    seen = json.loads(front.told("why", task, "--json", "--socket", pool))
    assert (seen["task"]["state"], seen["found"]) == ("scheduled", [])
    front.told("tasks", "cancel", task)
    assert "ago): somebody cancelled it" in front.told("why", task, "--socket", pool)
    none = front.run("why", "01981a2b-0000-7000-8000-000000000001", "--socket", pool)
    assert none.returncode == 1 and "was not found" in none.stderr
    away = front.run("why", task, "--socket", pool, TASKQUEUE_AMQP_URL="amqp://127.0.0.1:1/")
    assert away.returncode == 3 and "somebody cancelled it" in away.stdout, "what the front says is shown all the same"
    front.daemon.stop()
    gone = front.run("why", task, "--socket", pool)
    assert gone.returncode == 1 and "is taskqueue-http running?" in gone.stderr
