"""`taskqueue dead` as it is installed: nothing is taken by looking, lost or doubled by a replay, dropped unasked."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dead_letters
from broker import PrivateBroker
from daemons import Stage
from dead_letters import DEAD, LIKE_RABBITMQ_4, bury, bury_many
from proxy import ACK, PUBLISH, Proxy
from terminal import CTRL_C, Terminal
from waiting import wait_for

PICKY = """
    from pathlib import Path
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            if not Path("{mended}").exists():
                raise ValueError("no " + body)
            return [body, self.task.attempt]
"""


def dead(stage: Stage, *arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    return stage.run("taskqueue", "dead", *arguments, **keywords)


def listed(stage: Stage, *arguments: str) -> list[dict[str, Any]]:
    """What `dead list` finds."""
    ran = dead(stage, "list", "--json", *arguments)
    assert (ran.returncode, ran.stderr) == (0, "")
    return [json.loads(line) for line in ran.stdout.splitlines()]


def ids(stage: Stage, *arguments: str) -> list[str]:
    return [letter["id"] for letter in listed(stage, *arguments)]


def depths(stage: Stage, *queues: str) -> list[int]:
    return [stage.amqp.depth(queue) for queue in queues]


@contextlib.contextmanager
def running(stage: Stage, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    command = [str(part) for part in stage.command("taskqueue", "dead", *arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=stage.env(**environ), start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def graves(stage: Stage) -> Stage:
    """A stage with the queues, and no daemon."""
    dead_letters.declare(stage.amqp)
    return stage


# -- from a plugin that fails to one that was mended


def test_found_understood_mended_and_replayed(stage: Stage) -> None:
    mended = stage.scratch / "mended"
    stage.site.install("picky", PICKY.replace("{mended}", str(mended)))
    stage.start("picky")
    stage.amqp.submit("picky tea", message_id="one", headers={"mine": "kept"})
    stage.amqp.submit("no type {", content_type="application/json", message_id="two")
    wait_for(lambda: stage.amqp.depth(DEAD) == 2, 20, "both died")
    stage.amqp.purge("results")

    letters = {letter["id"]: letter for letter in listed(stage)}
    assert (letters["one"]["worker_type"], letters["one"]["reason"], letters["one"]["queue"]) == (
        "picky", "failed", "worker_picky",
    )  # fmt: skip
    assert letters["one"]["detail"].rstrip().endswith("ValueError: no tea")
    assert (letters["two"]["worker_type"], letters["two"]["reason"], letters["two"]["queue"]) == (
        None, "malformed", "taskqueue",
    )  # fmt: skip

    shown = dead(stage, "show", "one")
    assert shown.returncode == 0
    assert "reason\tfailed\n" in shown.stdout and "header mine\tkept\n" in shown.stdout
    assert "Traceback (most recent call last):\n" in shown.stdout and shown.stdout.endswith(
        "ValueError: no tea\n\ntea\n"
    )

    mended.touch()
    ran = dead(stage, "replay", "--type", "picky")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == ["ID\tTYPE\tQUEUE", "one\tpicky\tworker_picky"]
    result = stage.amqp.take_for("one", deadline_s=20)
    assert result.json() == ["tea", 1], "it begins anew"
    assert ids(stage) == ["two"]


def test_what_the_broker_buried_reads_like_ours(stage: Stage) -> None:
    dead_letters.declare(stage.amqp, ["late", "worn"])
    before = time.time()
    dead_letters.expire(stage.amqp, "e", "late")
    dead_letters.wear_out(stage.amqp, "w", "worn")
    expired, worn = listed(stage)
    assert (expired["worker_type"], expired["reason"], expired["queue"]) == ("late", "expired", "worker_late")
    assert (worn["worker_type"], worn["reason"], worn["queue"]) == ("worn", "delivery-limit", "worker_worn")
    assert all(before - 2 <= letter["died_at"] <= time.time() + 2 for letter in (expired, worn))
    assert "expiration was over" in expired["detail"]
    assert ids(stage, "--reason", "delivery-limit") == ["w"]
    assert ids(stage, "--type", "late", "--newer-than", "1h") == ["e"]

    ran = dead(stage, "replay", "--all")
    assert (ran.returncode, ran.stderr) == (0, "")
    late = stage.amqp.take_for("e", "worker_late")
    assert (late.text, late.headers, late.properties.expiration) == ("too late", {"mine": "yes"}, None)
    assert stage.amqp.take_for("w", "worker_worn").headers == {}, "neither x-death nor its attempts"
    assert stage.amqp.depth(DEAD) == 0


# -- list, show


def test_filters(graves: Stage) -> None:
    bury(graves.amqp, "old", age_s=7200)
    bury(graves.amqp, "new", reason="timeout")
    bury(graves.amqp, "other", queue="worker_u", reason="crashed", age_s=600)
    bury(graves.amqp, "unread", queue="taskqueue", reason="malformed")
    graves.amqp.submit("?", DEAD)  # by anybody: it says nothing
    every = ["old", "new", "other", "unread", None]
    assert ids(graves) == every
    for arguments, expected in {
        ("--type", "t"): ["old", "new"],
        ("--type", "t", "--type", "u"): ["old", "new", "other"],
        ("--reason", "timeout", "--reason", "crashed"): ["new", "other"],
        ("--older-than", "5m"): ["old", "other"],
        ("--older-than", "5m", "--newer-than", "1h"): ["other"],
        ("--type", "t", "--newer-than", "1h"): ["new"],
        ("old", "unread"): ["old", "unread"],
        ("old", "--type", "u"): [],
        ("--limit", "2"): ["old", "new"],
        ("--type", "nobody"): [],
    }.items():
        assert ids(graves, *arguments) == expected, arguments
    assert graves.amqp.depth(DEAD) == len(every)


def test_list_in_a_pipe(graves: Stage) -> None:
    bury(graves.amqp, "one", age_s=60, detail="Traceback:\n  x\nValueError: \tno\n")
    graves.amqp.submit("?", DEAD)
    ran = dead(graves, "list")
    assert (ran.returncode, ran.stderr) == (0, "")
    head, one, nothing = ran.stdout.splitlines()
    assert head == "ID\tTYPE\tREASON\tDIED\tQUEUE\tHOST\tDETAIL"
    assert re.fullmatch(
        r"one\tt\tfailed\t\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d\tworker_t\telsewhere\tValueError: \\tno", one
    )
    assert nothing == "-\t-\t-\t-\t-\t-\t-"


def test_a_list_of_nothing(stage: Stage) -> None:
    for arguments in (("list",), ("list", "--json"), ("replay", "--all"), ("drop", "--all")):
        ran = dead(stage, *arguments)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), arguments
    assert not stage.amqp.exists(DEAD), "looking makes no queue"


def test_summary(graves: Stage) -> None:
    bury_many(graves.amqp, 30, age_s=100)
    bury(graves.amqp, "x", queue="worker_u", reason="crashed")
    ran = dead(graves, "list", "--summary")
    assert [line.split("\t")[:3] for line in ran.stdout.splitlines()] == [
        ["TYPE", "REASON", "COUNT"], ["t", "failed", "30"], ["u", "crashed", "1"],
    ]  # fmt: skip
    (most, _) = json.loads(dead(graves, "list", "--summary", "--json").stdout)
    assert (most["worker_type"], most["count"]) == ("t", 30) and 90 < time.time() - most["oldest_at"] < 200


def test_listing_again_and_again_loses_nothing(stage: Stage) -> None:
    """On RabbitMQ 4 a quorum queue drops what went back more than 20 times; 3.10 does where it is told to."""
    stage.amqp.declare(DEAD, LIKE_RABBITMQ_4)
    buried = bury_many(stage.amqp, 40)
    for _ in range(25):
        assert sorted(ids(stage)) == sorted(buried)
    assert stage.amqp.depth(DEAD) == 40
    assert {each.properties.message_id for each in stage.amqp.take_many(DEAD, 40)} == set(buried)


def test_show_everything_that_a_letter_says(graves: Stage) -> None:
    graves.amqp.submit(
        b"\xff\x00", DEAD, message_id="binary", correlation_id="c", reply_to="r", priority=3,
        headers=dead_letters.headers(mine=7, nested={"a": [1]}),
    )  # fmt: skip
    bury(graves.amqp, "text", "line one\nline two\n")
    document = json.loads(dead(graves, "show", "--json", "binary").stdout)
    assert document["headers"] == {"mine": 7, "nested": {"a": [1]}}
    assert document["properties"] == {"correlation_id": "c", "reply_to": "r", "priority": 3}
    assert (document["body_base64"], document["reason"]) == ("/wA=", "failed") and "body" not in document
    shown = dead(graves, "show", "text").stdout
    assert shown.startswith("id\ttext\n") and shown.endswith("\nValueError: failed\n\nline one\nline two\n")
    ran = dead(graves, "show", "text", "gone")
    assert (ran.returncode, ran.stderr) == (1, "taskqueue: no such dead letter: gone\n")
    assert ran.stdout == shown


def test_on_a_terminal_nothing_can_be_forged(graves: Stage) -> None:
    bury(graves.amqp, "evil\x1b[2J", "\x1b]0;forged\x07[red]x", detail="\x1b[31mred\x07", mine="\x9b")
    for arguments in (("list",), ("show", "--all"), ("list", "--summary")):
        with Terminal(graves.command("taskqueue", "dead", *arguments), graves.env()) as terminal:
            assert terminal.wait() == 0
            assert "failed" in terminal.text and "\x1b[31m" in terminal.raw, "red"
            assert "\x07" not in terminal.raw and "\x9b" not in terminal.raw and "\x1b[2J" not in terminal.raw
            if arguments != ("list", "--summary"):
                assert r"evil\x1b[2J" in terminal.text and r"\x1b[31mred\x07" in terminal.text
            if arguments[0] == "show":
                assert r"\x1b]0;forged\x07[red]x" in terminal.text


# -- replay


def test_replay_keeps_the_order_and_all_that_is_the_workitems(graves: Stage) -> None:
    buried = bury_many(graves.amqp, 1500)
    bury(graves.amqp, "elsewhere", queue="worker_u")
    graves.amqp.submit(
        '{"a": 1}', DEAD, message_id="whole", content_type="application/json", correlation_id="c", reply_to="r",
        priority=3, app_id="a", timestamp=1_600_000_000,
        headers=dead_letters.headers(**{"x-attempt": 4, "x-crashes": 2, "x-delay": 5, "mine": 1}),
    )  # fmt: skip
    assert depths(graves, "worker_t", DEAD) == [0, 1502]
    ran = dead(graves, "replay", "--type", "t")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [line.split("\t")[0] for line in ran.stdout.splitlines()] == ["ID", *buried, "whole"]
    found = graves.amqp.take_many("worker_t", 1501)
    assert [each.properties.message_id for each in found] == [*buried, "whole"]
    last = found[-1]
    assert (last.text, last.headers) == ('{"a": 1}', {"x-delay": 5, "mine": 1})
    properties = last.properties
    assert (properties.content_type, properties.correlation_id, properties.reply_to, properties.priority) == (
        "application/json", "c", "r", 3,
    )  # fmt: skip
    assert (properties.app_id, properties.timestamp, properties.delivery_mode) == ("a", 1_600_000_000, 2)
    assert ids(graves) == ["elsewhere"]


def test_a_queue_that_was_deleted_is_made_again(graves: Stage) -> None:
    bury(graves.amqp, "x", queue="worker_new.type")
    ran = dead(graves, "replay", "x", "--json")
    assert json.loads(ran.stdout) == {"id": "x", "worker_type": "new.type", "queue": "worker_new.type"}
    assert graves.amqp.take_for("x", "worker_new.type").text == "body"


def test_what_cannot_be_replayed_stays(graves: Stage) -> None:
    bury(graves.amqp, "good")
    bury(graves.amqp, "lost", queue="no-such-queue")
    graves.amqp.submit("?", DEAD, message_id="silent")
    bury(graves.amqp, "circle", queue=DEAD)
    for arguments in (("--dry-run",), ()):
        ran = dead(graves, "replay", "--all", *arguments)
        assert ran.returncode == 1
        assert ran.stderr.splitlines() == [
            "taskqueue: 1 cannot be replayed, and stays dead: there is no queue no-such-queue to send it to",
            "taskqueue: 1 cannot be replayed, and stays dead: it does not say which queue it died in",
            "taskqueue: 1 cannot be replayed, and stays dead: there is no queue taskqueue_dead to send it to",
        ]
        assert [line.split("\t")[0] for line in ran.stdout.splitlines()] == ["ID", "good"]
    assert ids(graves) == ["lost", "silent", "circle"]
    ran = dead(graves, "replay", "gone", "lost")
    assert ran.returncode == 1 and ran.stderr.splitlines()[-1] == "taskqueue: no such dead letter: gone"


def test_dry_run_does_nothing(graves: Stage) -> None:
    buried = bury_many(graves.amqp, 10)
    ran = dead(graves, "replay", "--all", "--dry-run", "--json")
    assert ran.returncode == 0
    assert [json.loads(line)["id"] for line in ran.stdout.splitlines()] == buried
    assert depths(graves, DEAD, "worker_t") == [10, 0]


def test_no_faster_than_the_rate(graves: Stage) -> None:
    bury_many(graves.amqp, 21)
    before = time.monotonic()
    ran = dead(graves, "replay", "--all", "--rate", "10/s")
    assert ran.returncode == 0 and time.monotonic() - before >= 2.0
    assert depths(graves, DEAD, "worker_t") == [0, 21]


def test_what_dies_meanwhile_is_not_replayed_again(graves: Stage, proxy: Proxy, vhost: str) -> None:
    """Each workitem is a dead letter again as soon as it is replayed: that must come to an end, and each has its turn
    once, also where the connection was cut on the way."""
    bury_many(graves.amqp, 2000, queue="again")
    graves.amqp.declare("again", {"x-max-length": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD})
    proxy.set_trap(PUBLISH, count=1000, before=True)
    with running(graves, "replay", "--all", TASKQUEUE_AMQP_URL=proxy.url(vhost)) as process:
        assert proxy.sprung(deadline_s=60), process.poll()
        out, err = process.communicate(timeout=60)
    assert "; going on" in err
    told = [line.split("\t")[0] for line in out.splitlines()[1:]]
    assert 1700 < len(told) == len(set(told)) <= 2000


# -- edit


def editor(stage: Stage, script: str) -> str:
    path = stage.scratch / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_edited_and_replayed(graves: Stage) -> None:
    graves.amqp.submit(
        b"\xffbda", DEAD, message_id="x", content_type="text/plain",
        headers=dead_letters.headers(mine="before", queue="taskqueue", other=True),
    )  # fmt: skip
    graves.amqp.declare("taskqueue")
    command = editor(graves, f'cp "$1" {graves.scratch}/seen; sed -i s/bda/bad/ "$1"; sed -i s/before/after/ "$1"')
    ran = dead(graves, "replay", "x", "--edit", EDITOR=command)
    assert (ran.returncode, ran.stderr) == (0, "")
    seen = (graves.scratch / "seen").read_bytes()
    head, _, body = seen.partition(b"\n\n")
    assert body == b"\xffbda"
    assert json.loads(head) == {
        "queue": "taskqueue", "content_type": "text/plain", "headers": {"mine": "before", "other": True},
    }  # fmt: skip
    message = graves.amqp.take_for("x", "taskqueue")
    assert (message.body, message.headers) == (b"\xffbad", {"mine": "after", "other": True})
    assert depths(graves, DEAD) == [0]


def test_not_changed_in_the_editor_stays(graves: Stage) -> None:
    bury(graves.amqp, "x")
    ran = dead(graves, "replay", "x", "--edit", EDITOR="true")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "taskqueue: x: not changed, and stays dead\n")
    assert depths(graves, DEAD, "worker_t") == [1, 0]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo not json >$1", "the part above the body is not JSON"),
        ("""printf '{"queue": "nowhere"}\\n\\nx' >$1""", "there is no queue nowhere to send it to"),
        ("""printf '{"queue": "worker_t", "hedaers": {}}\\n\\nx' >$1""", "'hedaers' is unknown; expected "),
        ("""printf '{"queue": "worker_t", "headers": 3}\\n\\nx' >$1""", "headers is 3; expected dict"),
        ("""printf '{"queue": "worker_t"}\\nbody' >$1""", "no empty line between"),
    ],
)
def test_what_was_written_badly_is_kept_and_can_be_edited_again(graves: Stage, script: str, said: str) -> None:
    bury(graves.amqp, "x")
    with Terminal(
        graves.command("taskqueue", "dead", "replay", "x", "--edit"), graves.env(EDITOR=editor(graves, script))
    ) as terminal:
        text = terminal.shows(rf"x: .*{re.escape(said)}[^;]*.*what was written is in\s+(\S+)\s[^?]*Edit it again\?")
        kept = Path(text[1])
        assert kept.stat().st_mode & 0o777 == 0o600
        terminal.press("n\r")
        assert terminal.wait() == 0
    kept.unlink()
    assert depths(graves, DEAD, "worker_t") == [1, 0]


@pytest.mark.parametrize(
    ("command", "said"), [("/no/such-editor", "No such file or directory"), ("false", "ended with status 1")]
)
def test_no_editor(graves: Stage, command: str, said: str) -> None:
    bury(graves.amqp, "x")
    ran = dead(graves, "replay", "x", "--edit", EDITOR=command)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"taskqueue: $EDITOR: {command}: {said}\n"
    assert depths(graves, DEAD, "worker_t") == [1, 0]


def test_the_connection_lives_while_the_editor_is_open(graves: Stage) -> None:
    """With a heartbeat of one second: the broker gives up who is silent for three."""
    bury(graves.amqp, "x")
    graves.configure("[amqp]\nheartbeat: 1\n")
    command = editor(graves, f'touch {graves.scratch}/open; sleep 5; echo more >>"$1"')
    ran = dead(graves, "replay", "-c", str(graves.config_file), "x", "--edit", EDITOR=command)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert graves.amqp.take_for("x", "worker_t").text == "bodymore"


# -- interrupted, cut


def where_all_are(stage: Stage, buried: list[str]) -> tuple[list[str], list[str]]:
    """(replayed, still dead): all that were buried, in order."""
    wait_for(lambda: sum(depths(stage, DEAD, "worker_t")) >= len(buried), 20, "all are somewhere")
    found = []
    for queue in ("worker_t", DEAD):
        depth = stage.amqp.depth(queue)
        messages = stage.amqp.consume(queue, 60, lambda taken, depth=depth: len(taken) >= depth) if depth else []
        found.append([each.properties.message_id for each in messages])
    return found[0], found[1]


def test_ctrl_c_in_the_middle_of_a_replay(graves: Stage) -> None:
    buried = bury_many(graves.amqp, 30_000)
    with Terminal(graves.command("taskqueue", "dead", "replay", "--all"), graves.env()) as terminal:
        terminal.shows("replaying")
        wait_for(lambda: terminal.raw and graves.amqp.depth("worker_t") > 1000, 30, "it replays")
        terminal.press(CTRL_C)
        assert terminal.wait(60) == 130
        count = int(terminal.shows(r"(\d+) dead letters were replayed")[1])
        assert terminal.text.rstrip().splitlines()[-1] == "taskqueue: interrupted"
        assert "Traceback" not in terminal.text
    replayed, left = where_all_are(graves, buried)
    assert 1000 < count < 30_000
    assert replayed == buried[:count], "those that it said, once, in order"
    assert sorted(left) == sorted(buried[count:]), "and nothing is lost"


def test_a_progress_bar_on_a_terminal(graves: Stage) -> None:
    bury_many(graves.amqp, 2000)
    with Terminal(graves.command("taskqueue", "dead", "replay", "--all"), graves.env()) as terminal:
        assert terminal.wait() == 0
        assert "2000/2000" in terminal.text
        assert terminal.text.rstrip().splitlines()[-1] == "2000 dead letters were replayed"
    assert depths(graves, DEAD, "worker_t") == [0, 2000]


@pytest.mark.parametrize("method", [PUBLISH, ACK], ids=["publish", "ack"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "behind"])
def test_a_connection_that_is_cut_in_the_middle(
    graves: Stage, proxy: Proxy, vhost: str, method: tuple[int, int], before: bool
) -> None:
    """It goes on by itself. What may have arrived is left; nothing is sent twice, nothing is lost."""
    buried = bury_many(graves.amqp, 6000)
    proxy.set_trap(method, count=2000, before=before)
    with running(graves, "replay", "--all", TASKQUEUE_AMQP_URL=proxy.url(vhost)) as process:
        assert proxy.sprung(deadline_s=60), process.poll()
        out, err = process.communicate(timeout=60)
    assert "taskqueue: broker connection lost: host=127.0.0.1:" in err and "; going on" in err
    said = re.search(r"of (\d+) it is not known", err)
    doubtful = int(said[1]) if said else 0
    assert process.returncode == (1 if doubtful else 0), err
    told = [line.split("\t")[0] for line in out.splitlines()[1:]]
    replayed, left = where_all_are(graves, buried)
    assert len(set(told)) == len(told) == 6000 - doubtful, "it went on"
    assert len(set(replayed)) == len(replayed), "nothing twice"
    assert set(told) <= set(replayed) and {*replayed, *left} == set(buried), "nothing is lost"
    assert set(left) == set(buried) - set(told) and len(left) == doubtful <= 200, "what is in doubt stays"


def test_a_broker_that_does_not_come_back(graves: Stage, proxy: Proxy, vhost: str) -> None:
    buried = bury_many(graves.amqp, 6000)
    proxy.set_trap(PUBLISH, count=2000, before=True)
    with running(graves, "replay", "--all", TASKQUEUE_AMQP_URL=proxy.url(vhost)) as process:
        assert proxy.sprung(deadline_s=60), process.poll()
        proxy.refuse()
        proxy.cut()
        out, err = process.communicate(timeout=90)
    assert process.returncode == 3
    assert re.search(r"^taskqueue: 127\.0\.0\.1:\d+: .* for 30 s$", err.splitlines()[-1]), err
    replayed, left = where_all_are(graves, buried)
    assert {line.split("\t")[0] for line in out.splitlines()[1:]} <= set(replayed)
    assert {*replayed, *left} == set(buried) and len(set(replayed)) == len(replayed)


def test_a_broker_that_takes_no_more(graves: Stage, broker: PrivateBroker) -> None:
    """An alarm in the middle: what it has not answered may still be taken later, and must not be sent again."""
    buried = bury_many(graves.amqp, 8000)  # 40 s of replaying: a busy broker takes long to raise its alarm
    with running(graves, "replay", "--all", "--rate", "200/s") as process:
        wait_for(lambda: graves.amqp.depth("worker_t") > 100, 30, "it replays")
        try:
            broker.ctl("set_vm_memory_high_watermark", "0.0000001")
            out, err = process.communicate(timeout=120)
        finally:
            broker.ctl("set_vm_memory_high_watermark", "0.6")
    assert process.returncode == 3
    assert "it takes no messages (memory or disk alarm)" in err and "; going on" not in err
    said = re.search(r"of (\d+) it is not known", err)
    assert said is not None
    told = [line.split("\t")[0] for line in out.splitlines()[1:]]
    replayed, left = where_all_are(graves, buried)
    assert sorted(left) == sorted(set(buried) - set(told)), "what was not confirmed stays"
    assert len(set(replayed)) == len(replayed) and set(told) <= set(replayed)
    assert len(set(replayed) - set(told)) <= int(said[1])


def test_flat_memory(graves: Stage) -> None:
    def peak(count: int) -> int:
        bury_many(graves.amqp, count)
        command = [str(part) for part in graves.command("taskqueue", "dead", "replay", "--type", "t")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=graves.env())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_maxrss

    few, many = peak(15_000), peak(45_000)
    assert depths(graves, "worker_t", DEAD) == [60_000, 0]
    assert many - few < 8 * 1024, f"{few} and {many} KiB"


# -- drop


def test_drop_asks(graves: Stage) -> None:
    bury_many(graves.amqp, 5)
    bury(graves.amqp, "other", queue="worker_u")
    question = r"Drop 5 dead letters for good\? \[y/N\]"
    for keys, status, left in (("n\r", 1, 6), (CTRL_C, 130, 6), ("y\r", 0, 1)):
        with Terminal(graves.command("taskqueue", "dead", "drop", "--type", "t"), graves.env()) as terminal:
            terminal.shows(question)
            terminal.press(keys)
            assert terminal.wait() == status, terminal.text
        assert graves.amqp.depth(DEAD) == left
    assert "5 dead letters were dropped" in terminal.text
    ran = dead(graves, "drop", "--all")
    assert (ran.returncode, ran.stdout) == (1, ""), "nobody said yes"
    assert ids(graves) == ["other"]


def test_drop_no_more_than_was_asked_about(graves: Stage) -> None:
    bury_many(graves.amqp, 5)
    with Terminal(graves.command("taskqueue", "dead", "drop", "--all"), graves.env()) as terminal:
        terminal.shows(r"Drop 5 dead letters")
        bury(graves.amqp, "meanwhile")
        terminal.press("y\r")
        assert terminal.wait() == 0
    assert ids(graves) == ["meanwhile"]


def test_drop_in_a_pipe(graves: Stage) -> None:
    bury_many(graves.amqp, 3)
    bury(graves.amqp, "x", reason="crashed")
    ran = dead(graves, "drop", "--reason", "failed", "--dry-run", "--json")
    assert [json.loads(line)["id"] for line in ran.stdout.splitlines()] == ["d0", "d1", "d2"]
    assert graves.amqp.depth(DEAD) == 4
    ran = dead(graves, "drop", "d1", "gone", "--yes")
    assert (ran.returncode, ran.stdout) == (1, "ID\tTYPE\tREASON\nd1\tt\tfailed\n")
    assert ran.stderr == "taskqueue: no such dead letter: gone\n"
    ran = dead(graves, "drop", "--all", "--yes", "--json")
    assert [json.loads(line)["id"] for line in ran.stdout.splitlines()] == ["d0", "d2", "x"]
    assert graves.amqp.depth(DEAD) == 0


def test_ctrl_c_in_the_middle_of_a_drop(graves: Stage) -> None:
    buried = bury_many(graves.amqp, 30_000)
    with running(graves, "drop", "--all", "--yes") as process:
        assert process.stdout is not None and process.stderr is not None
        for _ in range(1000):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        count = 999 + len(process.stdout.readlines())
        err = process.stderr.read()
        assert process.wait(60) == 130, err
    said = [line for line in err.splitlines() if line]
    assert said == [f"taskqueue: {count} dead letters were dropped", "taskqueue: interrupted"]
    _, left = where_all_are(graves, buried[count:])
    assert sorted(left) == sorted(buried[count:])


# -- what goes wrong

COMMANDS = [("list",), ("show", "--all"), ("replay", "--all"), ("drop", "--all", "--yes")]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("amqp://127.0.0.1:{closed}", "connection refused"),
        ("amqp://guest:s3cret@127.0.0.1:{port}", "the broker refuses the user or password"),
        ("amqp://guest:guest@127.0.0.1:{port}/no-such", "the broker refuses access to the virtual host"),
    ],
)
def test_a_broker_that_cannot_be_used_exits_3(
    shared_stage: Stage, broker: PrivateBroker, proxy: Proxy, url: str, said: str, arguments: tuple[str, ...]
) -> None:
    proxy.refuse()
    ran = dead(shared_stage, *arguments, TASKQUEUE_AMQP_URL=url.format(closed=proxy.port, port=broker.port))
    assert (ran.returncode, ran.stdout) == (3, "")
    (line,) = ran.stderr.splitlines()
    assert said in line and "s3cret" not in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "--reason", "bad"), "'bad' is not one of 'malformed', "),
        (("list", "--type", "a b"), "'a b' is not a worker type"),
        (("list", "--older-than", "x"), "expected a duration"),
        (("list", "--summary", "--limit", "3"), "--summary and --limit cannot be combined"),
        (("show",), "nothing chosen; expected an ID, --type,"),
        (("replay",), "nothing chosen; expected an ID, --type,"),
        (("drop", "--yes"), "nothing chosen; expected an ID, --type,"),
        (("drop", "--all", "--type", "t"), "--all and what chooses some cannot be combined"),
        (("replay", "--all", "--rate", "0"), "'0' is not a rate; expected such as 100/s"),
        (("replay", "--all", "--edit", "--dry-run"), "--edit and --dry-run cannot be combined"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exits_2(
    shared_stage: Stage, arguments: tuple[str, ...], said: str
) -> None:
    ran = dead(shared_stage, *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"taskqueue dead {arguments[0]}: ") and said in line
